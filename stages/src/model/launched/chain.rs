//! Hidden layers forward and backward: products by libtorch, all else by kernels of our own.

use tch::Tensor;

use super::product::Product;
use crate::{
    device_kernels::{
        layer::{BatchNorm, Dropout, Passed, batch_norm, batch_norm_back, column_sums, cut, cut_back, layer_norm},
        penalty::Left,
    },
    model::{
        gradients::Gradients,
        layers::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, BatchNorm as LearnedNorm, HiddenLayers, LAYER_NORM_EPSILON},
    },
};

/// Seeds of the dropout of one step, a layer after the other, all made from one seed that is on the device.
#[derive(Debug)]
pub(super) struct Seeds<'a> {
    /// A scalar, int64.
    of_step: &'a Tensor,
    layers: u32,
}

/// Passes of a step that drop activations each on its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Drawer {
    Autoencoder,
    /// The adversaries, as the autoencoder learns against them.
    Opponents,
    /// The adversaries, as they learn.
    Adversaries,
}

impl<'a> Seeds<'a> {
    pub(super) fn new(of_step: &'a Tensor, drawer: Drawer) -> Self {
        // No network has so many layers.
        Self { of_step, layers: (drawer as u32) << 16 }
    }

    fn next(&mut self, share: f64) -> Dropout {
        self.layers += 1;
        // Odd, so that seeds that differ still do.
        Dropout::new(share, self.of_step, [0x9e37_79b9, self.layers.wrapping_mul(0x85eb_ca6b)])
    }
}

/// A pass through hidden layers, with what the way back needs.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    input: Tensor,
    pub(super) layers: &'a HiddenLayers,
    pub(super) steps: Vec<Passed>,
    products: Vec<Product>,
}

impl LearnedNorm {
    fn arguments(&self) -> BatchNorm<'_> {
        BatchNorm {
            weight: &self.weight,
            bias: &self.bias,
            running_mean: &self.running_mean,
            running_variance: &self.running_var,
            epsilon: BATCH_NORM_EPSILON,
            momentum: BATCH_NORM_MOMENTUM,
        }
    }
}

impl<'a> Pass<'a> {
    /// Passes `[cells, inputs]` in training mode: batch norm looks at the batch, and its running statistics move.
    pub(super) fn forward(layers: &'a HiddenLayers, input: &Tensor, seeds: &mut Seeds<'_>) -> Self {
        let (steps, products) = (Vec::with_capacity(layers.layers.len()), Vec::with_capacity(layers.layers.len()));
        let mut pass = Self { input: input.shallow_clone(), layers, steps, products };
        for (linear, norm) in &layers.layers {
            let (product, out) = Product::of(linear, pass.output());
            pass.products.push(product);
            let dropout = seeds.next(layers.dropout);
            pass.steps.push(match norm {
                Some(norm) => batch_norm(out, &linear.bias, norm.arguments(), dropout),
                None if layers.layer_norm => layer_norm(out, &linear.bias, LAYER_NORM_EPSILON, dropout),
                None => cut(out, &linear.bias, dropout),
            });
        }
        pass
    }

    /// The last layer's activations, `[cells, width]`; before any layer, the input.
    pub(super) fn output(&self) -> &Tensor {
        self.steps.last().map_or(&self.input, |step| &step.output)
    }

    /// From the gradient by the output to those by the parameters, adding what a penalty left at each layer. Returns the gradient by the
    /// input where it is `wanted`.
    pub(super) fn backward(
        &self,
        mut gradient: Tensor,
        left: &[Option<Left>],
        wanted: bool,
        found: &mut Gradients,
    ) -> Option<Tensor> {
        for (at, ((linear, norm), step)) in self.layers.layers.iter().zip(&self.steps).enumerate().rev() {
            let left = left.get(at).and_then(Option::as_ref);
            match norm {
                Some(norm) => {
                    let by = batch_norm_back(step, &norm.weight, left, &gradient);
                    found.add(&norm.weight, || by.weight);
                    found.add(&norm.bias, || by.bias);
                    found.add(&linear.bias, || by.linear_bias);
                }
                None => {
                    cut_back(step, left, &gradient);
                    found.add(&linear.bias, || column_sums(&gradient));
                }
            }
            if at == 0 && !wanted {
                self.products[at].by_weight(linear, &gradient, found);
                return None;
            }
            gradient = self.products[at].back(linear, &gradient, found);
        }
        Some(gradient)
    }
}
