//! The ground truth of a simulated atlas: the true mean of every condition, dose and cell type.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt64Array},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use schemas::{Error, Result, numbers::bounded};
use stage::cast::narrow;

use super::Simulator;

/// Rows per batch of truth.
const ROWS: usize = 64;

impl Simulator {
    /// The columns of [`truth`](Self::truth).
    #[must_use]
    pub fn truth_schema(&self) -> SchemaRef {
        let genes = bounded(self.genes.len());
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        Arc::new(Schema::new(vec![
            Field::new("condition", DataType::Utf8, false),
            Field::new("dose", DataType::Utf8, false),
            Field::new("cell_type", DataType::Utf8, false),
            Field::new("cells", DataType::UInt64, false),
            Field::new("interaction", DataType::Float32, false),
            Field::new("mean", DataType::FixedSizeList(item, genes), false),
        ]))
    }

    /// The truth, a few rows at a time: one row for each condition, dose and cell type, including those without
    /// cells.
    ///
    /// `cells` is the number of cells; `mean` is the expected count of each gene in a cell of the mean library
    /// size, averaged over the batches; `interaction` is the distance of the condition from the sum of its parts:
    /// the Euclidean norm over genes of the log fold change beyond that sum (0 for control and single
    /// perturbations).
    pub fn truth(&self) -> impl Iterator<Item = Result<RecordBatch>> + '_ {
        let batches = self.settings.batches as usize;
        let mut batch_means = vec![0.0; self.genes.len()];
        for batch in 0..batches {
            for (mean, factor) in batch_means.iter_mut().zip(self.profile.batch(batch)) {
                *mean += f64::from(*factor) / batches as f64;
            }
        }
        let groups = self.layout.groups();
        (0..groups).step_by(ROWS).map(move |first| self.truth_rows(first..groups.min(first + ROWS), &batch_means))
    }

    fn truth_rows(&self, groups: std::ops::Range<usize>, batch_means: &[f64]) -> Result<RecordBatch> {
        let schema = self.truth_schema();
        let DataType::FixedSizeList(item, width) = schema.field(5).data_type().clone() else {
            return Err(Error::Bug("the truth has no means".into()));
        };
        let meaning = |group| {
            let (variant, cell_type) = self.layout.meaning(group);
            (&self.variants[variant], cell_type)
        };
        let mut expected = Vec::new();
        let mut means = Vec::with_capacity(groups.len() * self.genes.len());
        for group in groups.clone() {
            let (variant, cell_type) = meaning(group);
            self.profile.expect(&variant.treatment, cell_type, &mut expected);
            means.extend(expected.iter().zip(batch_means).map(|(mean, batch)| narrow(f64::from(*mean) * batch)));
        }
        let texts = |text: &dyn Fn(usize) -> String| -> ArrayRef {
            Arc::new(groups.clone().map(|group| Some(text(group))).collect::<StringArray>())
        };
        let cells: UInt64Array = groups.clone().map(|group| self.layout.size(group)).collect::<Vec<_>>().into();
        let interaction = groups.clone().map(|group| narrow(self.profile.interaction(&meaning(group).0.treatment)));
        let columns: Vec<ArrayRef> = vec![
            texts(&|group| meaning(group).0.label.clone()),
            texts(&|group| meaning(group).0.dose.clone()),
            texts(&|group| self.cell_types[meaning(group).1].clone()),
            Arc::new(cells),
            Arc::new(Float32Array::from_iter_values(interaction)),
            Arc::new(FixedSizeListArray::new(item, width, Arc::new(Float32Array::from(means)), None)),
        ];
        RecordBatch::try_new(schema, columns).map_err(|error| Error::Bug(error.to_string()))
    }
}
