//! The rest of a hidden layer after its linear part: a norm, ReLU and dropout of activations `[cells, width]` (`cuda/layer.cuh`).

use kernels::layer::Dropout as OfProcessor;
use tch::Tensor;
use torch::launch::{Address, Argument, arguments};

use super::{empty, run_numbers, run_rows, run_strips, shape};

/// Dropout of one layer, with its seed on the device, so that a replayed step drops different activations each time.
#[derive(Debug)]
pub struct DeviceDropout {
    /// The seed of the step, a scalar, int64; `None` without dropout.
    seed: Option<Tensor>,
    /// Factor and offset: the layer's seed is `line[0] · seed + line[1]`, modulo 2³².
    line: [u32; 2],
    /// Threshold and scale.
    of: OfProcessor,
}

impl DeviceDropout {
    /// Drops this share of the activations, with the layer seed `line[0] · seed + line[1]`.
    pub fn new(share: f64, seed: &Tensor, line: [u32; 2]) -> Self {
        Self { seed: (share > 0.0).then(|| seed.shallow_clone()), line, of: OfProcessor::new(share, 0) }
    }

    pub(super) fn arguments(&self) -> DropoutArguments<'_> {
        DropoutArguments {
            seed: Address::from_optional(self.seed.as_ref()),
            multiplier: i64::from(self.line[0]),
            increment: i64::from(self.line[1]),
            threshold: i64::from(self.of.threshold()),
            scale: self.of.scale(),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct DropoutArguments<'a> {
    seed: Address<'a>,
    multiplier: i64,
    increment: i64,
    threshold: i64,
    scale: f64,
}

impl Argument for DropoutArguments<'_> {}

/// The results of a layer's forward pass.
#[derive(Debug)]
pub struct LayerForward {
    /// The output of the linear part, `[cells, width]`; before a batch norm, without the bias.
    pub linear: Tensor,
    /// The activations, `[cells, width]`.
    pub output: Tensor,
    /// Mean and inverse standard deviation: per feature for batch norm, per cell for layer norm; otherwise
    /// `None`.
    pub statistics: Option<[Tensor; 2]>,
    /// The dropout that was applied.
    pub dropout: DeviceDropout,
}

impl LayerForward {
    pub(super) fn arguments(&self) -> LayerForwardArguments<'_> {
        let [cells, width] = shape(&self.output);
        let [mean, inverse] = match &self.statistics {
            Some(statistics) => statistics.each_ref().map(Address::from_tensor),
            None => [Address::none(); 2],
        };
        LayerForwardArguments {
            input: Address::from_tensor(&self.linear),
            output: Address::from_tensor(&self.output),
            mean,
            inverse,
            cells,
            width,
            dropout: self.dropout.arguments(),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerForwardArguments<'a> {
    input: Address<'a>,
    output: Address<'a>,
    mean: Address<'a>,
    inverse: Address<'a>,
    cells: i64,
    width: i64,
    dropout: DropoutArguments<'a>,
}

impl Argument for LayerForwardArguments<'_> {}

/// A batch norm's parameters and running statistics, `[width]` each.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormParameters<'a> {
    /// Factors of the normalised values, `[width]`.
    pub weight: &'a Tensor,
    /// Added before the ReLU, `[width]`.
    pub bias: &'a Tensor,
    /// The running means of the features, updated with `momentum`.
    pub running_mean: &'a Tensor,
    /// The running variances of the features, updated likewise.
    pub running_variance: &'a Tensor,
    /// Added to a variance before taking its root.
    pub epsilon: f64,
    /// Weight of the newest batch in the running statistics.
    pub momentum: f64,
}

arguments! {
    BatchNormForwardArguments<'a>, "batch_norm_forward" {
        input: Address<'a>,
        weight: Address<'a>,
        bias: Address<'a>,
        linear_bias: Address<'a>,
        running_mean: Address<'a>,
        running_variance: Address<'a>,
        output: Address<'a>,
        mean: Address<'a>,
        inverse: Address<'a>,
        cells: i64,
        width: i64,
        epsilon: f64,
        momentum: f64,
        dropout: DropoutArguments<'a>,
    }
}

/// Batch norm, ReLU and dropout of `linear`, without the linear layer's bias, which only affects the running mean.
pub fn batch_norm(
    linear: Tensor,
    linear_bias: &Tensor,
    norm: BatchNormParameters<'_>,
    dropout: DeviceDropout,
) -> LayerForward {
    let [cells, width] = shape(&linear);
    let output = empty(&linear, &[cells, width]);
    let [mean, inverse] = [(); 2].map(|()| empty(&linear, &[width]));
    let arguments = BatchNormForwardArguments {
        input: Address::from_tensor(&linear),
        weight: Address::from_tensor(norm.weight),
        bias: Address::from_tensor(norm.bias),
        linear_bias: Address::from_tensor(linear_bias),
        running_mean: Address::from_tensor_mut(norm.running_mean),
        running_variance: Address::from_tensor_mut(norm.running_variance),
        output: Address::from_tensor_mut(&output),
        mean: Address::from_tensor_mut(&mean),
        inverse: Address::from_tensor_mut(&inverse),
        cells,
        width,
        epsilon: norm.epsilon,
        momentum: norm.momentum,
        dropout: dropout.arguments(),
    };
    run_strips(&arguments, &linear, width);
    LayerForward { linear, output, statistics: Some([mean, inverse]), dropout }
}

arguments! {
    BatchNormBackwardArguments<'a>, "batch_norm_backward" {
        passed: LayerForwardArguments<'a>,
        weight: Address<'a>,
        onto: Address<'a>,
        onto_weight: Address<'a>,
        gradient: Address<'a>,
        of_weight: Address<'a>,
        of_bias: Address<'a>,
        of_linear_bias: Address<'a>,
    }
}

/// Gradients with respect to the batch norm's parameters, and to the bias of the linear layer before it,
/// `[width]` each.
#[derive(Debug)]
pub struct BatchNormGradients {
    /// With respect to the factors of the normalised values.
    pub weight: Tensor,
    /// With respect to the norm's bias.
    pub bias: Tensor,
    /// With respect to the bias of the linear layer.
    pub linear_bias: Tensor,
}

/// Terms that the upward pass adds to the ordinary backward pass of a norm.
#[derive(Debug)]
pub struct PenaltyTerms {
    /// The term added to the gradient with respect to the norm's input, `[cells, width]`.
    pub onto: Tensor,
    /// The gradient with respect to the weight of batch norm, `[width]`.
    pub by_weight: Option<Tensor>,
}

/// The backward pass of [`batch_norm`]: `gradient`, with respect to the output, is overwritten by the one
/// with respect to `linear`. A penalty's terms are added to the latter and to the gradient with respect to
/// the weight.
pub fn batch_norm_back(
    passed: &LayerForward,
    weight: &Tensor,
    left: Option<&PenaltyTerms>,
    gradient: &Tensor,
) -> BatchNormGradients {
    let width = shape(gradient)[1];
    let found = [(); 3].map(|()| empty(gradient, &[width]));
    let [of_weight, of_bias, of_linear_bias] = found.each_ref().map(Address::from_tensor_mut);
    let arguments = BatchNormBackwardArguments {
        passed: passed.arguments(),
        weight: Address::from_tensor(weight),
        onto: Address::from_optional(left.map(|left| &left.onto)),
        onto_weight: Address::from_optional(left.and_then(|left| left.by_weight.as_ref())),
        gradient: Address::from_tensor_mut(gradient),
        of_weight,
        of_bias,
        of_linear_bias,
    };
    run_strips(&arguments, gradient, width);
    let [weight, bias, linear_bias] = found;
    BatchNormGradients { weight, bias, linear_bias }
}

arguments! {
    LayerNormForwardArguments<'a>, "layer_norm_forward" {
        input: Address<'a>,
        linear_bias: Address<'a>,
        output: Address<'a>,
        mean: Address<'a>,
        inverse: Address<'a>,
        cells: i64,
        width: i64,
        epsilon: f64,
        dropout: DropoutArguments<'a>,
    }
}

/// Adds the linear layer's bias in place, then applies layer norm without weights, ReLU and dropout.
pub fn layer_norm(linear: Tensor, linear_bias: &Tensor, epsilon: f64, dropout: DeviceDropout) -> LayerForward {
    let [cells, width] = shape(&linear);
    let output = empty(&linear, &[cells, width]);
    let [mean, inverse] = [(); 2].map(|()| empty(&linear, &[cells]));
    let arguments = LayerNormForwardArguments {
        input: Address::from_tensor_mut(&linear),
        linear_bias: Address::from_tensor(linear_bias),
        output: Address::from_tensor_mut(&output),
        mean: Address::from_tensor_mut(&mean),
        inverse: Address::from_tensor_mut(&inverse),
        cells,
        width,
        epsilon,
        dropout: dropout.arguments(),
    };
    run_rows(&arguments, &linear, cells);
    LayerForward { linear, output, statistics: Some([mean, inverse]), dropout }
}

arguments! {
    LayerNormBackwardArguments<'a>, "layer_norm_backward" {
        passed: LayerForwardArguments<'a>,
        onto: Address<'a>,
        gradient: Address<'a>,
    }
}

arguments! {
    CutForwardArguments<'a>, "cut_forward" {
        activations: Address<'a>,
        linear_bias: Address<'a>,
        cells: i64,
        width: i64,
        dropout: DropoutArguments<'a>,
    }
}

/// Adds the linear layer's bias, then applies ReLU and dropout, all in place.
pub fn cut(linear: Tensor, linear_bias: &Tensor, dropout: DeviceDropout) -> LayerForward {
    let [cells, width] = shape(&linear);
    let arguments = CutForwardArguments {
        activations: Address::from_tensor_mut(&linear),
        linear_bias: Address::from_tensor(linear_bias),
        cells,
        width,
        dropout: dropout.arguments(),
    };
    run_rows(&arguments, &linear, cells);
    LayerForward { output: linear.shallow_clone(), linear, statistics: None, dropout }
}

arguments! {
    CutBackwardArguments<'a>, "cut_backward" {
        passed: LayerForwardArguments<'a>,
        onto: Address<'a>,
        gradient: Address<'a>,
    }
}

/// The backward pass of [`layer_norm`] or [`cut`]: `gradient`, with respect to the output, is overwritten by
/// the one with respect to `linear`, plus a penalty's term.
pub fn cut_back(layer: &LayerForward, left: Option<&PenaltyTerms>, gradient: &Tensor) {
    let [cells, width] = shape(gradient);
    let (passed, onto) = (layer.arguments(), Address::from_optional(left.map(|left| &left.onto)));
    let into = Address::from_tensor_mut(gradient);
    match layer.statistics {
        Some(_) => run_rows(&LayerNormBackwardArguments { passed, onto, gradient: into }, gradient, cells),
        None => run_numbers(&CutBackwardArguments { passed, onto, gradient: into }, gradient, cells * width),
    }
}

arguments! {
    ColumnSumsArguments<'a>, "column_sums" {
        input: Address<'a>,
        sums: Address<'a>,
        cells: i64,
        width: i64,
    }
}

/// Sums over the rows of a matrix, `[columns]`.
pub fn column_sums(matrix: &Tensor) -> Tensor {
    let [cells, width] = shape(matrix);
    let sums = empty(matrix, &[width]);
    run_strips(
        &ColumnSumsArguments {
            input: Address::from_tensor(matrix),
            sums: Address::from_tensor_mut(&sums),
            cells,
            width,
        },
        matrix,
        width,
    );
    sums
}
