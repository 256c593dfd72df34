//! Arguments of `judge`.
#![expect(missing_docs, reason = "the types of flattened arguments have docs")]

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::evaluation::{PartArg, ScaleArg};
use crate::{args::ChoiceArgs, output::ForceArgs};

/// Arguments of `judge`
#[derive(Args, Debug)]
pub struct JudgeArgs {
    /// Predictions of any model: .h5ad, zarr or tables of cells, with the atlas's labels in obs; one row per condition is a mean;
    /// or what `predict` writes
    #[arg(required = true, value_name = "PREDICTION")]
    pub predictions: Vec<PathBuf>,
    /// The atlas with the real cells, or a file of them
    #[arg(long, value_name = "ATLAS")]
    pub truth: PathBuf,
    /// The split with the held-out cells [default: the atlas's only one]
    #[arg(long)]
    pub split: Option<String>,
    /// Which cells to compare with [default: ood, or valid if nothing is held out]
    #[arg(long, value_enum, value_name = "PART")]
    pub on: Option<PartArg>,
    /// The scale of the scores: log1p_cp10k, log1p or pseudobulk for counts, values for anything else [default: log1p_cp10k or
    /// values; pseudobulk for means of counts]
    #[arg(long, value_enum)]
    pub scale: Option<ScaleArg>,
    /// Scores to compute, with commas between: all, means, cells, tests, or names as in JSON; pearson_delta is always among them
    #[arg(long, value_name = "SCORES", default_value = "all")]
    pub scores: String,
    /// The obs column of perturbations [default: the atlas's own]
    #[arg(long, value_name = "KEY")]
    pub perturbation: Option<String>,
    /// The obs column of doses [default: the atlas's own, if the file has it]
    #[arg(long, value_name = "KEY")]
    pub dose: Option<String>,
    /// Which numbers files hold [default: counts if the first are whole numbers, otherwise log1p_cp10k or the atlas's values]
    #[arg(long, value_enum)]
    pub values: Option<PredictionValuesArg>,
    /// The sum that cells were scaled to before log1p [default: 10000]
    #[arg(long, value_name = "N")]
    pub target_sum: Option<f64>,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Write a page with all scores
    #[arg(long, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
    /// Write a card: hashes of data, split, predictions and definitions, which `verify` checks
    #[arg(long, value_name = "FILE.json")]
    pub card: Option<PathBuf>,
    #[command(flatten)]
    pub force: ForceArgs,
}

/// The kind of predicted numbers
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PredictionValuesArg {
    /// Counts
    Counts,
    /// log(1 + counts scaled to ten thousand per cell, or to --target-sum)
    #[value(name = "log1p_cp10k")]
    Log1pCp10k,
    /// The atlas's own values
    Values,
}
