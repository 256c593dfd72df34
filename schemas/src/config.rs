//! What a user writes (`Settings`), and what is left once it was checked (`Plan`).
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
    model::{DispersionStart, Doser, ModelSettings, Norm, Offset, ReconLoss},
    plan::Plan,
    preset::Preset,
    train::{Averaging, EngineChoice, Monitor, Objective, Precision, RateSchedule, Sampling, TrainSettings},
};

/// Everything that decides what a training run does, apart from its data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Which preset the settings started from.
    pub preset: Preset,
    /// Whose quirks are reproduced.
    pub compat: Compat,
    /// Seed of the split, the order, the weights and the dropout.
    pub seed: u64,
    /// What of the atlas is seen.
    pub data: DataSettings,
    /// The network.
    pub model: ModelSettings,
    /// The adversaries.
    pub adversary: AdversarySettings,
    /// The training.
    pub train: TrainSettings,
}

/// Whether the quirks of another program are reproduced, for comparison with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compat {
    /// No program's.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Those of cpa-tools 0.8.8, as `docs/model.md` lists them.
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
