//! The arguments of a cross-validation.
#![expect(missing_docs, reason = "the types of flattened arguments have docs")]

use std::{num::NonZeroU32, path::PathBuf};

use clap::Args;

use super::{
    SettingsArgs,
    evaluation::{ReadoutArg, ScaleArg},
    sharding::ShardArgs,
};
use crate::args::KeyArgs;

/// Arguments of `crossval`
#[derive(Args, Debug)]
pub struct CrossvalArgs {
    /// The atlas, or a data file, which is first ingested into an atlas next to it
    pub atlas: PathBuf,
    /// What the folds hold out: leave-out:KEY (each value's perturbed cells in turn), combos:F, perturbations:F or random:F
    /// (each of them once; a fraction of 0.2 makes five folds)
    #[arg(long)]
    pub scheme: String,
    /// Number of seeds to train each fold with; a seed decides order, weights and dropout
    #[arg(long, value_name = "N", default_value = "1")]
    pub seeds: NonZeroU32,
    /// The first of these seeds
    #[arg(long, value_name = "FIRST", default_value_t = 0)]
    pub seed: u64,
    /// Seed of the division into folds, and of the validation cells
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub split_seed: u64,
    /// Folder to keep every model and the tables in; running the command again trains only what is missing
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub shards: ShardArgs,
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// The scale of the scores: log1p_cp10k, log1p or pseudobulk for counts, values for anything else [default: log1p_cp10k or
    /// values]
    #[arg(long, value_enum)]
    pub scale: Option<ScaleArg>,
    /// Add the predicted change to the real controls' mean, or take the output as it is [default: anchored]
    #[arg(long, value_enum)]
    pub readout: Option<ReadoutArg>,
    /// Device to compute on: auto, cpu or cuda:0
    #[arg(long, default_value = "auto")]
    pub device: String,
    #[command(flatten)]
    pub keys: KeyArgs,
}
