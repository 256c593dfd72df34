//! Hidden layers forward and backward: matrix products by libtorch, everything else by custom kernels.

use device_kernels::layer::{
    BatchNormParameters, DeviceDropout, LayerForward, PenaltyTerms, batch_norm, batch_norm_back, column_sums, cut,
    cut_back, layer_norm,
};
use tch::Tensor;

use super::product::Product;
use crate::{
    gradients::Gradients,
    layers::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, BatchNorm as LearnedNorm, HiddenLayers, LAYER_NORM_EPSILON},
};

/// Dropout seeds of one step, one per layer, all derived from one seed on the device.
#[derive(Debug)]
pub(super) struct DeviceDropoutSeeds<'a> {
    /// The seed of the step, a scalar, int64.
    of_step: &'a Tensor,
    layers: u32,
}

/// The passes of a step with separate dropout.
#[derive(Clone, Copy, Debug)]
pub(super) enum DropoutPass {
    Autoencoder,
    /// The adversaries, in the autoencoder's update.
    Opponents,
    /// The adversaries, in their own update.
    Adversaries,
}

impl<'a> DeviceDropoutSeeds<'a> {
    pub(super) fn new(of_step: &'a Tensor, drawer: DropoutPass) -> Self {
        // No network has this many layers.
        Self { of_step, layers: (drawer as u32) << 16 }
    }

    fn next(&mut self, share: f64) -> DeviceDropout {
        self.layers += 1;
        // Odd, so that different seeds remain different.
        DeviceDropout::new(share, self.of_step, [0x9e37_79b9, self.layers.wrapping_mul(0x85eb_ca6b)])
    }
}

/// A forward pass through hidden layers, with everything the backward pass needs.
#[derive(Debug)]
pub(super) struct LaunchedForwardPass<'a> {
    input: Tensor,
    pub(super) layers: &'a HiddenLayers,
    pub(super) steps: Vec<LayerForward>,
    products: Vec<Product>,
}

impl LearnedNorm {
    fn arguments(&self) -> BatchNormParameters<'_> {
        BatchNormParameters {
            weight: &self.weight,
            bias: &self.bias,
            running_mean: &self.running_mean,
            running_variance: &self.running_var,
            epsilon: BATCH_NORM_EPSILON,
            momentum: BATCH_NORM_MOMENTUM,
        }
    }
}

impl<'a> LaunchedForwardPass<'a> {
    /// A forward pass of `[cells, inputs]` in training mode: batch norm uses the batch, and its running statistics are updated.
    pub(super) fn forward(layers: &'a HiddenLayers, input: &Tensor, seeds: &mut DeviceDropoutSeeds<'_>) -> Self {
        let (steps, products) = (Vec::with_capacity(layers.layers.len()), Vec::with_capacity(layers.layers.len()));
        let mut pass = Self { input: input.shallow_clone(), layers, steps, products };
        for (linear, norm) in &layers.layers {
            let (product, out) = Product::forward(linear, pass.output());
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

    /// The last layer's activations, `[cells, width]`; without layers, the input.
    pub(super) fn output(&self) -> &Tensor {
        self.steps.last().map_or(&self.input, |step| &step.output)
    }

    /// Turns the gradient with respect to the output into those with respect to the parameters, adding a
    /// penalty's terms at each layer. Returns the one with respect to the input if it is `needs_input_gradient`.
    pub(super) fn backward(
        &self,
        mut gradient: Tensor,
        left: &[Option<PenaltyTerms>],
        needs_input_gradient: bool,
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
            if at == 0 && !needs_input_gradient {
                self.products[at].by_weight(linear, &gradient, found);
                return None;
            }
            gradient = self.products[at].back(linear, &gradient, found);
        }
        Some(gradient)
    }
}
