//! Hidden layers forward and backward, without automatic differentiation: matrix products by libtorch, everything else by kernels.

use kernels::{
    layer::{
        BatchNormBackward, BatchNormForward, CutBackward, CutForward, Dropout, LayerNormBackward, LayerNormForward,
    },
    log1p::Log1p,
    penalty::LayerActivations,
};
use schemas::numbers::bounded;
use simd::widest;
use stage::workers::Workers;
use tch::{Device, Kind, Tensor};
use torch::memory::{TensorNumber, numbers, numbers_mut};

use super::pieces::{SparseCells, product};
use crate::{
    gradients::Gradients,
    layers::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, BatchNorm, HiddenLayers, LAYER_NORM_EPSILON, Linear},
};

/// The input of hidden layers.
pub(super) enum HiddenInput {
    /// Sparse rows of expression, with their values as read by the encoder, and the number of genes.
    Sparse(SparseCells, i64),
    /// Dense activations, `[cells, inputs]`.
    Dense(Tensor),
}

/// Dropout seeds of one step, one per layer.
pub(super) struct DropoutSeeds(u32);

impl DropoutSeeds {
    /// Seeds drawn from libtorch's generator.
    pub(super) fn drawn() -> Self {
        let drawn = Tensor::randint(1 << 32, [1], (Kind::Int64, Device::Cpu)).int64_value(&[0]);
        Self(bounded(drawn))
    }

    fn next(&mut self, share: f64) -> Dropout {
        self.0 = self.0.wrapping_mul(0x9e37_79b9).wrapping_add(1);
        if share > 0.0 { Dropout::new(share, self.0) } else { Dropout::none() }
    }
}

/// A forward pass through hidden layers, with everything the backward pass needs.
pub(super) struct FusedForwardPass<'a> {
    pub(super) workers: &'a Workers,
    entry: HiddenInput,
    pub(super) layers: &'a HiddenLayers,
    pub(super) steps: Vec<LayerPass>,
}

/// One layer of a pass.
pub(super) struct LayerPass {
    /// The output of the linear layer, `[cells, width]`; before a batch norm, without the bias.
    pub(super) linear: Tensor,
    /// The activations.
    pub(super) output: Tensor,
    /// Mean and inverse standard deviation: per feature with batch norm, per cell with layer norm; empty without
    /// a norm.
    pub(super) statistics: Vec<Tensor>,
    pub(super) dropout: Dropout,
}

impl LayerPass {
    /// Input and statistics of a norm; `None` without a norm.
    pub(super) fn passed<T: TensorNumber>(&self) -> Option<LayerActivations<'_, T>> {
        let [mean, inverse] = &self.statistics[..] else { return None };
        Some(LayerActivations {
            input: numbers(&self.linear),
            output: numbers(&self.output),
            mean: numbers(mean),
            inverse: numbers(inverse),
            dropout: self.dropout,
        })
    }
}

impl<'a> FusedForwardPass<'a> {
    /// Whether these layers are supported: at most one norm each.
    pub(super) fn supports(layers: &HiddenLayers) -> bool {
        !layers.layers.is_empty() && layers.layers.iter().all(|(_, norm)| norm.is_none() || !layers.layer_norm)
    }

    /// A forward pass in training mode: batch norm uses the batch, and its running statistics are updated.
    pub(super) fn forward<T: TensorNumber>(
        workers: &'a Workers,
        layers: &'a HiddenLayers,
        entry: HiddenInput,
        seeds: &mut DropoutSeeds,
    ) -> Self {
        let _no_grad = tch::no_grad_guard();
        let mut pass = Self { workers, entry, layers, steps: Vec::with_capacity(layers.layers.len()) };
        for (linear, norm) in &layers.layers {
            let raw = match (pass.steps.last(), &pass.entry) {
                (Some(step), _) => product(workers, &step.output, &linear.weight.tr()),
                (None, HiddenInput::Dense(x)) => product(workers, x, &linear.weight.tr()),
                // No copy if the weight is stored by input.
                (None, HiddenInput::Sparse(cells, _)) => cells.times::<T>(workers, &linear.weight.tr().contiguous()),
            };
            let dropout = seeds.next(layers.dropout);
            pass.steps.push(match norm {
                Some(norm) => batch_norm::<T>(norm, &linear.bias, raw, dropout),
                None if layers.layer_norm => layer_norm::<T>(&linear.bias, raw, dropout),
                None => cut::<T>(&linear.bias, raw, dropout),
            });
        }
        pass
    }

    /// The last layer's activations, `[cells, width]`.
    pub(super) fn output(&self) -> &Tensor {
        &self.steps[self.steps.len() - 1].output
    }

    /// Turns the gradient with respect to the output into those with respect to the parameters; returns the one
    /// with respect to the input, if that is dense.
    pub(super) fn backward<T: TensorNumber>(&self, gradient: Tensor, found: &mut Gradients) -> Option<Tensor> {
        self.backward_with::<T>(gradient, &[], found)
    }

    /// The same, with a term added to the gradient with respect to each linear layer's output.
    pub(super) fn backward_with<T: TensorNumber>(
        &self,
        gradient: Tensor,
        onto: &[Option<Tensor>],
        found: &mut Gradients,
    ) -> Option<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let mut gradient = gradient.contiguous();
        for at in (0..self.steps.len()).rev() {
            let ((linear, norm), step) = (&self.layers.layers[at], &self.steps[at]);
            match norm {
                Some(norm) => batch_norm_back::<T>(norm, step, &mut gradient, found),
                None => self.cut_back::<T>(step, &mut gradient),
            }
            if let Some(Some(more)) = onto.get(at) {
                gradient += more;
            }
            let input = match (at.checked_sub(1), &self.entry) {
                (Some(before), _) => &self.steps[before].output,
                (None, HiddenInput::Dense(x)) => x,
                (None, HiddenInput::Sparse(cells, genes)) => {
                    found.add(&linear.weight, || cells.transposed_times::<T>(self.workers, *genes, &gradient).tr());
                    found.add(&linear.bias, || column_sums(&gradient));
                    return None;
                }
            };
            gradient = linear_back(self.workers, linear, (input, &gradient), found);
        }
        Some(gradient)
    }

    fn cut_back<T: TensorNumber>(&self, step: &LayerPass, gradient: &mut Tensor) {
        let (output, dropout) = (numbers::<T>(&step.output), step.dropout);
        let gradient = numbers_mut::<T>(gradient);
        match &step.statistics[..] {
            [mean, inverse] => widest(LayerNormBackward {
                input: numbers::<T>(&step.linear),
                output,
                width: bounded(self.layers.width),
                mean: numbers(mean),
                inverse: numbers(inverse),
                dropout,
                gradient,
            }),
            _ => widest(CutBackward { output, dropout, gradient }),
        }
    }
}

/// Records the gradients of a linear layer, and returns that of its input.
pub(super) fn linear_back(
    workers: &Workers,
    linear: &Linear,
    (input, gradient): (&Tensor, &Tensor),
    found: &mut Gradients,
) -> Tensor {
    found.add(&linear.weight, || product(workers, &gradient.tr(), input));
    found.add(&linear.bias, || column_sums(gradient));
    product(workers, gradient, &linear.weight)
}

fn column_sums(x: &Tensor) -> Tensor {
    x.sum_dim_intlist([0_i64].as_slice(), false, x.kind())
}

/// Values as read by the encoder.
pub(super) fn log1p<T: TensorNumber>(values: &Tensor) -> Tensor {
    let mut out = values.empty_like();
    widest(Log1p { numbers: numbers::<T>(values), out: numbers_mut(&mut out) });
    out
}

fn batch_norm<T: TensorNumber>(norm: &BatchNorm, bias: &Tensor, linear: Tensor, dropout: Dropout) -> LayerPass {
    let mut output = linear.empty_like();
    let [mut mean, mut variance, mut inverse] = std::array::from_fn(|_| norm.running_mean.empty_like());
    widest(BatchNormForward {
        input: numbers::<T>(&linear),
        weight: numbers(&norm.weight),
        bias: numbers(&norm.bias),
        epsilon: BATCH_NORM_EPSILON,
        dropout,
        output: numbers_mut(&mut output),
        statistics: [numbers_mut(&mut mean), numbers_mut(&mut variance), numbers_mut(&mut inverse)],
    });
    #[expect(clippy::cast_precision_loss, reason = "no batch has 2^52 cells")]
    let cells = linear.size()[0] as f64;
    let _ = norm.running_mean.shallow_clone().lerp_(&(&mean + bias), BATCH_NORM_MOMENTUM);
    let unbiased = variance * (cells / (cells - 1.0));
    let _ = norm.running_var.shallow_clone().lerp_(&unbiased, BATCH_NORM_MOMENTUM);
    LayerPass { linear, output, statistics: vec![mean, inverse], dropout }
}

fn batch_norm_back<T: TensorNumber>(norm: &BatchNorm, step: &LayerPass, gradient: &mut Tensor, found: &mut Gradients) {
    let [mut of_weight, mut of_bias] = std::array::from_fn(|_| norm.running_mean.empty_like());
    widest(BatchNormBackward {
        input: numbers::<T>(&step.linear),
        output: numbers(&step.output),
        weight: numbers(&norm.weight),
        mean: numbers(&step.statistics[0]),
        inverse: numbers(&step.statistics[1]),
        dropout: step.dropout,
        gradient: numbers_mut(gradient),
        of_weight: numbers_mut(&mut of_weight),
        of_bias: numbers_mut(&mut of_bias),
    });
    found.add(&norm.weight, || of_weight);
    found.add(&norm.bias, || of_bias);
}

fn layer_norm<T: TensorNumber>(bias: &Tensor, mut linear: Tensor, dropout: Dropout) -> LayerPass {
    let mut output = linear.empty_like();
    let [mut mean, mut inverse] = std::array::from_fn(|_| Tensor::empty([linear.size()[0]], (T::KIND, Device::Cpu)));
    widest(LayerNormForward {
        input: numbers_mut::<T>(&mut linear),
        bias: numbers(bias),
        epsilon: LAYER_NORM_EPSILON,
        dropout,
        output: numbers_mut(&mut output),
        statistics: [numbers_mut(&mut mean), numbers_mut(&mut inverse)],
    });
    LayerPass { linear, output, statistics: vec![mean, inverse], dropout }
}

fn cut<T: TensorNumber>(bias: &Tensor, mut output: Tensor, dropout: Dropout) -> LayerPass {
    widest(CutForward { activations: numbers_mut::<T>(&mut output), bias: numbers(bias), dropout });
    LayerPass { linear: output.shallow_clone(), output, statistics: Vec::new(), dropout }
}
