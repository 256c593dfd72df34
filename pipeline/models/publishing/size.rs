//! The size of predictions, and whether the disk has enough space for them.

use std::path::Path;

use schemas::{
    Error, Result,
    counting::{counted, grouped},
};
use stages::{
    sink::{
        FileOptions, OutputPrecision, Shard,
        layout::{is_named, is_one_file, row_bytes, waiting_bytes},
    },
    storage::disk::{check_room, free_bytes},
};

use super::{Prediction, PredictionForm, PredictionFormat, WriteOptions};

/// File bytes per byte of values, measured on expected counts, whose high bits repeat and whose low bits are noise.
const STORED_PERCENT: u64 = 80;
const STORED_PERCENT_BFLOAT16: u64 = 35;

/// The smallest observed ratio of actual to expected bytes.
const LEAST_SHARE: u64 = 8;

/// The size of predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredictionSize {
    /// Number of rows, over all shards.
    pub rows: u64,
    /// Uncompressed size of their values, in bytes.
    pub value_bytes: u64,
    /// Approximate size of the files, in bytes.
    pub file_bytes: u64,
    /// Number of files or, with partitions, of files per folder.
    pub parts: usize,
    /// Maximum bytes of values that wait in memory for their row groups.
    pub waiting_bytes: u64,
}

impl PredictionSize {
    /// Number of files of predictions to `out`, without partitions.
    #[must_use]
    pub fn files(&self, out: Option<&Path>) -> usize {
        let single = out.is_some_and(|out| is_one_file(out) || is_named(out, "h5ad") || is_named(out, "csv"));
        if single { 1 } else { self.parts }
    }
}

impl Prediction {
    /// How much will be written.
    ///
    /// # Errors
    /// A partition column that does not exist.
    pub fn size(&self, output: PredictionForm, options: &WriteOptions) -> Result<PredictionSize> {
        let parts = self.parts(output, options)?;
        let schema = self.schema(output);
        let mut rows: u64 = parts.iter().map(|part| part.rows).sum();
        if options.format == (PredictionFormat::H5ad { with_controls: true }) {
            rows += stages::predictor::controls::control_cells(&self.atlas, self.contexts()).count() as u64;
        }
        let value_bytes = rows * row_bytes(&schema);
        let percent = match (options.format, options.files.precision) {
            (PredictionFormat::H5ad { .. } | PredictionFormat::Csv, _) => 100,
            (PredictionFormat::Parquet, OutputPrecision::Single) => STORED_PERCENT,
            (PredictionFormat::Parquet, OutputPrecision::Bfloat16) => STORED_PERCENT_BFLOAT16,
        };
        let waiting_bytes = match options.format {
            PredictionFormat::H5ad { .. } | PredictionFormat::Csv => 0,
            PredictionFormat::Parquet => waiting_bytes(self.folders(&parts, options)),
        };
        Ok(PredictionSize {
            rows,
            value_bytes,
            file_bytes: value_bytes / 100 * percent,
            parts: parts.len(),
            waiting_bytes,
        })
    }

    /// Refuses output that can't fit, and warns if it may not fit: the compressed size is not known beforehand.
    pub(super) fn check_room(&self, output: PredictionForm, out: &Path, options: &WriteOptions) -> Result<()> {
        let shards = options.shard.map_or(1, Shard::count) as u64;
        let likely = self.size(output, options)?.file_bytes / shards;
        check_room(out, likely / LEAST_SHARE)?;
        if let Some(free) = free_bytes(out).filter(|free| *free < likely) {
            let [likely, free] = [likely, free].map(grouped);
            tracing::warn!("{}: about {likely} bytes would be written, but {free} are free", out.display());
        }
        Ok(())
    }

    /// Refuses options that contradict each other or the output.
    pub(super) fn check(&self, output: PredictionForm, options: &WriteOptions) -> Result<()> {
        if let PredictionFormat::H5ad { .. } = options.format {
            if options.shard.is_some() {
                return Err(Error::usage("an .h5ad file can't be written in shards", "use --format parquet"));
            }
            if !options.files.partition_by.is_empty() {
                return Err(Error::usage("an .h5ad file has no partitions", "use --format parquet"));
            }
        }
        if options.format == PredictionFormat::Csv {
            let is_long = matches!(output, PredictionForm::LongMeans | PredictionForm::Changes);
            let hint = "use --output changes or --layout long, without --shard, --partition-by and --precision";
            let whole = options.shard.is_none() && options.files == FileOptions::default();
            if !(is_long && whole) {
                return Err(Error::usage("a .csv file is one table of changes or of means in a long layout", hint));
            }
        }
        let size = self.size(output, options)?;
        let most = match (options.format, options.files.precision) {
            (PredictionFormat::Parquet, OutputPrecision::Bfloat16) => size.value_bytes / 2,
            _ => size.value_bytes,
        };
        match options.max_bytes {
            Some(allowed) if allowed < most => Err(Error::usage(
                format!(
                    "{} would take up to {} bytes, and --max-bytes allows {}",
                    counted(size.rows, "row"),
                    grouped(most),
                    grouped(allowed)
                ),
                "ask for --output means, fewer conditions or --cells-per-condition, or allow more; --dry-run shows the size",
            )),
            _ => Ok(()),
        }
    }
}
