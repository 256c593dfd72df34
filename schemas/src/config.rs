//! User settings (`Settings`), and the validated configuration (`TrainingPlan`).
//!
//! Settings are built in layers: a preset, then a file, then single `section.key=value` assignments. Names are the
//! original's wherever it has one.

use serde::{Deserialize, Serialize};

mod adversary;
mod data;
mod layers;
mod model;
mod plan;
mod preset;
mod train;

pub use self::{
    adversary::{AdversaryLoss, AdversarySettings},
    data::{DataSettings, GeneChoice, GenesKept},
    model::{DispersionStart, Doser, ModelSettings, Norm, OffsetChoice, ReconLoss},
    plan::TrainingPlan,
    preset::Preset,
    train::{
        Averaging, EngineChoice, MatrixPrecision, MonitoredScore, Objective, RateSchedule, SamplingChoice,
        TrainSettings,
    },
};

/// All settings of a training run, apart from its data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The preset from which the settings started.
    pub preset: Preset,
    /// The quirks to reproduce.
    pub compat: Compat,
    /// Seed of the split, the order, the weights and the dropout.
    pub seed: u64,
    /// The genes to use.
    pub data: DataSettings,
    /// The network.
    pub model: ModelSettings,
    /// The adversaries.
    pub adversary: AdversarySettings,
    /// The training.
    pub train: TrainSettings,
}

/// Whether to reproduce the quirks of another program, for comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compat {
    /// None.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Those of cpa-tools 0.8.8, listed in `docs/model.md`.
    #[serde(rename = "cpa-tools-0.8.8")]
    CpaTools088,
}

impl Compat {
    /// Whether the original's quirks are reproduced.
    #[must_use]
    pub fn is_original(self) -> bool {
        self == Self::CpaTools088
    }
}

#[cfg(test)]
mod tests;
