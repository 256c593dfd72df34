//! Which columns are labels, which cells are taken, and which matrix of a file.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use perturbine::Stop;
#[cfg(feature = "torch")]
use schemas::atlas::ValueKind;
use stages::ingest::format::{Choice, ListStart};

/// Which matrix of a file or folder of cells
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ChoiceArgs {
    /// Layer to take instead of X
    #[arg(long)]
    layer: Option<String>,
    /// Take raw/X instead of X
    #[arg(long)]
    raw: bool,
    /// Genome to take from a 10x file
    #[arg(long, value_name = "NAME")]
    genome: Option<String>,
    /// Columns of a wide table that annotate cells, separated by commas; all other numeric columns are genes [default: dose,
    /// n_counts and the like, printed when used]
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
    /// How a source is opened, until `stop` is requested; HDF5 files by the program that lies next to this one, if it does.
    pub(in crate::cli) fn choice(&self, stop: &Stop) -> Choice {
        let worker = std::env::current_exe().ok().map(|program| program.with_file_name("perturbine-hdf5"));
        let columns =
            |list: &String| list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Choice {
            obs_columns: self.obs_columns.as_ref().map(columns),
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
            interrupt: stop.interrupt(),
        }
    }
}

/// Label columns of obs; missing ones are guessed and printed
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct KeyArgs {
    /// Column of the perturbation [default: condition, perturbation or cond_harm]
    #[arg(long, value_name = "KEY")]
    pub(in crate::cli) perturbation: Option<String>,
    /// Label of unperturbed cells, also as a part of other labels, from which it is dropped (A+ctrl is A); repeatable; `*`
    /// matches any text [default: ctrl, control, DMSO or non-targeting]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) control: Vec<String>,
    /// Column of the dose [default: dose_val, dose or dose_value]
    #[arg(long, value_name = "KEY")]
    pub(in crate::cli) dose: Option<String>,
    /// Covariate columns, separated by commas; empty for none [default: cell_type or cell_line]
    #[arg(long, value_name = "a,b")]
    pub(in crate::cli) covariates: Option<String>,
    /// Column of the batch, which is also a covariate
    #[arg(long, value_name = "KEY")]
    pub(in crate::cli) batch: Option<String>,
    /// Delimiter between the perturbations of a label [default: +]
    #[arg(long)]
    pub(in crate::cli) delimiter: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) choice: ChoiceArgs,
    /// Keep only cells with this value in a column of obs, as in 'cell_type=B' or 'cell_type!=B'; repeatable; `nan` matches
    /// missing values
    #[arg(long, value_name = "key=value")]
    pub(in crate::cli) filter: Vec<String>,
    /// Leave out cells with this perturbation label, as in unassigned; repeatable; `*` matches any text, `nan` missing labels
    #[arg(long, value_name = "VALUE")]
    pub(in crate::cli) drop_label: Vec<String>,
    /// Leave out conditions with fewer cells; A+B and B+A count as one, and control is always kept
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(in crate::cli) min_cells: u64,
    /// What the values are
    #[arg(long, value_enum, default_value = "auto")]
    pub(in crate::cli) values: ValuesArg,
    /// What to do about NaN or infinite values and negative or fractional counts
    #[arg(long, value_enum, default_value = "error")]
    pub(in crate::cli) on_bad_values: OnBadValuesArg,
    /// Compress blocks with zstd instead of storing them ready for memory mapping
    #[arg(long)]
    pub(in crate::cli) compress: bool,
    /// Keep rows in the order of the source
    #[arg(long)]
    pub(in crate::cli) no_shuffle: bool,
    /// Seed of the row order
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(in crate::cli) shuffle_seed: u64,
}

impl KeyArgs {
    /// The first flag that was given and that an atlas was not made with.
    #[cfg(feature = "torch")]
    pub(in crate::cli) fn disagrees_with(&self, manifest: &schemas::atlas::Manifest) -> Option<&'static str> {
        let keys = &manifest.keys;
        let differs = |asked: &Option<String>, made: &Option<String>| asked.is_some() && asked != made;
        let ChoiceArgs { layer, raw, genome, .. } = &self.choice;
        let layer = layer.as_ref().map(|layer| format!("layers/{layer}"));
        let matrix = layer.or(raw.then(|| "raw/X".into())).or(genome.clone());
        let other_matrix = |source: &schemas::atlas::Origin| match &matrix {
            Some(matrix) => source.matrix != *matrix,
            // The matrix that is taken by default is at the top level of its file.
            None => source.matrix.contains('/'),
        };
        let delimiter = Some(manifest.conditions.rules().delimiter.clone());
        let names = manifest.covariates.iter().map(|covariate| covariate.name.as_str());
        let covariates: std::collections::BTreeSet<&str> =
            names.filter(|name| Some(*name) != keys.batch.as_deref()).collect();
        let other_covariates = |list: &String| {
            let asked = list.split(',').map(str::trim).filter(|name| !name.is_empty());
            asked.filter(|name| Some(*name) != keys.batch.as_deref()).collect::<std::collections::BTreeSet<_>>()
                != covariates
        };
        let other_values = match self.values {
            ValuesArg::Auto => false,
            ValuesArg::Counts => manifest.values != ValueKind::Counts,
            ValuesArg::Log1p => manifest.values != ValueKind::Continuous,
        };
        let plain = |control: &&String| !control.contains('*');
        [
            (differs(&self.perturbation, &keys.perturbation), "--perturbation"),
            (differs(&self.dose, &keys.dose), "--dose"),
            (differs(&self.batch, &keys.batch), "--batch"),
            (differs(&self.delimiter, &delimiter), "--delimiter"),
            (self.covariates.as_ref().is_some_and(other_covariates), "--covariates"),
            (other_values, "--values"),
            // An atlas does not remember how bad values were treated.
            (!matches!(self.on_bad_values, OnBadValuesArg::Error), "--on-bad-values"),
            (
                self.control.iter().filter(plain).any(|control| !manifest.conditions.rules().is_control(control)),
                "--control",
            ),
            (manifest.sources.iter().any(other_matrix), "--layer, --raw or --genome"),
            (self.selection() != manifest.selection, "--filter, --drop-label or --min-cells"),
        ]
        .into_iter()
        .find_map(|(differs, flag)| differs.then_some(flag))
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(in crate::cli) enum ValuesArg {
    /// Counts where all are non-negative integers, else continuous
    #[default]
    Auto,
    /// Counts, or an error
    Counts,
    /// Continuous values, normalised as the original expects them
    Log1p,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(in crate::cli) enum OnBadValuesArg {
    /// Report the first ones and write nothing
    #[default]
    Error,
    /// Leave out their cells
    Drop,
    /// Use the nearest valid value; values that are not finite become 0
    Clip,
}
