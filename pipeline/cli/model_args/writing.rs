//! Arguments for writing predictions, and for the command that publishes those written in shards.

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use schemas::quoting::listed;
use sink::{
    FileOptions, OutputPrecision, Shard,
    layout::is_named,
    write_options::{PredictionFormat, WriteOptions},
};

use super::PredictArgs;
use crate::args::size::parse_size;
use schemas::{Error, Result};

/// How predictions are written
#[derive(Args, Debug)]
pub struct WriteArgs {
    /// Parquet files, or one file that scanpy opens [default: h5ad if --out ends in .h5ad, else parquet]
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Precision of numbers: bf16 keeps three decimal digits and makes files less than half as large
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionArg,
    /// Columns whose values become folders, as in condition=A%2BB/: condition, dose or covariates, separated by commas
    #[arg(long, value_name = "COLUMNS")]
    partition_by: Vec<String>,
    /// Real control cells to add to an .h5ad of cells
    #[arg(long, value_enum, default_value = "none")]
    controls: ControlsArg,
    /// Refuse to start if the values could take more, as in 10GiB
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<String>,
    /// Approximate size of a file's values; means of a job or a batch of cells are never divided
    #[arg(long, value_name = "BYTES", default_value = "256MiB")]
    file_size: String,
    /// Write one shard of the predictions, from 0/n to n-1/n; `predict --commit OUT` publishes them once all are written
    #[arg(long, value_name = "i/n", conflicts_with = "force")]
    shard: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// A folder of Parquet files, or one file
    Parquet,
    /// One AnnData file
    H5ad,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PrecisionArg {
    /// 32 bits
    F32,
    /// 16 bits: a bfloat16
    Bf16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ControlsArg {
    /// None
    None,
    /// Those of the same covariate combinations, as they are in the atlas
    Copy,
}

impl WriteArgs {
    /// A flag that is given and only files have.
    #[must_use]
    pub fn of_files(&self) -> Option<&'static str> {
        let given = [
            ("--format", self.format.is_some()),
            ("--precision", matches!(self.precision, PrecisionArg::Bf16)),
            ("--partition-by", !self.partition_by.is_empty()),
            ("--controls", self.controls != ControlsArg::None),
            ("--max-bytes", self.max_bytes.is_some()),
            ("--shard", self.shard.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }

    /// The requested options, for predictions that are written to `out`.
    pub fn options(&self, out: Option<&Path>) -> Result<WriteOptions> {
        let named_h5ad = out.is_some_and(|out| is_named(out, "h5ad"));
        let default = if named_h5ad { FormatArg::H5ad } else { FormatArg::Parquet };
        let with_controls = self.controls == ControlsArg::Copy;
        let format = match self.format.unwrap_or(default) {
            FormatArg::H5ad => PredictionFormat::H5ad { with_controls },
            FormatArg::Parquet if with_controls => {
                return Err(Error::usage(
                    "--controls copy needs --format h5ad",
                    "give --out a name that ends in .h5ad",
                ));
            }
            FormatArg::Parquet => PredictionFormat::Parquet,
        };
        let precision = match self.precision {
            PrecisionArg::F32 => OutputPrecision::Single,
            PrecisionArg::Bf16 => OutputPrecision::Bfloat16,
        };
        Ok(WriteOptions {
            format,
            files: FileOptions {
                precision,
                partition_by: self.partition_by.iter().flat_map(|list| listed(list)).collect(),
            },
            shard: self.shard.as_deref().map(Shard::parse).transpose()?,
            max_bytes: self.max_bytes.as_deref().map(parse_size).transpose()?.map(|bytes| bytes as u64),
            file_bytes: parse_size(&self.file_size)?.max(1) as u64,
        })
    }
}

/// `predict`: a prediction, or the publication of one that was written in shards.
#[derive(Debug)]
pub enum PredictCommand {
    /// A prediction.
    Run(Box<PredictArgs>),
    /// The publication of shards.
    Commit(PathBuf),
}

const COMMIT: &str = "commit";

impl Args for PredictCommand {
    fn augment_args(command: Command) -> Command {
        let commit = clap::Arg::new(COMMIT)
            .long(COMMIT)
            .value_name("PATH")
            .value_parser(clap::value_parser!(PathBuf))
            .conflicts_with_all(["model", "atlas"])
            .help("Check and publish PATH once all of its shards are written; takes no model or atlas");
        PredictArgs::augment_args(command)
            .mut_args(|argument| match argument.get_id().as_str() {
                "model" | "atlas" => argument.required(false).required_unless_present(COMMIT),
                _ => argument,
            })
            .arg(commit)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for PredictCommand {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.get_one::<PathBuf>(COMMIT) {
            Some(path) => Ok(Self::Commit(path.clone())),
            None => Ok(Self::Run(Box::new(PredictArgs::from_arg_matches(matches)?))),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
