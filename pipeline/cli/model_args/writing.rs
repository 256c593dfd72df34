//! Arguments for writing predictions, and for the command that publishes those written in shards.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum, error::ErrorKind, value_parser};
use schemas::quoting::listed;
use sink::{
    FileOptions, OutputPrecision, Shard,
    layout::is_named,
    shards::refuse_one_file,
    write_options::{PredictionFormat, WriteOptions},
};

use super::PredictArgs;
use crate::args::size::parse_size;
use schemas::{Error, Result};

/// How predictions are written
#[derive(Args, Debug)]
pub struct WriteArgs {
    /// Parquet files, or one file that scanpy or a spreadsheet opens [default: by the ending of --out, else parquet]
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
    /// Write the shard to a folder of its own, which may be moved to another machine; `predict --commit OUT --from FOLDER...`
    /// publishes them. A shard that is complete there already is not written again
    #[arg(long, value_name = "FOLDER", requires = "shard")]
    pub shard_out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// A folder of Parquet files, or one file
    Parquet,
    /// One AnnData file
    H5ad,
    /// One table of text, of changes or of means in a long layout
    Csv,
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
        let default = match out {
            Some(out) if is_named(out, "h5ad") => FormatArg::H5ad,
            Some(out) if is_named(out, "csv") => FormatArg::Csv,
            _ => FormatArg::Parquet,
        };
        let with_controls = self.controls == ControlsArg::Copy;
        let format = match self.format.unwrap_or(default) {
            FormatArg::H5ad => PredictionFormat::H5ad { with_controls },
            FormatArg::Parquet | FormatArg::Csv if with_controls => {
                return Err(Error::usage(
                    "--controls copy needs --format h5ad",
                    "give --out a name that ends in .h5ad",
                ));
            }
            FormatArg::Parquet => PredictionFormat::Parquet,
            FormatArg::Csv => PredictionFormat::Csv,
        };
        let precision = match self.precision {
            PrecisionArg::F32 => OutputPrecision::Single,
            PrecisionArg::Bf16 => OutputPrecision::Bfloat16,
        };
        if let (Some(_), Some(out)) = (&self.shard_out, out) {
            refuse_one_file(out)?;
        }
        Ok(WriteOptions {
            format,
            files: FileOptions {
                precision,
                partition_by: self.partition_by.iter().flat_map(|list| listed(list)).collect(),
            },
            shard: self.shard.as_deref().map(Shard::parse).transpose()?,
            portable: self.shard_out.is_some(),
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
    /// The publication of shards: of those beside the folder `out`, or of `portable` ones.
    Commit {
        /// The folder to publish.
        out: PathBuf,
        /// The folders of portable shards.
        portable: Vec<PathBuf>,
    },
}

const COMMIT: &str = "commit";
const FROM: &str = "from";
/// Arguments after a model and an atlas. A shell makes a list of a pattern after `--from`: the second and third shard are read as
/// model and atlas, and all others as these.
const MORE: &str = "more";

impl Args for PredictCommand {
    fn augment_args(command: Command) -> Command {
        let commit = Arg::new(COMMIT)
            .long(COMMIT)
            .value_name("PATH")
            .value_parser(value_parser!(PathBuf))
            .conflicts_with("plan_only")
            .help(
                "Check and publish PATH once all of its shards are written; takes no model or atlas. --from names shards that \
                 --shard-out wrote",
            );
        let more = Arg::new(MORE).num_args(0..).hide(true).value_parser(value_parser!(PathBuf));
        PredictArgs::augment_args(command)
            .mut_args(|argument| match argument.get_id().as_str() {
                "model" | "atlas" => argument.required(false).required_unless_present(COMMIT),
                FROM => argument.action(ArgAction::Append).help(
                    "Cells to start from, as in 'condition=ctrl,cell_type=B' [default: the controls of each covariate combination]. \
                     With --commit, folders that --shard-out wrote; repeatable",
                ),
                _ => argument,
            })
            .args([commit, more])
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for PredictCommand {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let refused = |message: String| Err(clap::Error::raw(ErrorKind::ArgumentConflict, message));
        let more = matches.get_many::<PathBuf>(MORE).into_iter().flatten();
        let from: Vec<&String> = matches.get_many(FROM).into_iter().flatten().collect();
        let Some(out) = matches.get_one::<PathBuf>(COMMIT) else {
            return match (more.into_iter().next(), &from[..]) {
                (Some(more), _) => {
                    refused(format!("unexpected argument '{}': a model and an atlas are enough", more.display()))
                }
                (None, [_, _, ..]) => refused("--from is given twice; only --commit takes several".to_owned()),
                _ => Ok(Self::Run(Box::new(PredictArgs::from_arg_matches(matches)?))),
            };
        };
        let places = ["model", "atlas"].into_iter().filter_map(|name| matches.get_one::<PathBuf>(name)).chain(more);
        let portable: Vec<PathBuf> = from.iter().map(PathBuf::from).chain(places.cloned()).collect();
        if from.is_empty() && !portable.is_empty() {
            return refused("--commit takes no model or atlas; name shards after --from".to_owned());
        }
        Ok(Self::Commit { out: out.clone(), portable })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
