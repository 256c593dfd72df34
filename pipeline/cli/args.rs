//! The arguments of the command line.
#![expect(missing_docs, reason = "the types of flattened arguments have docs")]

mod keys;
pub mod memory;
pub mod size;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{ArgAction, Args, ValueEnum};
use clap_complete::Shell;
use reader::atlas::Access;

pub(crate) use self::keys::{ChoiceArgs, KeyArgs};
pub(super) use self::keys::{OnBadValuesArg, StorageArg, ValuesArg};
use self::{memory::MemoryLogArgs, size::parse_bytes};
use super::output::ForceArgs;
use flows::Resources;
use runtime::Stop;
use schemas::{Error, Result};

/// Arguments of all commands
#[derive(Args, Debug)]
pub struct GlobalArgs {
    /// Print results as one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Show all columns of tables, however wide; by default, columns that don't fit are hidden
    #[arg(long, global = true)]
    pub wide: bool,
    /// Print the main table as CSV, with all columns and digits
    #[arg(long, global = true, conflicts_with = "json")]
    pub csv: bool,
    /// Print neither progress nor notes
    #[arg(long, global = true)]
    pub quiet: bool,
    /// Print more detail; repeat for more
    #[arg(short, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Worker threads of each parallel stage, and at most as many of libtorch, on whose number the last digits of a training
    /// depend [default: all cores]
    #[arg(long, global = true)]
    threads: Option<usize>,
    /// Memory for data waiting between stages, as in 512MiB or 2GiB
    #[arg(long, global = true, default_value = "256MiB")]
    memory: String,
    /// How the matrix is read
    #[arg(long, global = true, value_enum, default_value = "map")]
    access: AccessArg,
    /// How progress, notes, warnings and errors are shown on stderr
    #[arg(long, global = true, value_enum, default_value = "text")]
    progress: ProgressArg,
    /// Stop as after Ctrl-C once standard input ends, so that a program that starts this one can't leave it behind
    #[arg(long, global = true)]
    pub stop_on_eof: bool,
    /// Print help; -h prints a summary
    #[arg(short, long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AccessArg {
    /// Through a memory map
    Map,
    /// By plain reads
    Read,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProgressArg {
    /// As a bar on a terminal, as lines elsewhere
    Text,
    /// As JSON objects, one a line, for other programs
    Json,
}

impl GlobalArgs {
    /// Whether messages are JSON objects, one a line.
    #[must_use]
    pub fn sends_events(&self) -> bool {
        self.progress == ProgressArg::Json
    }

    /// The resources of a run that `stop` ends.
    ///
    /// # Errors
    /// No threads, or a size that can't be read.
    pub fn resources(&self, stop: Stop) -> Result<Resources> {
        let defaults = Resources::default();
        let threads = self.threads.map_or(Ok(defaults.threads), |threads| {
            NonZeroUsize::new(threads)
                .ok_or_else(|| Error::usage("`--threads` must be at least 1", "leave it out to use all cores"))
        })?;
        Ok(Resources { threads, memory: parse_bytes(&self.memory)?, stop, ..defaults })
    }

    /// How the matrix is read.
    #[must_use]
    pub fn access(&self) -> Access {
        match self.access {
            AccessArg::Map => Access::Map,
            AccessArg::Read => Access::Read,
        }
    }
}

/// Where interactions come from.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum InteractionsArg {
    /// Each combination changes its own genes
    Own,
    /// Each pair of pathways changes genes
    Pathways,
}

/// Arguments of `simulate`
#[derive(Args, Debug)]
pub struct SimulateArgs {
    /// Number of cells
    #[arg(long, default_value_t = 20_000)]
    pub cells: u64,
    /// Number of genes
    #[arg(long, default_value_t = 2_000)]
    pub genes: u32,
    /// Number of conditions besides control: single perturbations and combinations
    #[arg(long, default_value_t = 40)]
    pub conditions: u32,
    /// How many of the conditions are combinations of two perturbations [default: 30%]
    #[arg(long)]
    pub combos: Option<u32>,
    /// What combinations change beyond the sum of their parts: their own genes, or genes of pathway pairs
    #[arg(long, value_enum, default_value_t = InteractionsArg::Own)]
    pub interactions: InteractionsArg,
    /// Size of these interactions; at 0, combinations are the sum of their parts
    #[arg(long, value_name = "SIZE", default_value_t = 1.0)]
    pub interaction: f64,
    /// Number of cell types
    #[arg(long, default_value_t = 3)]
    pub cell_types: u32,
    /// Number of dose levels
    #[arg(long, default_value_t = 1)]
    pub doses: u32,
    /// Number of batches
    #[arg(long, default_value_t = 2)]
    pub batches: u32,
    /// Expected share of non-zero counts
    #[arg(long, default_value_t = 0.1)]
    pub density: f64,
    /// Whether cells are sorted by condition, as in real files
    #[arg(long, num_args = 0..=1, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    pub sorted: bool,
    /// Compress the file with gzip, at this level
    #[arg(long)]
    pub gzip: Option<u8>,
    /// Random seed; the same seed gives the same atlas
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The .h5ad file to write; the ground truth goes next to it, into FILE.truth.parquet
    #[arg(long)]
    pub out: PathBuf,
}

/// Arguments of `ingest`
#[derive(Args, Debug)]
pub struct IngestArgs {
    /// Files or folders of cells: .h5ad, zarr store, 10x .h5 or folder, Matrix Market, Parquet or Arrow tables; several are
    /// joined into one atlas
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// The atlas to write (a folder)
    #[arg(long, value_name = "NAME.atlas")]
    pub out: PathBuf,
    #[command(flatten)]
    pub force: ForceArgs,
    /// Column of obs to import as a split of that name; its values are train, valid (or test) and ood
    #[arg(long, value_name = "KEY")]
    pub split: Option<String>,
    /// Which genes to keep when files have different ones
    #[arg(long, value_enum, default_value = "inner")]
    pub join: JoinArg,
    /// Column of var that identifies genes when files are joined [default: their names]
    #[arg(long, value_name = "COLUMN")]
    pub gene_id: Option<String>,
    /// Add a column of this name to obs with the file that each cell is from, including as many parent folders as needed to
    /// tell files apart; may be used as a covariate or batch
    #[arg(long, value_name = "KEY")]
    pub file_key: Option<String>,
    /// Make an atlas without labels, of cells whose perturbation is not known: models can predict from them, but none can be trained
    #[arg(long, conflicts_with_all = ["perturbation", "control", "dose", "delimiter"])]
    pub no_perturbation: bool,
    /// Leave the matrix in its file, an uncompressed .h5ad, and read it from there
    #[arg(long, conflicts_with_all = ["storage", "compress", "filter", "drop_label", "min_cells"])]
    pub in_place: bool,
    #[command(flatten)]
    pub keys: KeyArgs,
    #[command(flatten)]
    pub memory: MemoryLogArgs,
}

/// Which genes of joined files are kept
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum JoinArg {
    /// Genes that every file has
    Inner,
    /// Genes that any file has; cells from files without a gene get 0
    Outer,
}

/// Arguments of `split`
#[derive(Args, Debug)]
pub struct SplitArgs {
    /// The atlas
    pub atlas: PathBuf,
    /// The split's name, of letters, digits, - and _
    #[arg(long, required_unless_present = "remove")]
    pub name: Option<String>,
    /// Remove the split of this name
    #[arg(long, value_name = "NAME", conflicts_with_all = ["name", "force", "hold_out", "scheme", "from_obs", "valid", "reference", "seed"])]
    pub remove: Option<String>,
    /// Replace a split of this name
    #[arg(long)]
    pub force: bool,
    /// Cells to hold out, as in 'condition=stim,cell_type=B'; repeatable; put values with commas or outer spaces, and keys
    /// with commas or =, in double quotes, as in 'cell_type="T, naive"'
    #[arg(long, value_name = "key=value,...", conflicts_with_all = ["scheme", "from_obs"])]
    pub hold_out: Vec<String>,
    /// How to draw held-out cells: random:F, leave-out:KEY, combos:F or perturbations:F
    #[arg(long, conflicts_with = "from_obs")]
    pub scheme: Option<String>,
    /// Column of obs to import the split from, where `test` means valid
    #[arg(long, value_name = "KEY")]
    pub from_obs: Option<String>,
    /// Fraction of the other cells to use for validation
    #[arg(long, default_value_t = 0.15, conflicts_with = "from_obs")]
    pub valid: f64,
    /// Fraction of each context's controls to set apart: `evaluate` measures real changes from them, and nothing is trained on
    /// them; at least 20 (or half of the controls), at most 2,000
    #[arg(long, default_value_t = 0.25, conflicts_with = "from_obs")]
    pub reference: f64,
    /// Random seed
    #[arg(long, default_value_t = 0, conflicts_with = "from_obs")]
    pub seed: u64,
}

/// Arguments of `inspect`
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// An atlas, a data file or folder, a model, or predictions
    pub path: PathBuf,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Show an atlas's statistics: cells, library sizes and differential genes of each group
    #[arg(long)]
    pub statistics: bool,
}

/// Arguments of `verify`
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Atlases, models, cross-validations, prediction sets or cards of scores
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
}

/// Arguments of `settings`
#[derive(Args, Debug)]
pub struct SettingsQueryArgs {
    /// A setting or a section, such as train.lr, lr or train [default: all]
    pub name: Option<String>,
}

/// Arguments of `setup`
#[derive(Args, Debug)]
pub struct SetupArgs {
    /// Also fetch the CUDA libraries (about 4 GB)
    #[arg(long)]
    pub cuda: bool,
}

/// Arguments of `completions`
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}
