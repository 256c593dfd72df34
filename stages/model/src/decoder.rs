//! Decodes a latent to the expected value of every gene and its variance.

use schemas::config::{ReconLoss, Settings};
use tch::Tensor;
use torch::parameters::Parameters;

use super::{
    input::Cells,
    layers::{HiddenLayers, HiddenShape, Linear, Mode},
};

/// Smallest variance of the normal decoder.
const SMALLEST_VARIANCE: f64 = 1e-4;

/// The decoder's output for every cell and gene.
#[derive(Debug)]
pub enum DecoderOutput {
    /// A negative binomial.
    NegativeBinomial {
        /// Expected counts, `[cells, genes]`.
        mean: Tensor,
        /// Inverse dispersion, `[genes]`: the variance is mean + mean² / theta.
        theta: Tensor,
    },
    /// A negative binomial with excess zeros.
    ZeroInflated {
        /// Expected counts of the negative binomial, `[cells, genes]`.
        mean: Tensor,
        /// Its inverse dispersion, `[genes]`.
        theta: Tensor,
        /// Logits of the share of excess zeros, `[cells, genes]`.
        logits: Tensor,
        /// Whether the expectation ignores excess zeros, as in the original.
        uninflated: bool,
    },
    /// A normal distribution.
    Normal {
        /// Mean, `[cells, genes]`.
        mean: Tensor,
        /// Variance, `[cells, genes]`.
        variance: Tensor,
    },
}

impl DecoderOutput {
    /// Expected values, `[cells, genes]`.
    pub fn mean(&self) -> Tensor {
        match self {
            Self::ZeroInflated { mean, logits, uninflated: false, .. } => mean * (-logits).sigmoid(),
            Self::NegativeBinomial { mean, .. } | Self::Normal { mean, .. } | Self::ZeroInflated { mean, .. } => {
                mean.shallow_clone()
            }
        }
    }

    /// Variance of a value around its mean, `[cells, genes]`.
    pub fn variance(&self) -> Tensor {
        match self {
            Self::NegativeBinomial { mean, theta } | Self::ZeroInflated { mean, theta, uninflated: true, .. } => {
                mean + mean.square() / theta
            }
            Self::ZeroInflated { mean, theta, logits, .. } => {
                let zeros = logits.sigmoid();
                (1.0 - &zeros) * mean * ((zeros + theta.reciprocal()) * mean + 1.0)
            }
            Self::Normal { variance, .. } => variance.shallow_clone(),
        }
    }

    /// Means on the scale for comparing profiles: log(1 + counts), or the values themselves.
    pub fn on_comparison_scale(&self) -> Tensor {
        match self {
            Self::NegativeBinomial { .. } | Self::ZeroInflated { .. } => self.mean().log1p(),
            Self::Normal { mean, .. } => mean.shallow_clone(),
        }
    }
}

impl DecoderOutput {
    /// The same numbers, detached, as leaves for differentiation.
    pub(super) fn leaves(&self) -> Self {
        let leaf = |tensor: &Tensor| tensor.detach().set_requires_grad(true);
        match self {
            Self::NegativeBinomial { mean, theta } => Self::NegativeBinomial { mean: leaf(mean), theta: leaf(theta) },
            Self::ZeroInflated { mean, theta, logits, uninflated } => Self::ZeroInflated {
                mean: leaf(mean),
                theta: leaf(theta),
                logits: leaf(logits),
                uninflated: *uninflated,
            },
            Self::Normal { mean, variance } => Self::Normal { mean: leaf(mean), variance: leaf(variance) },
        }
    }

    /// All outputs, in a fixed order.
    pub(super) fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Self::NegativeBinomial { mean, theta } => vec![mean, theta],
            Self::ZeroInflated { mean, theta, logits, .. } => vec![mean, theta, logits],
            Self::Normal { mean, variance } => vec![mean, variance],
        }
    }
}

#[derive(Debug)]
pub(super) enum Decoder {
    Counts { hidden: HiddenLayers, scale: Linear, dispersion: Tensor, zeros: Option<Linear>, uninflated: bool },
    Normal { hidden: HiddenLayers, mean: Linear, variance: Linear },
}

impl Decoder {
    pub(super) fn new(parameters: &mut Parameters, settings: &Settings, genes: i64) -> Self {
        let model = &settings.model;
        let (latent, width) = (i64::from(model.n_latent), i64::from(model.n_hidden_decoder));
        let original = settings.compat.is_original();
        let gauss = model.recon_loss == ReconLoss::Gauss;
        let shape = HiddenShape {
            layers: model.n_layers_decoder,
            width: model.n_hidden_decoder,
            norm: model.norm_decoder,
            // The original builds the decoder of counts without dropout, whatever the setting.
            dropout: if original && !gauss { 0.0 } else { model.dropout_rate_decoder },
            sparse_input: false,
            precision: settings.train.precision,
        };
        let p = parameters;
        let of_genes =
            |p: &mut Parameters, name: &str| Linear::new(p, name, width, genes).in_precision(settings.train.precision);
        let of_means = |p: &mut Parameters, name: &str| of_genes(p, name).near_zero(p, name, model.output_deviation);
        if gauss {
            return Self::Normal {
                hidden: HiddenLayers::new(p, "module.decoder.encoder", latent, shape),
                mean: of_means(p, "module.decoder.mean_encoder"),
                variance: of_genes(p, "module.decoder.var_encoder"),
            };
        }
        Self::Counts {
            dispersion: p.normal("module.px_r", &[genes]),
            hidden: HiddenLayers::new(p, "module.decoder.px_decoder", latent, shape),
            scale: of_means(p, "module.decoder.px_scale_decoder.0"),
            zeros: (model.recon_loss == ReconLoss::Zinb).then(|| of_genes(p, "module.decoder.px_dropout_decoder")),
            uninflated: original,
        }
    }

    /// The layers whose products are computed in training precision.
    pub(super) fn wide_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let (hidden, last) = match self {
            Self::Counts { hidden, scale, zeros: None, .. } => (hidden, Some(scale)),
            Self::Counts { hidden, .. } | Self::Normal { hidden, .. } => (hidden, None),
        };
        hidden.layers.iter_mut().map(|(linear, _)| linear).chain(last)
    }

    /// The same, shared.
    pub(super) fn wide(&self) -> impl Iterator<Item = &Linear> {
        let last = self.negative_binomial().map(|(last, _)| last);
        self.hidden().layers.iter().map(|(linear, _)| linear).chain(last)
    }

    /// Whether it decodes counts; then the encoder reads log(1 + counts).
    pub(super) fn is_of_counts(&self) -> bool {
        matches!(self, Self::Counts { .. })
    }

    /// The encoder's input: log(1 + counts), or the values themselves, `[cells, genes]`.
    pub(super) fn input(&self, cells: &Cells) -> Tensor {
        match self {
            Self::Counts { .. } => cells.log1p(),
            Self::Normal { .. } => cells.dense(),
        }
    }

    pub(super) fn forward(
        &self,
        latent: &Tensor,
        offset: Option<&Tensor>,
        library: &Tensor,
        mode: Mode,
    ) -> DecoderOutput {
        self.of_hidden(&self.hidden().forward(latent, mode), offset, library, mode)
    }

    /// The hidden layers.
    pub(super) fn hidden(&self) -> &HiddenLayers {
        match self {
            Self::Counts { hidden, .. } | Self::Normal { hidden, .. } => hidden,
        }
    }

    /// The output for activations of the hidden layers; an offset is added to logits of counts, or to means.
    pub(super) fn of_hidden(
        &self,
        hidden: &Tensor,
        offset: Option<&Tensor>,
        library: &Tensor,
        mode: Mode,
    ) -> DecoderOutput {
        let from_offset = |output: Tensor| match offset {
            Some(offset) => output + offset,
            None => output,
        };
        match self {
            Self::Counts { scale, dispersion, zeros, uninflated, .. } => {
                let logits = from_offset(scale.forward_in(hidden, mode));
                let mean = logits.softmax(-1, hidden.kind()) * library;
                let theta = dispersion.exp();
                match zeros {
                    None => DecoderOutput::NegativeBinomial { mean, theta },
                    Some(zeros) => {
                        let logits = zeros.forward_in(hidden, mode);
                        DecoderOutput::ZeroInflated { mean, theta, logits, uninflated: *uninflated }
                    }
                }
            }
            Self::Normal { mean, variance, .. } => DecoderOutput::Normal {
                mean: from_offset(mean.forward_in(hidden, mode)),
                variance: variance.forward_in(hidden, mode).exp() + SMALLEST_VARIANCE,
            },
        }
    }

    /// Initialises the inverse dispersion of counts, or the variance of values, with these logarithms.
    pub(super) fn start_dispersion(&mut self, logarithms: &[f32]) {
        let _no_grad = tch::no_grad_guard();
        let logarithms = Tensor::from_slice(logarithms);
        match self {
            Self::Counts { dispersion, .. } => dispersion.copy_(&logarithms),
            Self::Normal { variance, .. } => {
                let _ = variance.weight.zero_();
                variance.bias.copy_(&logarithms);
            }
        }
    }

    /// The layer that computes the logits of negative binomials without excess zeros, and the logarithm of their inverse dispersion.
    pub(super) fn negative_binomial(&self) -> Option<(&Linear, &Tensor)> {
        match self {
            Self::Counts { scale, dispersion, zeros: None, .. } => Some((scale, dispersion)),
            Self::Counts { .. } | Self::Normal { .. } => None,
        }
    }

    /// Its trained parameters.
    pub(super) fn last_parameters(&self) -> Vec<&Tensor> {
        match self {
            Self::Counts { scale, dispersion, zeros, .. } => {
                let zeros = zeros.iter().flat_map(Linear::parameters);
                scale.parameters().into_iter().chain(zeros).chain([dispersion]).collect()
            }
            Self::Normal { mean, variance, .. } => mean.parameters().into_iter().chain(variance.parameters()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excess_zeros_lower_the_mean_and_widen_the_variance_as_draws_do() {
        let one = |x: f64| Tensor::from_slice(&[x]).view([1, 1]);
        // 25% zeros and 75% of a negative binomial with mean 4 and variance 4 + 16 / 2 = 12.
        let logits = one((0.25_f64 / 0.75).ln());
        let output = DecoderOutput::ZeroInflated {
            mean: one(4.0),
            theta: Tensor::from_slice(&[2.0]),
            logits,
            uninflated: false,
        };
        assert!((output.mean().double_value(&[0, 0]) - 3.0).abs() < 1e-12);
        // E x² = 0.75 (12 + 16) = 21, minus the square of the mean.
        assert!((output.variance().double_value(&[0, 0]) - 12.0).abs() < 1e-12);
    }
}
