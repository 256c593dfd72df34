//! Arguments for writing predictions.

use std::path::Path;

use clap::{Args, ValueEnum};
use schemas::quoting::listed;
use sink::{
    FileOptions, OutputPrecision,
    layout::is_named,
    write_options::{PredictionFormat, WriteOptions},
};

use super::sharding::ShardArgs;
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
    #[command(flatten)]
    pub shards: ShardArgs,
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
            ("--shard", self.shards.shard.is_some()),
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
        self.shards.check(out)?;
        Ok(WriteOptions {
            format,
            files: FileOptions {
                precision,
                partition_by: self.partition_by.iter().flat_map(|list| listed(list)).collect(),
            },
            shard: self.shards.shard()?,
            portable: self.shards.is_portable(),
            max_bytes: self.max_bytes.as_deref().map(parse_size).transpose()?.map(|bytes| bytes as u64),
            file_bytes: parse_size(&self.file_size)?.max(1) as u64,
        })
    }
}
