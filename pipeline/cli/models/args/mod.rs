//! The arguments of commands about models.

pub(crate) mod crossval;
pub(crate) mod judge;
pub(crate) mod writing;

use std::{
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
};

use clap::{Args, Subcommand, ValueEnum};
use schemas::config::GeneChoice;

use self::writing::WriteArgs;
use crate::cli::{
    args::{KeyArgs, memory::MemoryLogArgs},
    output::ForceArgs,
};

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
    /// The atlas, or a data file, which is first ingested into an atlas next to it
    pub(in crate::cli) atlas: PathBuf,
    /// The model to write (a folder)
    #[arg(long, value_name = "MODEL")]
    pub(in crate::cli) out: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) force: ForceArgs,
    /// A split of the atlas [default: 15% random cells for validation, none held out]
    #[arg(long, value_name = "NAME", conflicts_with = "hold_out")]
    pub(in crate::cli) split: Option<String>,
    /// Cells to hold out, as in 'condition=stim,cell_type=B'; repeatable; put values with commas or outer spaces, and keys
    /// with commas or =, in double quotes, as in 'cell_type="T, naive"'
    #[arg(long, value_name = "key=value,...")]
    pub(in crate::cli) hold_out: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) settings: SettingsArgs,
    /// Seed of the split, the order, the weights and the dropout
    #[arg(long)]
    pub(in crate::cli) seed: Option<u64>,
    /// Device to compute on: auto, cpu or cuda:0
    #[arg(long, default_value = "auto")]
    pub(in crate::cli) device: String,
    /// Continue from the newest checkpoint in the model's folder
    #[arg(long)]
    pub(in crate::cli) resume: bool,
    /// Write a timeline for Chrome trace viewers: stages throughout, libtorch and the device in two epochs
    #[arg(long, value_name = "FILE.json")]
    pub(in crate::cli) profile: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) keys: KeyArgs,
    #[command(flatten)]
    pub(in crate::cli) memory: MemoryLogArgs,
}

/// What decides a training run, but for its data and its seed
#[derive(Args, Debug)]
pub(crate) struct SettingsArgs {
    /// Number of genes to use, those that vary most between training cells, or a file with one gene name per line [default:
    /// all]
    #[arg(long, value_name = "N|FILE")]
    pub(in crate::cli) genes: Option<GeneChoice>,
    /// Genes to add: those that are perturbed, or those listed in a file; repeatable
    #[arg(long, value_name = "perturbed|FILE")]
    pub(in crate::cli) genes_keep: Vec<String>,
    /// Preset to start from: residual, cpa, norman, kang or combosciplex
    #[arg(long, default_value = "residual")]
    pub(in crate::cli) preset: String,
    /// Settings that override the preset
    #[arg(long, value_name = "FILE.toml")]
    pub(in crate::cli) config: Option<PathBuf>,
    /// Change one setting, as in model.n_latent=64; repeatable
    #[arg(long = "set", value_name = "section.key=value")]
    pub(in crate::cli) set: Vec<String>,
    /// Maximum number of epochs
    #[arg(long)]
    pub(in crate::cli) epochs: Option<u32>,
    /// Cells per batch; auto is the largest power of two, up to 8192, with which the total of `explain` stays within --memory
    #[arg(long, value_name = "N|auto")]
    pub(in crate::cli) batch_size: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct PredictArgs {
    /// The model
    pub(in crate::cli) model: PathBuf,
    /// The atlas with the cells to start from
    pub(in crate::cli) atlas: PathBuf,
    /// A folder of Parquet files, or a single file if the name ends in .parquet or .h5ad
    #[arg(long)]
    pub(in crate::cli) out: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) force: ForceArgs,
    /// Conditions to predict: 'condition=A+B,dose=1+0.5', a .csv file, observed, missing, ood, pairs or all; repeatable
    /// [default: ood if the model's split holds cells out, else observed]
    #[arg(long)]
    pub(in crate::cli) to: Vec<String>,
    /// Cells to start from, as in 'condition=ctrl,cell_type=B' [default: the controls of each covariate combination]
    #[arg(long)]
    pub(in crate::cli) from: Option<String>,
    /// What to predict
    #[arg(long, value_enum, default_value = "means")]
    pub(in crate::cli) output: OutputArg,
    /// One row per condition, or one row per condition and gene
    #[arg(long, value_enum, default_value = "wide")]
    pub(in crate::cli) layout: LayoutArg,
    /// What to do with genes of the model that the atlas does not have
    #[arg(long, value_enum, default_value = "error")]
    pub(in crate::cli) missing_genes: OnMissingGenesArg,
    /// What to do with perturbations the model was not trained on
    #[arg(long, value_enum, default_value = "error")]
    pub(in crate::cli) unseen: OnUnseenArg,
    /// Covariates that source cells must share with what is predicted, as in plate,donor [default: all]
    #[arg(long = "match", value_name = "a,b")]
    pub(in crate::cli) matching: Option<String>,
    /// What to do with covariates that no source cell has
    #[arg(long, value_enum, default_value = "error")]
    pub(in crate::cli) no_control: OnNoControlArg,
    /// What to use for covariate values the model was not trained on
    #[arg(long, value_enum, default_value = "error")]
    pub(in crate::cli) unseen_covariate: OnUnseenCovariateArg,
    /// The batch to predict for: source (that of the source cells), average (of all), none, or one by name
    #[arg(long, value_name = "source|average|none|VALUE", default_value = "source")]
    pub(in crate::cli) batch: String,
    /// Maximum number of source cells per covariate combination
    #[arg(long)]
    pub(in crate::cli) cells_per_condition: Option<NonZeroU64>,
    /// The split that `ood` means [default: the model's own]
    #[arg(long)]
    pub(in crate::cli) split: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) terms: TermsArgs,
    /// Show what would be predicted, and write nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    #[command(flatten)]
    pub(in crate::cli) writing: WriteArgs,
    /// Device to compute on: auto, cpu or cuda:0
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
    /// The latents of every cell: basal, corrected (without the batch) and after
    Latent,
}

/// The terms of predictions
#[derive(Args, Clone, Debug)]
pub(crate) struct TermsArgs {
    /// The genes to write: those in a file, one per line, or those that are differentially expressed in the atlas's conditions
    /// [default: all]
    #[arg(long, value_name = "FILE|deg")]
    pub(in crate::cli) genes: Option<String>,
    /// Maximum number of genes per condition: with `--genes deg`, the most significant ones [default: 50], else, in long
    /// tables, those with the largest predicted change
    #[arg(long, value_name = "N")]
    pub(in crate::cli) top: Option<NonZeroUsize>,
    /// Library size of predicted cells, in counts of the model's genes: that of the source cell, a number, or the median over the
    /// source cells of all predictions (of 16,384, evenly spread, where there are more)
    #[arg(long, value_name = "source|median|N", default_value = "source")]
    pub(in crate::cli) library: String,
    /// Scale of the predicted numbers [default: the model's own, counts or values]
    #[arg(long, value_enum)]
    pub(in crate::cli) output_scale: Option<OutputScaleArg>,
    /// For variational models, number of draws of each cell's latent to average [default: use its mean]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) samples: Option<NonZeroU32>,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(in crate::cli) seed: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum OutputScaleArg {
    /// Counts
    Counts,
    /// Counts per ten thousand
    Cp10k,
    /// log(1 + counts per ten thousand)
    #[value(name = "log1p_cp10k")]
    Log1pCp10k,
    /// The continuous values of the atlas
    Values,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum LayoutArg {
    /// One row per condition
    Wide,
    /// One row per condition and gene
    Long,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum OnUnseenArg {
    /// Refuse
    Error,
    /// Skip, and report it
    Skip,
    /// Predict from its row in the model's table of embeddings
    Embedding,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum OnMissingGenesArg {
    /// Refuse, and list them
    Error,
    /// Set them to 0 in every cell, and list them
    Zero,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum OnNoControlArg {
    /// Refuse
    Error,
    /// Skip, and report it
    Skip,
    /// Start from the cells that share the most covariates
    Borrow,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum OnUnseenCovariateArg {
    /// Refuse
    Error,
    /// The trained value with the most similar controls
    Nearest,
    /// The mean of all trained values
    Mean,
}

#[derive(Args, Debug)]
pub(crate) struct EmbedArgs {
    /// The model
    pub(in crate::cli) model: PathBuf,
    /// The atlas with the cells to embed; not needed for embedding tables
    pub(in crate::cli) atlas: Option<PathBuf>,
    /// A folder of Parquet files, or a single file if the name ends in .parquet or, for cells, .h5ad; an .h5ad has the basal latent in
    /// obsm["X_cpa"], the others in X_cpa_corrected and X_cpa_after
    #[arg(long)]
    pub(in crate::cli) out: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) force: ForceArgs,
    /// What to embed
    #[arg(long, value_enum, default_value = "cells")]
    pub(in crate::cli) of: EmbedArg,
    /// What to do with genes of the model that the atlas does not have
    #[arg(long, value_enum, default_value = "error")]
    pub(in crate::cli) missing_genes: OnMissingGenesArg,
    /// Device to compute on: auto, cpu or cuda:0
    #[arg(long, default_value = "auto")]
    pub(in crate::cli) device: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum EmbedArg {
    /// The latents of every cell: basal, corrected (without the batch) and after
    Cells,
    /// The embedding table of the perturbations, and their similarity
    Perturbations,
    /// The embedding tables of the covariates
    Covariates,
}

#[derive(Args, Debug)]
pub(crate) struct ResponseArgs {
    /// The model
    pub(in crate::cli) model: PathBuf,
    /// The atlas with the controls to start from
    pub(in crate::cli) atlas: PathBuf,
    /// A perturbation, or a pair as in A+B
    #[arg(long)]
    pub(in crate::cli) condition: String,
    /// First dose, last dose and step, or doses separated by commas; given once for both perturbations of a pair, or once for
    /// each
    #[arg(long, value_name = "FIRST:LAST:STEP|a,b", default_value = "0:1:0.1")]
    pub(in crate::cli) doses: Vec<String>,
    /// Cells to start from, as in 'cell_type=B' [default: the controls of each covariate combination]
    #[arg(long)]
    pub(in crate::cli) from: Option<String>,
    /// Maximum number of source cells per covariate combination
    #[arg(long, default_value = "256")]
    pub(in crate::cli) cells_per_condition: NonZeroU64,
    /// Genes to show: a number of those whose prediction changes most over all doses, or those listed in a file
    #[arg(long, value_name = "N|FILE", default_value = "10")]
    pub(in crate::cli) genes: GeneChoice,
    /// Also write the curves to a .parquet file, one row per dose and gene
    #[arg(long, value_name = "FILE.parquet")]
    pub(in crate::cli) out: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) force: ForceArgs,
    /// Device to compute on: auto, cpu or cuda:0
    #[arg(long, default_value = "auto")]
    pub(in crate::cli) device: String,
}

#[derive(Args, Debug)]
pub(crate) struct EvaluateArgs {
    /// The model
    pub(in crate::cli) model: PathBuf,
    /// The atlas that holds the held-out cells
    pub(in crate::cli) atlas: PathBuf,
    /// The split with the held-out cells [default: the model's own]
    #[arg(long)]
    pub(in crate::cli) split: Option<String>,
    /// Which cells to evaluate [default: ood, or valid if nothing is held out]
    #[arg(long, value_enum, value_name = "PART")]
    pub(in crate::cli) on: Option<PartArg>,
    /// Evaluate these predictions, as written by `predict`, instead of running the model
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) predictions: Option<PathBuf>,
    /// The scale of the scores: log1p_cp10k, log1p or pseudobulk for counts, values for anything else [default: log1p_cp10k or
    /// values; pseudobulk for predictions of counts]
    #[arg(long, value_enum)]
    pub(in crate::cli) scale: Option<ScaleArg>,
    /// Add the predicted change to the real controls' mean, or take the output as it is [default: anchored; raw for
    /// predictions]
    #[arg(long, value_enum)]
    pub(in crate::cli) readout: Option<ReadoutArg>,
    /// Device to compute on: auto, cpu or cuda:0
    #[arg(long, default_value = "auto")]
    pub(in crate::cli) device: String,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(in crate::cli) enum PartArg {
    /// Held out
    Ood,
    /// Validation
    Valid,
    /// Training; the baselines then see the cells that are evaluated
    Train,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum ScaleArg {
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

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum ReadoutArg {
    /// Real controls plus the predicted change
    Anchored,
    /// The output as it is
    Raw,
}

#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// The model
    pub(in crate::cli) model: PathBuf,
    /// The page to write
    #[arg(long, value_name = "FILE.html")]
    pub(in crate::cli) out: PathBuf,
    /// Also write every chart to a new folder, as SVG; browsers and Inkscape make PNG of it
    #[arg(long, value_name = "FOLDER")]
    pub(in crate::cli) figures: Option<PathBuf>,
    /// Also write every table to a new folder, as CSV with all digits; of genes and scores, all
    #[arg(long, value_name = "FOLDER")]
    pub(in crate::cli) tables: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) force: ForceArgs,
}
