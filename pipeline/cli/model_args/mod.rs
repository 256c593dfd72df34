//! The arguments of commands about models.
#![expect(missing_docs, reason = "the types of flattened arguments have docs")]

pub mod crossval;
pub mod evaluation;
pub mod judge;
pub mod sharding;
pub mod writing;

use std::{
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
};

use clap::{Args, Subcommand, ValueEnum};
use schemas::config::GeneChoice;

use self::{sharding::ShardArgs, writing::WriteArgs};
use crate::{
    args::{KeyArgs, memory::MemoryLogArgs},
    output::{ForceArgs, is_standard_stream},
};

/// Arguments of `explain`
#[derive(Args, Debug)]
pub struct ExplainArgs {
    #[command(subcommand)]
    pub what: Explained,
}

/// The command to explain
#[derive(Debug, Subcommand)]
pub enum Explained {
    /// A training run
    Train(Box<TrainArgs>),
    /// A prediction
    #[command(mut_arg("atlas", |atlas| atlas.help("The atlas with the cells to start from")))]
    Predict(Box<PredictArgs>),
}

/// Arguments of `train`
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// The atlas, or a data file, which is first ingested into an atlas next to it
    pub atlas: PathBuf,
    /// The model to write (a folder)
    #[arg(long, value_name = "MODEL")]
    pub out: PathBuf,
    #[command(flatten)]
    pub force: ForceArgs,
    /// A split of the atlas [default: 15% random cells for validation, none held out]
    #[arg(long, value_name = "NAME", conflicts_with = "hold_out")]
    pub split: Option<String>,
    /// Cells to hold out, as in 'condition=stim,cell_type=B'; repeatable; put values with commas or outer spaces, and keys
    /// with commas or =, in double quotes, as in 'cell_type="T, naive"'
    #[arg(long, value_name = "key=value,...")]
    pub hold_out: Vec<String>,
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Seed of the split, the order, the weights and the dropout
    #[arg(long)]
    pub seed: Option<u64>,
    /// Device to compute on: auto, cpu or cuda:0
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Continue from the newest checkpoint in the model's folder
    #[arg(long)]
    pub resume: bool,
    /// Write a timeline for Chrome trace viewers: stages throughout, libtorch and the device in two epochs
    #[arg(long, value_name = "FILE.json")]
    pub profile: Option<PathBuf>,
    #[command(flatten)]
    pub keys: KeyArgs,
    #[command(flatten)]
    pub memory: MemoryLogArgs,
}

/// What decides a training run, but for its data and its seed
#[derive(Args, Debug)]
pub struct SettingsArgs {
    /// Number of genes to use, those that vary most between training cells, or a file with one gene name per line [default:
    /// all]
    #[arg(long, value_name = "N|FILE")]
    pub genes: Option<GeneChoice>,
    /// Genes to add: those that are perturbed, or those listed in a file; repeatable
    #[arg(long, value_name = "perturbed|FILE")]
    pub genes_keep: Vec<String>,
    /// Preset to start from: residual, cpa, norman, kang or combosciplex
    #[arg(long, default_value = "residual")]
    pub preset: String,
    /// Settings that override the preset
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Change one setting, as in model.n_latent=64; repeatable
    #[arg(long = "set", value_name = "section.key=value")]
    pub set: Vec<String>,
    /// Maximum number of epochs
    #[arg(long)]
    pub epochs: Option<u32>,
    /// Cells per batch; auto is the largest power of two, up to 8192, with which the total of `explain` stays within --memory
    #[arg(long, value_name = "N|auto")]
    pub batch_size: Option<String>,
}

/// Arguments of `predict`
#[derive(Args, Debug)]
pub struct PredictArgs {
    /// The model
    pub model: PathBuf,
    /// The atlas with the cells to start from; - for tables of cells on stdin, each an Arrow stream, with --out - and --output cells or
    /// latent
    pub atlas: PathBuf,
    /// A folder of Parquet files, or a single file if the name ends in .parquet or .h5ad; - for a stream of Arrow record batches on
    /// stdout
    #[arg(long)]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub force: ForceArgs,
    /// Conditions to predict: 'condition=A+B,dose=1+0.5', a .csv file, observed, missing, ood, pairs or all; repeatable
    /// [default: ood if the model's split holds cells out, else observed]
    #[arg(long)]
    pub to: Vec<String>,
    /// Cells to start from, as in 'condition=ctrl,cell_type=B' [default: the controls of each covariate combination]
    #[arg(long)]
    pub from: Option<String>,
    /// What to predict
    #[arg(long, value_enum, default_value = "means")]
    pub output: OutputArg,
    /// One row per condition, or one row per condition and gene
    #[arg(long, value_enum, default_value = "wide")]
    pub layout: LayoutArg,
    /// What to do with genes of the model that the atlas does not have
    #[arg(long, value_enum, default_value = "error")]
    pub missing_genes: OnMissingGenesArg,
    /// What to do with perturbations the model was not trained on
    #[arg(long, value_enum, default_value = "error")]
    pub unseen: OnUnseenArg,
    /// Covariates that source cells must share with what is predicted, as in plate,donor [default: all, but those that --from
    /// names]
    #[arg(long = "match", value_name = "a,b")]
    pub matching: Option<String>,
    /// What to do with covariates that no source cell has
    #[arg(long, value_enum, default_value = "error")]
    pub no_control: OnNoControlArg,
    /// What to use for covariate values the model was not trained on
    #[arg(long, value_enum, default_value = "error")]
    pub unseen_covariate: OnUnseenCovariateArg,
    /// The batch to predict for: source (that of the source cells), average (of all), none, or one by name
    #[arg(long, value_name = "source|average|none|VALUE", default_value = "source")]
    pub batch: String,
    /// Maximum number of source cells per covariate combination
    #[arg(long)]
    pub cells_per_condition: Option<NonZeroU64>,
    /// The split that `ood` means [default: the model's own]
    #[arg(long)]
    pub split: Option<String>,
    #[command(flatten)]
    pub terms: TermsArgs,
    #[command(flatten)]
    pub writing: WriteArgs,
    /// Device to compute on: auto, cpu or cuda:0
    #[arg(long, default_value = "auto")]
    pub device: String,
    #[command(flatten)]
    pub memory: MemoryLogArgs,
}

impl PredictArgs {
    /// Whether the cells come as tables on standard input.
    #[must_use]
    pub fn reads_tables(&self) -> bool {
        is_standard_stream(&self.atlas)
    }
}

/// The output of a prediction
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OutputArg {
    /// Mean and variance of each condition
    Means,
    /// The change of each gene in each condition, with its log2 fold change, standard error and p
    Changes,
    /// Every cell
    Cells,
    /// The latents of every cell: basal, corrected (without the batch) and after
    Latent,
}

/// The terms of predictions
#[derive(Args, Clone, Debug)]
pub struct TermsArgs {
    /// The genes to write: those in a file, one per line, or those that are differentially expressed in the atlas's conditions
    /// [default: all]
    #[arg(long, value_name = "FILE|deg")]
    pub genes: Option<String>,
    /// Maximum number of genes per condition: with `--genes deg`, the most significant ones [default: 50], else, in long
    /// tables, those with the largest predicted change
    #[arg(long, value_name = "N")]
    pub top: Option<NonZeroUsize>,
    /// Library size of predicted cells, in counts of the model's genes: that of the source cell, a number, or the median over the
    /// source cells of all predictions (of 16,384, evenly spread, where there are more)
    #[arg(long, value_name = "source|median|N", default_value = "source")]
    pub library: String,
    /// Scale of the predicted numbers [default: the model's own, counts or values]
    #[arg(long, value_enum)]
    pub output_scale: Option<OutputScaleArg>,
    /// For variational models, number of draws of each cell's latent to average [default: use its mean]
    #[arg(long, value_name = "N")]
    pub samples: Option<NonZeroU32>,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// The scale of predicted numbers
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OutputScaleArg {
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

/// The layout of a table of means
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LayoutArg {
    /// One row per condition
    Wide,
    /// One row per condition and gene
    Long,
}

/// The treatment of perturbations that were not trained
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnUnseenArg {
    /// Refuse
    Error,
    /// Skip, and report it
    Skip,
    /// Predict from its row in the model's table of embeddings
    Embedding,
}

/// The treatment of genes of the model that the atlas lacks
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnMissingGenesArg {
    /// Refuse, and list them
    Error,
    /// Set them to 0 in every cell, and list them
    Zero,
}

/// The treatment of combinations of covariates without controls
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnNoControlArg {
    /// Refuse
    Error,
    /// Skip, and report it
    Skip,
    /// Start from the cells that share the most covariates
    Borrow,
}

/// The treatment of covariate values that were not trained
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnUnseenCovariateArg {
    /// Refuse
    Error,
    /// The trained value with the most similar controls
    Nearest,
    /// The mean of all trained values
    Mean,
}

/// Arguments of `embed`
#[derive(Args, Debug)]
pub struct EmbedArgs {
    /// The model
    pub model: PathBuf,
    /// The atlas with the cells to embed; not needed for embedding tables
    pub atlas: Option<PathBuf>,
    /// A folder of Parquet files, or a single file if the name ends in .parquet, .csv (a column for each number) or, for cells, .h5ad;
    /// an .h5ad has the basal latent in obsm["X_cpa"], the others in X_cpa_corrected and X_cpa_after; - for a stream of Arrow
    /// record batches on stdout
    #[arg(long)]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub force: ForceArgs,
    /// Approximate size of a file's values, for cells
    #[arg(long, value_name = "BYTES", default_value = "256MiB")]
    pub file_size: String,
    #[command(flatten)]
    pub shards: ShardArgs,
    /// What to embed
    #[arg(long, value_enum, default_value = "cells")]
    pub of: EmbedArg,
    /// What to do with genes of the model that the atlas does not have
    #[arg(long, value_enum, default_value = "error")]
    pub missing_genes: OnMissingGenesArg,
    /// Device to compute on: auto, cpu or cuda:0
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// The rows of an embedding
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum EmbedArg {
    /// The latents of every cell: basal, corrected (without the batch) and after
    Cells,
    /// The embedding table of the perturbations, and their similarity
    Perturbations,
    /// The embedding tables of the covariates
    Covariates,
}

/// Arguments of `response`
#[derive(Args, Debug)]
pub struct ResponseArgs {
    /// The model
    pub model: PathBuf,
    /// The atlas with the controls to start from
    pub atlas: PathBuf,
    /// A perturbation, or a pair as in A+B
    #[arg(long)]
    pub condition: String,
    /// First dose, last dose and step, or doses separated by commas; given once for both perturbations of a pair, or once for
    /// each [default: from 0 to the largest trained dose, with all trained ones]
    #[arg(long, value_name = "FIRST:LAST:STEP|a,b")]
    pub doses: Vec<String>,
    /// Cells to start from, as in 'cell_type=B' [default: the controls of each covariate combination]
    #[arg(long)]
    pub from: Option<String>,
    /// Maximum number of source cells per covariate combination
    #[arg(long, default_value = "256")]
    pub cells_per_condition: NonZeroU64,
    /// Genes to show: a number of those whose prediction changes most over all doses, or those listed in a file
    #[arg(long, value_name = "N|FILE", default_value = "10")]
    pub genes: GeneChoice,
    /// Also write the curves to a .parquet or .csv file, one row per dose and gene; - for a stream of Arrow record batches on stdout
    /// instead of the table
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub force: ForceArgs,
    /// Device to compute on: auto, cpu or cuda:0
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Arguments of `report`
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// The model
    pub model: PathBuf,
    /// The page to write
    #[arg(long, value_name = "FILE.html")]
    pub out: PathBuf,
    /// Also write every chart to a new folder, as SVG and PNG
    #[arg(long, value_name = "FOLDER")]
    pub figures: Option<PathBuf>,
    /// Also write every table to a new folder, as CSV with all digits; of genes and scores, all
    #[arg(long, value_name = "FOLDER")]
    pub tables: Option<PathBuf>,
    #[command(flatten)]
    pub force: ForceArgs,
}
