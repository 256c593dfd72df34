//! What can be asked of a cross-validation.

use std::{num::NonZeroU32, path::PathBuf};

use clap::Args;

use super::{
    KeyArgs,
    model::{ReadoutArg, ScaleArg, SettingsArgs},
};

#[derive(Args, Debug)]
pub(crate) struct CrossvalArgs {
    /// The atlas, or an .h5ad file that is ingested beside itself first
    pub(in crate::cli) atlas: PathBuf,
    /// What the folds hold out: leave-out:KEY (each value's perturbed cells in turn), combos:F, perturbations:F or random:F
    /// (each of them once; a share of 0.2 makes five folds)
    #[arg(long)]
    pub(in crate::cli) scheme: String,
    /// How many seeds of order, weights and dropout each fold is trained with
    #[arg(long, value_name = "N", default_value = "1")]
    pub(in crate::cli) seeds: NonZeroU32,
    /// The first of these seeds
    #[arg(long, value_name = "FIRST", default_value_t = 0)]
    pub(in crate::cli) seed: u64,
    /// Decides the division into folds, and which cells validate
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(in crate::cli) split_seed: u64,
    /// A folder that keeps every model and the tables; the same command again trains only what is not there yet
    #[arg(long, value_name = "FOLDER")]
    pub(in crate::cli) out: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) settings: SettingsArgs,
    /// The scale: log1p or pseudobulk for counts, values for anything else [default: log1p or values]
    #[arg(long, value_enum)]
    pub(in crate::cli) scale: Option<ScaleArg>,
    /// Predicted change added to the real controls' mean, or the output as it comes [default: anchored]
    #[arg(long, value_enum)]
    pub(in crate::cli) readout: Option<ReadoutArg>,
    /// Where the network computes: auto, cpu or cuda:0
    #[arg(long, default_value = "auto")]
    pub(in crate::cli) device: String,
    #[command(flatten)]
    pub(in crate::cli) keys: KeyArgs,
}
