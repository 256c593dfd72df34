//! A latent becomes what is expected of every gene, and how far values lie from it.

use schemas::config::{ReconLoss, Settings};
use tch::Tensor;

use super::{
    input::Cells,
    layers::{HiddenLayers, HiddenShape, Linear, Mode},
    parameters::Parameters,
};

/// Smallest variance of the normal decoder.
const SMALLEST_VARIANCE: f64 = 1e-4;

/// What the decoder says of every cell and gene.
#[derive(Debug)]
pub enum Output {
    /// A negative binomial.
    NegativeBinomial {
        /// Expected counts, `[cells, genes]`.
        mean: Tensor,
        /// Inverse dispersion, `[genes]`: the variance is mean + mean² / theta.
        theta: Tensor,
    },
    /// A negative binomial, or nothing at all.
    ZeroInflated {
        /// Expected counts of the negative binomial, `[cells, genes]`.
        mean: Tensor,
        /// Its inverse dispersion, `[genes]`.
        theta: Tensor,
        /// Logits of the share of excess zeros, `[cells, genes]`.
        logits: Tensor,
        /// Whether the excess zeros are left out of what is expected, as in the original.
        uninflated: bool,
    },
    /// A normal.
    Normal {
        /// Mean, `[cells, genes]`.
        mean: Tensor,
        /// Variance, `[cells, genes]`.
        variance: Tensor,
    },
}

impl Output {
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

    /// Means on the scale that profiles are compared on: log(1 + counts), or the values themselves.
    pub fn on_comparison_scale(&self) -> Tensor {
        match self {
            Self::NegativeBinomial { .. } | Self::ZeroInflated { .. } => self.mean().log1p(),
            Self::Normal { mean, .. } => mean.shallow_clone(),
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
            // The original builds the decoder of counts without dropout, whatever is asked for.
            dropout: if original && !gauss { 0.0 } else { model.dropout_rate_decoder },
            sparse_input: false,
        };
        let p = parameters;
        if gauss {
            return Self::Normal {
                hidden: HiddenLayers::new(p, "module.decoder.encoder", latent, shape),
                mean: Linear::new(p, "module.decoder.mean_encoder", width, genes),
                variance: Linear::new(p, "module.decoder.var_encoder", width, genes),
            };
        }
        Self::Counts {
            dispersion: p.normal("module.px_r", &[genes]),
            hidden: HiddenLayers::new(p, "module.decoder.px_decoder", latent, shape),
            scale: Linear::new(p, "module.decoder.px_scale_decoder.0", width, genes),
            zeros: (model.recon_loss == ReconLoss::Zinb)
                .then(|| Linear::new(p, "module.decoder.px_dropout_decoder", width, genes)),
            uninflated: original,
        }
    }

    /// What the encoder reads: log(1 + counts), or the values themselves, `[cells, genes]`.
    pub(super) fn input(&self, cells: &Cells) -> Tensor {
        match self {
            Self::Counts { .. } => cells.log1p(),
            Self::Normal { .. } => cells.dense(),
        }
    }

    pub(super) fn forward(&self, latent: &Tensor, library: &Tensor, mode: Mode) -> Output {
        match self {
            Self::Counts { hidden, scale, dispersion, zeros, uninflated } => {
                let hidden = hidden.forward(latent, mode);
                let mean = scale.forward(&hidden).softmax(-1, latent.kind()) * library;
                let theta = dispersion.exp();
                match zeros {
                    None => Output::NegativeBinomial { mean, theta },
                    Some(zeros) => {
                        let logits = zeros.forward(&hidden);
                        Output::ZeroInflated { mean, theta, logits, uninflated: *uninflated }
                    }
                }
            }
            Self::Normal { hidden, mean, variance } => {
                let hidden = hidden.forward(latent, mode);
                Output::Normal {
                    mean: mean.forward(&hidden),
                    variance: variance.forward(&hidden).exp() + SMALLEST_VARIANCE,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excess_zeros_lower_the_mean_and_widen_the_variance_as_draws_do() {
        let one = |x: f64| Tensor::from_slice(&[x]).view([1, 1]);
        // A share of 0.25 zeros beside a negative binomial of mean 4 and variance 4 + 16 / 2 = 12.
        let logits = one((0.25_f64 / 0.75).ln());
        let output =
            Output::ZeroInflated { mean: one(4.0), theta: Tensor::from_slice(&[2.0]), logits, uninflated: false };
        assert!((output.mean().double_value(&[0, 0]) - 3.0).abs() < 1e-12);
        // E x² = 0.75 (12 + 16) = 21, less the square of the mean.
        assert!((output.variance().double_value(&[0, 0]) - 12.0).abs() < 1e-12);
    }
}
