//! Linear layers and hidden layers.

use schemas::config::{MatrixPrecision, Norm};
use tch::{Device, Kind, Tensor};
use torch::parameters::Parameters;

/// Weight of the newest batch in the running statistics of batch norm.
pub(super) const BATCH_NORM_MOMENTUM: f64 = 0.01;
pub(super) const BATCH_NORM_EPSILON: f64 = 1e-3;
pub(super) const LAYER_NORM_EPSILON: f64 = 1e-5;

/// Whether dropout and batch norm are in training mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Training.
    Train,
    /// Training again on the same batch, which is already in the running statistics.
    Again,
    /// Inference: running statistics, no dropout.
    Eval,
}

/// `x Wᵀ + b`, initialised uniformly in ±1/√inputs.
#[derive(Debug)]
pub struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    /// Type of its products while training.
    precision: MatrixPrecision,
    /// The weight rounded to bfloat16, if optimiser steps keep it up to date.
    rounded: Option<Tensor>,
}

impl Linear {
    /// A layer from `inputs` to `outputs`; its parameters are `NAME.weight` and `NAME.bias`.
    pub fn new(parameters: &mut Parameters, name: &str, inputs: i64, outputs: i64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "no layer is 2^52 wide")]
        let bound = 1.0 / (inputs as f64).sqrt();
        Self {
            weight: parameters.uniform(&format!("{name}.weight"), &[outputs, inputs], bound),
            bias: parameters.uniform(&format!("{name}.bias"), &[outputs], bound),
            precision: MatrixPrecision::Float32,
            rounded: None,
        }
    }

    /// The same layer with weights drawn from a normal distribution with this standard deviation, and a bias of
    /// 0; unchanged if it is 0.
    pub(super) fn near_zero(self, parameters: &mut Parameters, name: &str, deviation: f64) -> Self {
        if deviation == 0.0 {
            return self;
        }
        let weight = Tensor::randn(self.weight.size(), (self.weight.kind(), Device::Cpu)) * deviation;
        Self {
            weight: parameters.learn(&format!("{name}.weight"), weight),
            bias: parameters.constant(&format!("{name}.bias"), &self.bias.size(), 0.0),
            ..self
        }
    }

    /// The same layer, with products in this type while training.
    pub(super) fn in_precision(self, precision: MatrixPrecision) -> Self {
        Self { precision, ..self }
    }

    /// The same layer, with weights stored by input, so that each non-zero of a sparse input reads one contiguous run.
    fn of_sparse(parameters: &mut Parameters, name: &str, inputs: i64, outputs: i64) -> Self {
        let layer = Self::new(parameters, name, inputs, outputs);
        let turned = tch::no_grad(|| layer.weight.tr().contiguous().tr().detach());
        Self { weight: parameters.learn(&format!("{name}.weight"), turned), ..layer }
    }

    /// `x Wᵀ + b` of a `[cells, inputs]` tensor.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }

    /// The same in training precision: with bf16, both operands and the product are rounded; weights and
    /// bias are unchanged.
    pub(super) fn forward_in(&self, x: &Tensor, mode: Mode) -> Tensor {
        match (self.precision, mode) {
            (MatrixPrecision::Float32 | MatrixPrecision::Tf32, _) | (_, Mode::Eval) => self.forward(x),
            (MatrixPrecision::Bf16, Mode::Train | Mode::Again) => {
                let rounded = |tensor: &Tensor| tensor.to_kind(Kind::BFloat16);
                let product = rounded(x).linear(&rounded(&self.weight), None::<&Tensor>);
                product.to_kind(self.weight.kind()) + &self.bias
            }
        }
    }

    /// Type of its products while training.
    pub(super) fn precision(&self) -> MatrixPrecision {
        self.precision
    }

    /// Keeps a rounded copy of the weight, if products are computed in bfloat16.
    pub(super) fn keep_rounded(&mut self) {
        let is_rounded = self.precision == MatrixPrecision::Bf16;
        self.rounded = is_rounded.then(|| tch::no_grad(|| self.weight.detach().to_kind(Kind::BFloat16)));
    }

    /// The rounded copy.
    pub(super) fn rounded(&self) -> Option<&Tensor> {
        self.rounded.as_ref()
    }

    /// Weight and bias.
    pub(super) fn parameters(&self) -> [&Tensor; 2] {
        [&self.weight, &self.bias]
    }
}

/// Hidden layers: linear, batch norm, layer norm, ReLU, dropout, in this order, each if enabled.
#[derive(Debug)]
pub struct HiddenLayers {
    pub(super) layers: Vec<(Linear, Option<BatchNorm>)>,
    pub(super) width: i64,
    pub(super) layer_norm: bool,
    pub(super) dropout: f64,
}

/// Settings of hidden layers.
#[derive(Clone, Copy, Debug)]
pub struct HiddenShape {
    /// Number of layers.
    pub layers: u32,
    /// Width of each.
    pub width: u32,
    /// Norms after the linear part.
    pub norm: Norm,
    /// Dropout rate while training.
    pub dropout: f64,
    /// Whether the input is mostly 0.
    pub sparse_input: bool,
    /// Type of products while training.
    pub precision: MatrixPrecision,
}

impl HiddenLayers {
    /// Layers starting from `inputs` features; their parameters are `NAME.fc_layers.Layer I.0.*` (linear) and
    /// `.1.*` (batch norm).
    pub fn new(parameters: &mut Parameters, name: &str, inputs: i64, shape: HiddenShape) -> Self {
        let width = i64::from(shape.width);
        let layers = (0..shape.layers).map(|index| {
            let name = format!("{name}.fc_layers.Layer {index}");
            let (first, part) = (index == 0, format!("{name}.0"));
            let linear = match first && shape.sparse_input {
                true => Linear::of_sparse(parameters, &part, inputs, width),
                false => Linear::new(parameters, &part, if first { inputs } else { width }, width),
            };
            let linear = linear.in_precision(shape.precision);
            (linear, shape.norm.batch().then(|| BatchNorm::new(parameters, &format!("{name}.1"), width)))
        });
        Self { layers: layers.collect(), width, layer_norm: shape.norm.layer(), dropout: shape.dropout }
    }

    /// The last layer's activations, `[cells, width]`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        self.pass(x, mode, |x| x.dropout(self.dropout, true))
    }

    /// The training pass, also returning the mask of activations that each layer keeps; draws the same numbers as
    /// [`Self::forward`].
    pub(super) fn forward_noting(&self, x: &Tensor) -> (Tensor, DropoutMasks) {
        let mut kept = Vec::new();
        let out = self.pass(x, Mode::Train, |x| {
            let keeps = x.empty_like().bernoulli_float_(1.0 - self.dropout);
            kept.push(keeps.to_kind(Kind::Bool));
            x * (keeps / (1.0 - self.dropout))
        });
        (out, DropoutMasks(kept))
    }

    /// The same pass again, without new draws or updates of statistics.
    pub(super) fn forward_again(&self, x: &Tensor, DropoutMasks(kept): &DropoutMasks) -> Tensor {
        let mut kept = kept.iter();
        self.pass(x, Mode::Again, |x| match kept.next() {
            Some(keeps) => x * (keeps.to_kind(x.kind()) / (1.0 - self.dropout)),
            None => x.shallow_clone(),
        })
    }

    /// The trained parameters.
    pub(super) fn parameters(&self) -> Vec<&Tensor> {
        let mut all = Vec::new();
        for (linear, norm) in &self.layers {
            all.extend(linear.parameters());
            all.extend(norm.iter().flat_map(|norm| [&norm.weight, &norm.bias]));
        }
        all
    }

    fn pass(&self, x: &Tensor, mode: Mode, mut drop: impl FnMut(&Tensor) -> Tensor) -> Tensor {
        let mut x = x.shallow_clone();
        for (linear, norm) in &self.layers {
            x = linear.forward_in(&x, mode);
            if let Some(norm) = norm {
                x = norm.forward(&x, mode);
            }
            if self.layer_norm {
                x = x.layer_norm([self.width], None::<&Tensor>, None::<&Tensor>, LAYER_NORM_EPSILON, true);
            }
            x = x.relu();
            if self.dropout > 0.0 && mode != Mode::Eval {
                x = drop(&x);
            }
        }
        x
    }
}

/// The activations kept by a pass, one boolean tensor per layer.
#[derive(Debug)]
pub(super) struct DropoutMasks(Vec<Tensor>);

#[derive(Debug)]
pub(super) struct BatchNorm {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    pub(super) running_mean: Tensor,
    pub(super) running_var: Tensor,
}

impl BatchNorm {
    fn new(parameters: &mut Parameters, name: &str, width: i64) -> Self {
        Self {
            weight: parameters.constant(&format!("{name}.weight"), &[width], 1.0),
            bias: parameters.constant(&format!("{name}.bias"), &[width], 0.0),
            running_mean: parameters.statistic(&format!("{name}.running_mean"), &[width], 0.0),
            running_var: parameters.statistic(&format!("{name}.running_var"), &[width], 1.0),
        }
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let moves = mode != Mode::Again;
        x.batch_norm(
            Some(&self.weight),
            Some(&self.bias),
            moves.then_some(&self.running_mean),
            moves.then_some(&self.running_var),
            mode != Mode::Eval,
            BATCH_NORM_MOMENTUM,
            BATCH_NORM_EPSILON,
            true,
        )
    }
}
