//! The adversaries (`[adversary]`).

use serde::{Deserialize, Serialize};

use super::Norm;

/// The adversaries' loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdversaryLoss {
    /// Cross-entropy, normalised by the weights of the classes.
    #[default]
    Cce,
    /// Cross-entropy times (1 − p)² (Lin et al. 2017), averaged over cells.
    Focal,
}

/// The adversaries (`[adversary]`): classifiers that predict combination and covariates from the basal latent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdversarySettings {
    /// Width of the hidden layers.
    pub n_hidden_adv: u32,
    /// Number of hidden layers.
    pub n_layers_adv: u32,
    /// `none`, `batch`, `layer` or `batch+layer`.
    pub norm_adv: Norm,
    /// Dropout.
    pub dropout_rate_adv: f64,
    /// The loss: `cce` or `focal`.
    pub adv_loss: AdversaryLoss,
    /// Weight of the adversaries' loss in the autoencoder's.
    pub reg_adv: f64,
    /// Weight of the gradient penalty in the adversaries' loss.
    pub pen_adv: f64,
    /// The autoencoder learns from one in this many batches, the adversaries from the others; 0: both from every batch.
    pub adv_steps: u32,
    /// Learning rate.
    pub adv_lr: f64,
    /// Weight decay (L2, as in Adam).
    pub adv_wd: f64,
}

impl Default for AdversarySettings {
    fn default() -> Self {
        Self {
            n_hidden_adv: 64,
            n_layers_adv: 3,
            norm_adv: Norm::Batch,
            dropout_rate_adv: 0.3,
            adv_loss: AdversaryLoss::Cce,
            reg_adv: 20.0,
            pen_adv: 5.0,
            adv_steps: 0,
            adv_lr: 1e-3,
            adv_wd: 4e-7,
        }
    }
}
