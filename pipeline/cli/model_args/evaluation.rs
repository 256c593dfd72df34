//! Arguments of `evaluate`, and those that it shares with other commands that score.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use reader::split::SplitPart;
use statistics::scale::{Anchor, Scale};

/// Arguments of `evaluate`
#[derive(Args, Debug)]
pub struct EvaluateArgs {
    /// The model
    pub model: PathBuf,
    /// The atlas that holds the held-out cells
    pub atlas: PathBuf,
    /// The split with the held-out cells [default: the model's own]
    #[arg(long)]
    pub split: Option<String>,
    /// Which cells to evaluate [default: ood, or valid if nothing is held out]
    #[arg(long, value_enum, value_name = "PART")]
    pub on: Option<PartArg>,
    /// Evaluate these predictions, as written by `predict`, instead of running the model
    #[arg(long, value_name = "PATH")]
    pub predictions: Option<PathBuf>,
    /// The scale of the scores: log1p_cp10k, log1p or pseudobulk for counts, values for anything else [default: log1p_cp10k or
    /// values; pseudobulk for predictions of counts]
    #[arg(long, value_enum)]
    pub scale: Option<ScaleArg>,
    /// Add the predicted change to the real controls' mean, or take the output as it is [default: anchored; raw for
    /// predictions]
    #[arg(long, value_enum)]
    pub readout: Option<ReadoutArg>,
    /// Device to compute on: auto, cpu or cuda:0
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// A part of a split
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum PartArg {
    /// Held out
    Ood,
    /// Validation
    Valid,
    /// Training; the baselines then see the cells that are evaluated
    Train,
}

/// The scale of scores
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ScaleArg {
    /// Means of log(1 + counts scaled to ten thousand per cell)
    #[value(name = "log1p_cp10k")]
    Log1pCp10k,
    /// Means of log(1 + counts)
    Log1p,
    /// log(1 + means of scaled counts)
    Pseudobulk,
    /// Means of the values
    Values,
}

/// How the output of the network is read
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ReadoutArg {
    /// Real controls plus the predicted change
    Anchored,
    /// The output as it is
    Raw,
}

impl From<ScaleArg> for Scale {
    fn from(scale: ScaleArg) -> Self {
        match scale {
            ScaleArg::Log1pCp10k => Self::LogNormalised,
            ScaleArg::Log1p => Self::Log1p,
            ScaleArg::Pseudobulk => Self::Pseudobulk,
            ScaleArg::Values => Self::Values,
        }
    }
}

impl From<PartArg> for SplitPart {
    fn from(part: PartArg) -> Self {
        match part {
            PartArg::Ood => Self::Ood,
            PartArg::Valid => Self::Valid,
            PartArg::Train => Self::Train,
        }
    }
}

impl From<ReadoutArg> for Anchor {
    fn from(readout: ReadoutArg) -> Self {
        match readout {
            ReadoutArg::Anchored => Self::Anchored,
            ReadoutArg::Raw => Self::Raw,
        }
    }
}
