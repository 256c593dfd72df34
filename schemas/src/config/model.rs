//! The network (`[model]`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The reconstruction loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReconLoss {
    /// `nb` for counts, `gauss` for anything else.
    #[default]
    Auto,
    /// Negative binomial, for counts.
    Nb,
    /// Negative binomial with excess zeros, for counts.
    Zinb,
    /// Normal with a learned variance, for anything.
    Gauss,
}

/// Dose curves, which scale a perturbation's embedding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Doser {
    /// `linear` if every trained dose is 1, `logsigm` if doses differ.
    #[default]
    Auto,
    /// The dose itself.
    Linear,
    /// A sigmoid of the dose with one slope and offset per perturbation, 0 at dose 0.
    Sigm,
    /// The same for log(1 + dose).
    LogSigm,
    /// A sigmoid of a small network of log(1 + dose), one per perturbation, 0 at dose 0.
    Mlp,
}

/// The offset of the decoder's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OffsetChoice {
    /// None, as in the original.
    #[default]
    None,
    /// The mean profile of the controls of a covariate combination, plus the sum of the shifts of single
    /// perturbations: as seen there, or else their mean over the other covariate combinations.
    Additive,
    /// A posterior mean: shifts of logarithms are shrunk by their noise, gene by gene, towards what contexts, doses and
    /// combinations share.
    Shrinkage,
}

/// The initial inverse dispersion of counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DispersionStart {
    /// Random, as in the original.
    #[default]
    Random,
    /// From mean and variance of the training cells.
    Moments,
}

/// Norms after a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Norm {
    /// None.
    #[serde(rename = "none")]
    None,
    /// Batch norm.
    #[serde(rename = "batch")]
    Batch,
    /// Layer norm, without parameters.
    #[serde(rename = "layer")]
    Layer,
    /// Batch norm, then layer norm.
    #[serde(rename = "batch+layer")]
    BatchThenLayer,
}

impl Norm {
    /// Whether batch norm is on.
    #[must_use]
    pub fn batch(self) -> bool {
        matches!(self, Self::Batch | Self::BatchThenLayer)
    }

    /// Whether layer norm is on.
    #[must_use]
    pub fn layer(self) -> bool {
        matches!(self, Self::Layer | Self::BatchThenLayer)
    }
}

/// The network (`[model]`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// Width of the latent space.
    pub n_latent: u32,
    /// Reconstruction loss: `auto`, `nb`, `zinb` or `gauss`.
    pub recon_loss: ReconLoss,
    /// Whether a cell's basal latent is drawn from a normal distribution given by the encoder, instead of a point.
    pub variational: bool,
    /// Dose response: `auto`, `linear`, `sigm`, `logsigm` or `mlp`.
    pub doser_type: Doser,
    /// Width of the hidden layers of `mlp`.
    pub n_hidden_doser: u32,
    /// Number of the hidden layers of `mlp`.
    pub n_layers_doser: u32,
    /// A table with an embedding for each perturbation, one row each (`.parquet`, or `.npy` with names next to
    /// it): a trained projection of its rows replaces free embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perturbation_embeddings: Option<PathBuf>,
    /// Width of the encoder's hidden layers.
    pub n_hidden_encoder: u32,
    /// Number of the encoder's hidden layers.
    pub n_layers_encoder: u32,
    /// `none`, `batch`, `layer` or `batch+layer`.
    pub norm_encoder: Norm,
    /// Dropout in the encoder.
    pub dropout_rate_encoder: f64,
    /// Width of the decoder's hidden layers.
    pub n_hidden_decoder: u32,
    /// Number of the decoder's hidden layers.
    pub n_layers_decoder: u32,
    /// `none`, `batch`, `layer` or `batch+layer`.
    pub norm_decoder: Norm,
    /// Dropout in the decoder.
    pub dropout_rate_decoder: f64,
    /// The offset of the decoder's output: `none`, `additive` or `shrinkage`.
    pub offset: OffsetChoice,
    /// Standard deviation of the initial weights of the decoder's last layer, whose bias starts at 0; 0: both are
    /// drawn uniformly, as in other layers.
    pub output_deviation: f64,
    /// Whether perturbations start without an effect instead of a random one.
    pub perturbations_from_zero: bool,
    /// The initial inverse dispersion of counts: `random` or `moments`.
    pub dispersion_start: DispersionStart,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            n_latent: 64,
            recon_loss: ReconLoss::Auto,
            variational: false,
            doser_type: Doser::Auto,
            n_hidden_doser: 128,
            n_layers_doser: 2,
            perturbation_embeddings: None,
            n_hidden_encoder: 128,
            n_layers_encoder: 2,
            norm_encoder: Norm::Batch,
            dropout_rate_encoder: 0.0,
            n_hidden_decoder: 512,
            n_layers_decoder: 2,
            norm_decoder: Norm::Layer,
            dropout_rate_decoder: 0.1,
            offset: OffsetChoice::None,
            output_deviation: 0.0,
            perturbations_from_zero: false,
            dispersion_start: DispersionStart::Random,
        }
    }
}
