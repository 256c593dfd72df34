//! Matrix products with the weights of linear layers, in training precision.

use device_kernels::layer::column_sums;
use schemas::config::MatrixPrecision;
use tch::{Kind, Tensor};

use crate::{gradients::Gradients, layers::Linear};

/// A product `x Wᵀ`, with everything the backward pass needs.
#[derive(Debug)]
pub(super) struct Product {
    /// The operand `x` as it was multiplied.
    x: Tensor,
    weight: Tensor,
}

/// An operand in training precision.
fn rounded(linear: &Linear, side: &Tensor) -> Tensor {
    match linear.precision() {
        MatrixPrecision::Bf16 => side.to_kind(Kind::BFloat16),
        // The choice was passed to libtorch beforehand.
        MatrixPrecision::Float32 | MatrixPrecision::Tf32 => side.shallow_clone(),
    }
}

impl Product {
    /// The product of `[cells, inputs]` with a layer's weight, `[cells, outputs]`; the bias is not added.
    pub(super) fn forward(linear: &Linear, x: &Tensor) -> (Self, Tensor) {
        let weight = linear.rounded().map_or_else(|| rounded(linear, &linear.weight), Tensor::shallow_clone);
        let product = Self { x: rounded(linear, x), weight };
        let out = product.x.matmul(&product.weight.tr()).to_kind(linear.weight.kind());
        (product, out)
    }

    /// Records the gradient with respect to the weight, given the one with respect to the product,
    /// `[cells, outputs]`.
    pub(super) fn by_weight(&self, linear: &Linear, gradient: &Tensor, found: &mut Gradients) {
        found.add_product(&linear.weight, &rounded(linear, gradient), &self.x);
    }

    /// The same, and returns the gradient with respect to `x`, `[cells, inputs]`.
    pub(super) fn back(&self, linear: &Linear, gradient: &Tensor, found: &mut Gradients) -> Tensor {
        let kind = gradient.kind();
        let gradient = rounded(linear, gradient);
        found.add_product(&linear.weight, &gradient, &self.x);
        gradient.matmul(&self.weight).to_kind(kind)
    }
}

/// A linear layer without a norm, ReLU or dropout: `x Wᵀ + b`, with everything the backward pass needs.
#[derive(Debug)]
pub(super) struct OutputLayer<'a> {
    linear: &'a Linear,
    product: Product,
}

impl<'a> OutputLayer<'a> {
    /// `x Wᵀ`, plus the bias if it `adds` it.
    pub(super) fn forward(linear: &'a Linear, x: &Tensor, adds: bool) -> (Self, Tensor) {
        if adds && linear.precision() != MatrixPrecision::Bf16 {
            let product = Product { x: x.shallow_clone(), weight: linear.weight.shallow_clone() };
            return (Self { linear, product }, linear.bias.addmm(x, &linear.weight.tr()));
        }
        let (product, out) = Product::forward(linear, x);
        (Self { linear, product }, if adds { out + &linear.bias } else { out })
    }

    /// Records the gradients with respect to weight and bias, and returns the one with respect to `x`.
    pub(super) fn backward(&self, gradient: &Tensor, found: &mut Gradients) -> Tensor {
        found.add(&self.linear.bias, || column_sums(gradient));
        self.product.back(self.linear, gradient, found)
    }
}
