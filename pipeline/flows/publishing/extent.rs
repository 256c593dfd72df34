//! How much predictions will be, and the parts that they are divided into.

use std::path::Path;

use schemas::{Error, Result};
use stages::{
    publish::{
        Precision,
        files::is_one_file,
        layout::{row_bytes, waiting_bytes},
    },
    query::{
        Target,
        parts::{Division, Part, Yield},
    },
};

use super::{Format, WriteOptions};
use crate::flows::predicting::{Output, Prediction};

/// Bytes of a file by those of its values: measured on expected counts, whose high bits repeat and whose low bits are noise.
const STORED_PERCENT: u64 = 80;
const STORED_PERCENT_BFLOAT16: u64 = 35;

/// How much predictions will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows, over all shards.
    pub rows: u64,
    /// Bytes of their values, uncompressed.
    pub value_bytes: u64,
    /// Bytes of the files, roughly.
    pub file_bytes: u64,
    /// Files that come out, or folders' worth of them where there are partitions.
    pub parts: usize,
    /// Bytes of values that wait in memory for their row groups, at most.
    pub waiting_bytes: u64,
}

impl Size {
    /// Files that come out of predictions that go to `out`, partitions left aside.
    #[must_use]
    pub fn files(&self, out: Option<&Path>) -> usize {
        let single = out.is_some_and(|out| is_one_file(out) || out.extension().is_some_and(|end| end == "h5ad"));
        if single { 1 } else { self.parts }
    }
}

impl Prediction {
    /// How much will be written.
    ///
    /// # Errors
    /// A column to partition by that there is not.
    pub fn size(&self, output: Output, options: &WriteOptions) -> Result<Size> {
        let parts = self.parts(output, options)?;
        let schema = self.schema(output);
        let mut rows: u64 = parts.iter().map(|part| part.rows).sum();
        if options.format == (Format::H5ad { with_controls: true }) {
            rows += stages::publish::controls::control_cells(&self.atlas, self.contexts()).count() as u64;
        }
        let value_bytes = rows * row_bytes(&schema);
        let percent = match (options.format, options.files.precision) {
            (Format::H5ad { .. }, _) => 100,
            (Format::Parquet, Precision::Single) => STORED_PERCENT,
            (Format::Parquet, Precision::Bfloat16) => STORED_PERCENT_BFLOAT16,
        };
        let waiting_bytes = match options.format {
            Format::H5ad { .. } => 0,
            Format::Parquet => waiting_bytes(self.folders(&parts, options)),
        };
        Ok(Size { rows, value_bytes, file_bytes: value_bytes / 100 * percent, parts: parts.len(), waiting_bytes })
    }

    /// How many cells this run predicts, each counted for every target: of a shard, its share.
    ///
    /// # Errors
    /// A column to partition by that there is not.
    pub fn predicted_cells(&self, output: Output, options: &WriteOptions) -> Result<u64> {
        let parts = self.parts(output, options)?.into_iter().enumerate();
        let chosen = parts.filter(|(number, _)| options.shard.is_none_or(|shard| shard.has(*number)));
        let spans = chosen.flat_map(|(_, part)| part.spans);
        Ok(spans.map(|span| span.cells * self.jobs.jobs[span.job].targets.len() as u64).sum())
    }

    /// The parts of the whole plan: a function of model, atlas, query and output alone.
    pub(super) fn parts(&self, output: Output, options: &WriteOptions) -> Result<Vec<Part>> {
        let vocabulary = &self.model.card.vocabulary;
        let mut columns = Vec::new();
        for name in &options.files.partition_by {
            columns.push(match name.as_str() {
                "condition" => Key::Condition,
                "dose" => Key::Dose,
                "extrapolation" => Key::Extrapolation,
                name => {
                    let known = vocabulary.covariates.iter().map(|covariate| covariate.name.as_str());
                    let at = known.clone().position(|covariate| covariate == name);
                    let columns = ["condition", "dose", "extrapolation"].into_iter().chain(known);
                    Key::Covariate(at.ok_or_else(|| Error::unknown("column to partition by", name, columns))?)
                }
            });
        }
        let told = self.terms.genes.len();
        let rows = self.terms.most_rows.map_or(told, |most| most.min(told)) as u64;
        let division = Division {
            file_bytes: options.file_bytes,
            rows: output.yields(rows),
            row_bytes: row_bytes(&self.schema(output)),
            prediction_bytes: (self.model.card.genes.len() * size_of::<f32>()) as u64,
            folder: |target: &Target| columns.iter().map(|key| key.of(target)).collect::<Vec<_>>().join("\u{1f}"),
        };
        Ok(division.parts(&self.jobs, &self.atlas))
    }

    /// Folders that the rows of a part go to, about: the most of any.
    pub(super) fn folders<'a>(&self, parts: impl IntoIterator<Item = &'a Part>, options: &WriteOptions) -> usize {
        if options.files.partition_by.is_empty() {
            return 1;
        }
        let of_part = |part: &Part| part.spans.iter().map(|span| self.jobs.jobs[span.job].targets.len()).sum();
        parts.into_iter().map(of_part).max().unwrap_or(1)
    }
}

impl Output {
    /// What rows come out of a target and its source cells; `genes` are the rows of a target in a long table.
    fn yields(self, genes: u64) -> Yield {
        match self {
            Self::WideMeans => Yield::PerTarget(1),
            Self::LongMeans => Yield::PerTarget(genes),
            Self::Cells | Self::Latent => Yield::PerCell(1),
        }
    }
}

/// What a partition's folders tell of a target.
#[derive(Clone, Copy)]
enum Key {
    Condition,
    Dose,
    Covariate(usize),
    Extrapolation,
}

impl Key {
    fn of(self, target: &Target) -> &str {
        match self {
            Self::Condition => &target.condition,
            Self::Dose => &target.dose,
            Self::Covariate(at) => &target.covariates[at],
            Self::Extrapolation => target.extrapolation.name(),
        }
    }
}
