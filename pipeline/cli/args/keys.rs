//! Arguments that select label columns, cells, and the matrix of a file.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use formats::format::{Choice, ListStart};
use schemas::quoting::listed;

use runtime::Stop;

/// Which matrix of a file or folder of cells
#[derive(Args, Clone, Debug, Default)]
pub struct ChoiceArgs {
    /// Layer to take instead of X
    #[arg(long)]
    pub layer: Option<String>,
    /// Take raw/X instead of X
    #[arg(long)]
    pub raw: bool,
    /// Genome to take from a 10x file
    #[arg(long, value_name = "NAME")]
    pub genome: Option<String>,
    /// Columns of a wide table that annotate cells, separated by commas; text and times annotate too, all others are genes, be
    /// they numbers or true and false [default: dose, n_counts and the like, printed when used]
    #[arg(long, value_name = "a,b")]
    obs_columns: Option<String>,
    /// Parquet table with the names of genes that lists store as numbers [default: gene_metadata.parquet next to them]
    #[arg(long, value_name = "FILE")]
    genes_table: Option<PathBuf>,
    /// What the first entry of each list in a table is
    #[arg(long, value_enum, default_value = "auto")]
    list_start: ListStartArg,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ListStartArg {
    /// A marker if every list begins with the same negative entry, whose number appears nowhere else; otherwise a gene
    #[default]
    Auto,
    /// An entry that marks the cell, as in Tahoe-100M; it is skipped
    Marker,
    /// A gene, whatever its value
    Gene,
}

impl ChoiceArgs {
    /// Whether a flag says how the columns and lists of a table are read.
    pub(crate) fn is_of_tables(&self) -> bool {
        self.obs_columns.is_some() || self.genes_table.is_some() || !matches!(self.list_start, ListStartArg::Auto)
    }

    /// The first flag that is given, if any is.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--layer", self.layer.is_some()),
            ("--raw", self.raw),
            ("--genome", self.genome.is_some()),
            ("--obs-columns, --genes-table or --list-start", self.is_of_tables()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag)
    }

    /// The same with the whole path of every file, which does not depend on the working directory.
    pub(crate) fn with_whole_paths(mut self) -> Self {
        let whole = |path: PathBuf| path.canonicalize().unwrap_or(path);
        self.genes_table = self.genes_table.map(whole);
        self
    }

    /// How a source is opened, until `stop` is requested. HDF5 files are read in a process of its own, by the
    /// program `perturbine` in this program's folder.
    pub fn choice(&self, stop: &Stop) -> Choice {
        let worker = std::env::current_exe().ok().map(|program| program.with_file_name("perturbine"));
        Choice {
            obs_columns: self.obs_columns.as_deref().map(listed),
            genes_table: self.genes_table.clone(),
            list_start: match self.list_start {
                ListStartArg::Auto => ListStart::Auto,
                ListStartArg::Marker => ListStart::Marker,
                ListStartArg::Gene => ListStart::Gene,
            },
            layer: self.layer.clone(),
            raw: self.raw,
            genome: self.genome.clone(),
            worker: worker.filter(|worker| worker.exists()),
            lists_members: false,
            interrupt: stop.interrupt(),
        }
    }
}

/// Label columns of obs; missing ones are guessed and printed
#[derive(Args, Clone, Debug, Default)]
pub struct KeyArgs {
    /// Column of the perturbation [default: condition, perturbation, cond_harm, or a name of published screens such as drug or
    /// perturbation_name]
    #[arg(long, value_name = "KEY")]
    pub perturbation: Option<String>,
    /// Label of unperturbed cells, also as a part of other labels, from which it is dropped (A+ctrl is A); repeatable; `*`
    /// matches any text [default: ctrl, control, DMSO, non-targeting, or a control of published screens such as Vehicle]
    #[arg(long, value_name = "NAME")]
    pub control: Vec<String>,
    /// Column of the dose [default: dose_val, dose or dose_value]
    #[arg(long, value_name = "KEY")]
    pub dose: Option<String>,
    /// Covariate columns, separated by commas, a name with commas in double quotes; empty for none [default: cell_type or
    /// cell_line]
    #[arg(long, value_name = "a,b")]
    pub covariates: Option<String>,
    /// Column of the batch, which is also a covariate
    #[arg(long, value_name = "KEY")]
    pub batch: Option<String>,
    /// Delimiter between the perturbations of a label [default: +]
    #[arg(long)]
    pub delimiter: Option<String>,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Keep only cells with this value in a column of obs, as in 'cell_type=B' or 'cell_type!=B'; repeatable; `nan` matches
    /// missing values; put a column's name with = in double quotes
    #[arg(long, value_name = "key=value")]
    pub filter: Vec<String>,
    /// Leave out cells with this perturbation label, as in unassigned; repeatable; `*` matches any text, `nan` missing labels
    #[arg(long, value_name = "VALUE")]
    pub drop_label: Vec<String>,
    /// Leave out conditions with fewer cells; A+B and B+A count as one, and control is always kept
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub min_cells: u64,
    /// What the values are
    #[arg(long, value_enum, default_value = "auto")]
    pub values: ValuesArg,
    /// What to do about NaN or infinite values and negative or fractional counts
    #[arg(long, value_enum, default_value = "error")]
    pub on_bad_values: OnBadValuesArg,
    /// How the matrix is stored [default: packed]
    #[arg(long, value_enum)]
    pub storage: Option<StorageArg>,
    /// The same as --storage zstd
    #[arg(long, conflicts_with = "storage")]
    pub compress: bool,
    /// Keep rows in the order of the source
    #[arg(long)]
    pub no_shuffle: bool,
    /// Seed of the row order
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub shuffle_seed: u64,
}

/// The storage of a matrix
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum StorageArg {
    /// A few bits for each number, for counts about a third of raw; rows are decoded from the memory map
    Packed,
    /// Arrays as they are in memory
    Raw,
    /// Compressed blocks: slow to read, and small where values are not counts
    Zstd,
}

/// The kind of the values
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum ValuesArg {
    /// Counts where all are non-negative integers, else continuous
    #[default]
    Auto,
    /// Counts, or an error
    Counts,
    /// Continuous values, normalised as the original expects them
    Log1p,
}

/// The treatment of bad values
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum OnBadValuesArg {
    /// Report the first ones and write nothing
    #[default]
    Error,
    /// Leave out their cells
    Drop,
    /// Use the nearest valid value; values that are not finite become 0
    Clip,
}
