//! What can be asked, and how.

#[cfg(feature = "torch")]
pub(super) mod crossval;
#[cfg(feature = "torch")]
mod device;
mod keys;
mod memory;
#[cfg(feature = "torch")]
pub(super) mod model;
mod size;
#[cfg(feature = "torch")]
pub(super) mod writing;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use perturbine::{Resources, Result, Stop};
use stages::atlas::Access;

pub(crate) use self::keys::{ChoiceArgs, KeyArgs};
pub(super) use self::keys::{OnBadValuesArg, ValuesArg};
use self::{memory::MemoryLogArgs, size::parse_bytes};

/// Trains CPA on single-cell perturbation atlases out of core, and streams its predictions.
#[derive(Debug, Parser)]
#[command(name = "perturbine", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Print results as one JSON object
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress and no notes
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
    /// Tell more; repeat for still more
    #[arg(short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Worker threads of each parallel stage [default: all cores]
    #[arg(long, global = true)]
    threads: Option<NonZeroUsize>,
    /// Bytes that may wait between stages, as in 512MiB or 2GiB
    #[arg(long, global = true, default_value = "256MiB")]
    memory: String,
    /// How the matrix is read
    #[arg(long, global = true, value_enum, default_value = "map")]
    access: AccessArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AccessArg {
    /// Through a memory map
    Map,
    /// By plain reads
    Read,
}

impl Global {
    pub(super) fn resources(&self, stop: Stop) -> Result<Resources> {
        let defaults = Resources::default();
        let threads = self.threads.unwrap_or(defaults.threads);
        Ok(Resources { threads, memory: parse_bytes(&self.memory)?, stop, ..defaults })
    }

    pub(super) fn access(&self) -> Access {
        match self.access {
            AccessArg::Map => Access::Map,
            AccessArg::Read => Access::Read,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a realistic synthetic atlas with known truth
    #[cfg(feature = "hdf5")]
    Simulate(SimulateArgs),
    /// Turn files into an atlas
    Ingest(Box<IngestArgs>),
    /// Say which cells train, which validate, which are held out
    Split(SplitArgs),
    /// Show what is in an atlas, a data file or a model
    Inspect(InspectArgs),
    /// Check every checksum
    Verify(VerifyArgs),
    /// Show the graph and its memory without running it
    #[cfg(feature = "torch")]
    Explain(model::ExplainArgs),
    /// Train a model
    #[cfg(feature = "torch")]
    Train(Box<model::TrainArgs>),
    /// Predict cells under other conditions
    #[cfg(feature = "torch")]
    Predict(writing::PredictCommand),
    /// Tell the latents of cells, or the embeddings of perturbations and covariates
    #[cfg(feature = "torch")]
    Embed(model::EmbedArgs),
    /// Predict how genes respond to doses of a perturbation or a pair
    #[cfg(feature = "torch")]
    Response(model::ResponseArgs),
    /// Compare predictions with held-out cells and with baselines
    #[cfg(feature = "torch")]
    Evaluate(model::EvaluateArgs),
    /// Train and evaluate every fold of a division of the atlas
    #[cfg(feature = "torch")]
    Crossval(Box<crossval::CrossvalArgs>),
    /// Write a page about a model
    #[cfg(feature = "torch")]
    Report(model::ReportArgs),
}

/// Where interactions come from.
#[cfg(feature = "hdf5")]
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum InteractionsArg {
    /// Each combination changes genes of its own
    Own,
    /// Each pair of pathways changes genes
    Pathways,
}

#[cfg(feature = "hdf5")]
#[derive(Args, Debug)]
pub(crate) struct SimulateArgs {
    /// How many cells
    #[arg(long, default_value_t = 20_000)]
    pub(super) cells: u64,
    /// How many genes
    #[arg(long, default_value_t = 2_000)]
    pub(super) genes: u32,
    /// How many conditions besides control: single perturbations and combinations
    #[arg(long, default_value_t = 40)]
    pub(super) conditions: u32,
    /// How many of them are combinations of two [default: three in ten]
    #[arg(long)]
    pub(super) combos: Option<u32>,
    /// Where what combinations do beyond the sum comes from: genes of their own, or pairs of their parts' pathways
    #[arg(long, value_enum, default_value_t = InteractionsArg::Own)]
    pub(super) interactions: InteractionsArg,
    /// How large that is; 0: combinations are the sum of their parts
    #[arg(long, value_name = "SIZE", default_value_t = 1.0)]
    pub(super) interaction: f64,
    /// How many cell types
    #[arg(long, default_value_t = 3)]
    pub(super) cell_types: u32,
    /// How many dose levels
    #[arg(long, default_value_t = 1)]
    pub(super) doses: u32,
    /// How many batches
    #[arg(long, default_value_t = 2)]
    pub(super) batches: u32,
    /// Expected share of non-zero counts
    #[arg(long, default_value_t = 0.1)]
    pub(super) density: f64,
    /// Whether cells come sorted by condition, as in real files
    #[arg(long, num_args = 0..=1, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) sorted: bool,
    /// Compress the file with gzip, at this level
    #[arg(long)]
    pub(super) gzip: Option<u8>,
    /// Two equal seeds make two equal atlases
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// The .h5ad file to write; the truth goes beside it as FILE.truth.parquet
    #[arg(long)]
    pub(super) out: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct IngestArgs {
    /// Files or folders of cells: .h5ad, zarr store, 10x .h5 or folder, Matrix Market, Parquet or Arrow tables; several become one atlas, their cells one after another
    #[arg(required = true, value_name = "INPUT")]
    pub(super) inputs: Vec<PathBuf>,
    /// The atlas to write: a folder
    #[arg(long, value_name = "NAME.atlas")]
    pub(super) out: PathBuf,
    /// Column whose values train, valid (or test) and ood become a split of that name
    #[arg(long, value_name = "KEY")]
    pub(super) split: Option<String>,
    /// Which genes are kept where files have different ones
    #[arg(long, value_enum, default_value = "inner")]
    pub(super) join: JoinArg,
    /// Column of var that tells genes apart when files are joined [default: their names]
    #[arg(long, value_name = "COLUMN")]
    pub(super) gene_id: Option<String>,
    /// Adds a column to obs, named so, that says which file each cell is from, with as many of the file's folders as tell the
    /// files apart; may be named as a covariate or batch
    #[arg(long, value_name = "KEY")]
    pub(super) file_key: Option<String>,
    /// Leave the matrix in its file, an .h5ad without compression, and read it there from now on
    #[arg(long, conflicts_with_all = ["compress", "filter", "drop_label", "min_cells"])]
    pub(super) in_place: bool,
    #[command(flatten)]
    pub(super) keys: KeyArgs,
    #[command(flatten)]
    pub(super) memory: MemoryLogArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum JoinArg {
    /// Those that every file has
    Inner,
    /// Those that any file has; cells of a file without one have 0
    Outer,
}

#[derive(Args, Debug)]
pub(crate) struct SplitArgs {
    /// The atlas
    pub(super) atlas: PathBuf,
    /// The split's name
    #[arg(long)]
    pub(super) name: String,
    /// Cells to hold out, as in 'condition=stim,cell_type=B'; repeats; a value with commas or blanks around it stands in double
    /// quotes, as in 'cell_type="T, naive"'
    #[arg(long, value_name = "key=value,...", conflicts_with_all = ["scheme", "from_obs"])]
    pub(super) hold_out: Vec<String>,
    /// How to draw held-out cells: random:F, leave-out:KEY, combos:F or perturbations:F
    #[arg(long, conflicts_with = "from_obs")]
    pub(super) scheme: Option<String>,
    /// Column of obs to take the parts from, where `test` means valid
    #[arg(long, value_name = "KEY")]
    pub(super) from_obs: Option<String>,
    /// Share of the other cells that is for validation
    #[arg(long, default_value_t = 0.15)]
    pub(super) valid: f64,
    /// Decides every draw
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// An atlas, a data file or folder, or a model
    pub(super) path: PathBuf,
    #[command(flatten)]
    pub(super) choice: ChoiceArgs,
    /// Show an atlas's statistics: cells, libraries and differential genes of each group
    #[arg(long)]
    pub(super) statistics: bool,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// Atlases, models or prediction sets
    #[arg(required = true)]
    pub(super) paths: Vec<PathBuf>,
}
