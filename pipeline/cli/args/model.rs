//! What can be asked of models.

use std::{num::NonZeroU64, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use schemas::config::GeneChoice;

use super::{KeyArgs, memory::MemoryLogArgs};

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    #[command(subcommand)]
    pub(in crate::cli) what: Explained,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Explained {
    /// A training run
    Train(Box<TrainArgs>),
    /// A prediction
    Predict(Box<PredictArgs>),
}

#[derive(Args, Debug)]
pub(crate) struct TrainArgs {
    /// The atlas, or an .h5ad file that is ingested beside itself first
    pub(in crate::cli) atlas: PathBuf,
    /// The model to write: a folder
    #[arg(long, value_name = "MODEL")]
    pub(in crate::cli) out: PathBuf,
    /// A split of the atlas [default: 15% random cells validate, none is held out]
    #[arg(long, value_name = "NAME", conflicts_with = "hold_out")]
    pub(in crate::cli) split: Option<String>,
    /// Cells to hold out, as in 'condition=stim,cell_type=B'; repeats
    #[arg(long, value_name = "key=value,...")]
    pub(in crate::cli) hold_out: Vec<String>,
    /// How many of the genes that vary most between training cells, or a file that names the genes, one a line [default: all]
    #[arg(long, value_name = "N|FILE")]
    pub(in crate::cli) genes: Option<GeneChoice>,
    /// Genes to add to them: those that are named like a perturbation, or those that a file names; repeats
    #[arg(long, value_name = "perturbed|FILE")]
    pub(in crate::cli) genes_keep: Vec<String>,
    /// Where the settings start from: cpa, norman, kang or combosciplex
    #[arg(long, default_value = "cpa")]
    pub(in crate::cli) preset: String,
    /// Settings to lay over the preset
    #[arg(long, value_name = "FILE.toml")]
    pub(in crate::cli) config: Option<PathBuf>,
    /// One setting, as in model.n_latent=64; repeats
    #[arg(long = "set", value_name = "section.key=value")]
    pub(in crate::cli) set: Vec<String>,
    /// Epochs at most
    #[arg(long)]
    pub(in crate::cli) epochs: Option<u32>,
    /// Cells of a batch; auto: the largest power of two, up to 8192, with which all that `explain` adds up stays within --memory
    #[arg(long, value_name = "N|auto")]
    pub(in crate::cli) batch_size: Option<String>,
    /// Seed of the split, the order, the weights and the dropout
    #[arg(long)]
    pub(in crate::cli) seed: Option<u64>,
    /// Where the network computes: auto, cpu or cuda:0
    #[arg(long, default_value = "auto")]
    pub(in crate::cli) device: String,
    /// Take up the newest checkpoint of the model's folder
    #[arg(long)]
    pub(in crate::cli) resume: bool,
    #[command(flatten)]
    pub(in crate::cli) keys: KeyArgs,
    #[command(flatten)]
    pub(in crate::cli) memory: MemoryLogArgs,
}

#[derive(Args, Debug)]
pub(crate) struct PredictArgs {
    /// The model
    pub(in crate::cli) model: PathBuf,
    /// The atlas whose cells to start from
    pub(in crate::cli) atlas: PathBuf,
    /// A folder of Parquet files, or one file where the name ends in .parquet
    #[arg(long)]
    pub(in crate::cli) out: Option<PathBuf>,
    /// Conditions to go to: 'condition=A+B,dose=1+0.5', a .csv file, observed, missing, ood, pairs or all; repeats
    /// [default: ood where the model holds cells out, else observed]
    #[arg(long)]
    pub(in crate::cli) to: Vec<String>,
    /// Cells to start from, as in 'condition=ctrl,cell_type=B' [default: the controls of each covariate combination]
    #[arg(long)]
    pub(in crate::cli) from: Option<String>,
    /// What to predict
    #[arg(long, value_enum, default_value = "means")]
    pub(in crate::cli) output: OutputArg,
    /// One row a condition, or one row a condition and gene
    #[arg(long, value_enum, default_value = "wide")]
    pub(in crate::cli) layout: LayoutArg,
    /// What to do with perturbations the model was not trained on
    #[arg(long, value_enum, default_value = "error")]
    pub(in crate::cli) unseen: OnUnseenArg,
    /// What to do with covariates that no source cell has
    #[arg(long, value_enum, default_value = "error")]
    pub(in crate::cli) no_control: OnUnknownArg,
    /// The batch to predict for: source (that of the cells it starts from), average (of all), none, or one by name
    #[arg(long, value_name = "source|average|none|VALUE", default_value = "source")]
    pub(in crate::cli) batch: String,
    /// Source cells of each covariate combination at most
    #[arg(long)]
    pub(in crate::cli) cells_per_condition: Option<NonZeroU64>,
    /// The split that `ood` means [default: the model's own]
    #[arg(long)]
    pub(in crate::cli) split: Option<String>,
    /// Say what would be predicted, and write nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Where the network computes: auto, cpu or cuda:0
    #[arg(long, default_value = "auto")]
    pub(in crate::cli) device: String,
    #[command(flatten)]
    pub(in crate::cli) memory: MemoryLogArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum OutputArg {
    /// Mean and variance of each condition
    Means,
    /// Every cell
    Cells,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum LayoutArg {
    /// A row a condition
    Wide,
    /// A row a condition and gene
    Long,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum OnUnseenArg {
    /// Refuse
    Error,
    /// Skip, and say so
    Skip,
    /// Predict from its row in the model's table of embeddings
    Embedding,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum OnUnknownArg {
    /// Refuse
    Error,
    /// Skip, and say so
    Skip,
}

#[derive(Args, Debug)]
pub(crate) struct EvaluateArgs {
    /// The model
    pub(in crate::cli) model: PathBuf,
    /// The atlas that holds the held-out cells
    pub(in crate::cli) atlas: PathBuf,
    /// The split that says what is held out [default: the model's own]
    #[arg(long)]
    pub(in crate::cli) split: Option<String>,
    /// The scale: log1p or pseudobulk for counts, values for anything else [default: log1p or values]
    #[arg(long, value_enum)]
    pub(in crate::cli) scale: Option<ScaleArg>,
    /// Predicted change added to the real controls' mean, or the output as it comes
    #[arg(long, value_enum, default_value = "anchored")]
    pub(in crate::cli) readout: ReadoutArg,
    /// Where the network computes: auto, cpu or cuda:0
    #[arg(long, default_value = "auto")]
    pub(in crate::cli) device: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum ScaleArg {
    /// Means of log(1 + counts)
    Log1p,
    /// log(1 + means of scaled counts)
    Pseudobulk,
    /// Means of the values
    Values,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum ReadoutArg {
    /// Real controls plus predicted change
    Anchored,
    /// As it comes
    Raw,
}

#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// The model
    pub(in crate::cli) model: PathBuf,
    /// The page to write
    #[arg(long, value_name = "FILE.html")]
    pub(in crate::cli) out: PathBuf,
}
