//! The parts into which predictions are divided.

use schemas::{Error, Result};
use stages::{
    predictor::query::{
        Target,
        parts::{FileDivision, FilePart, Yield},
    },
    sink::layout::row_bytes,
};

use super::{
    super::predicting::{Prediction, PredictionForm},
    WriteOptions,
};

impl Prediction {
    /// Number of cells that this run predicts, counted once per target: for a shard, its share.
    ///
    /// # Errors
    /// A partition column that does not exist.
    pub fn predicted_cells(&self, output: PredictionForm, options: &WriteOptions) -> Result<u64> {
        let parts = self.parts(output, options)?.into_iter().enumerate();
        let chosen = parts.filter(|(number, _)| options.shard.is_none_or(|shard| shard.has(*number)));
        let spans = chosen.flat_map(|(_, part)| part.spans);
        Ok(spans.map(|span| span.cells * self.jobs.jobs[span.job].targets.len() as u64).sum())
    }

    /// The parts of the whole plan, which depend only on model, atlas, query and output.
    pub(super) fn parts(&self, output: PredictionForm, options: &WriteOptions) -> Result<Vec<FilePart>> {
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
        let gene_count = self.terms.genes.len();
        let rows = self.terms.most_rows.map_or(gene_count, |most| most.min(gene_count)) as u64;
        let division = FileDivision {
            file_bytes: options.file_bytes,
            rows: output.yields(rows),
            row_bytes: row_bytes(&self.schema(output)),
            prediction_bytes: (self.model.card.genes.len() * size_of::<f32>()) as u64,
            folder: |target: &Target| {
                columns.iter().map(|key| key.value_for(target)).collect::<Vec<_>>().join("\u{1f}")
            },
        };
        Ok(division.parts(&self.jobs, &self.atlas))
    }

    /// Approximate maximum number of folders for the rows of a part.
    pub(super) fn folders<'a>(&self, parts: impl IntoIterator<Item = &'a FilePart>, options: &WriteOptions) -> usize {
        if options.files.partition_by.is_empty() {
            return 1;
        }
        let of_part = |part: &FilePart| part.spans.iter().map(|span| self.jobs.jobs[span.job].targets.len()).sum();
        parts.into_iter().map(of_part).max().unwrap_or(1)
    }
}

impl PredictionForm {
    /// Number of rows for a target and its source cells; `genes` is the number of rows of a target in a long table.
    fn yields(self, genes: u64) -> Yield {
        match self {
            Self::WideMeans => Yield::PerTarget(1),
            Self::LongMeans => Yield::PerTarget(genes),
            Self::Changes => Yield::PerTargetButFirst(genes),
            Self::Cells | Self::Latent => Yield::PerCell(1),
        }
    }
}

/// The partition values of a target.
#[derive(Clone, Copy)]
enum Key {
    Condition,
    Dose,
    Covariate(usize),
    Extrapolation,
}

impl Key {
    fn value_for(self, target: &Target) -> &str {
        match self {
            Self::Condition => &target.condition,
            Self::Dose => &target.dose,
            Self::Covariate(at) => &target.covariates[at],
            Self::Extrapolation => target.extrapolation.name(),
        }
    }
}
