//! Predicted changes, gene by gene, as rows of a table.
//!
//! The first target of each job is control, predicted from the same cells: a change is the difference between two predictions, so
//! that the decoder's error on controls is not part of it, and is added to the mean of the real source cells.

use std::{f64::consts::LN_2, sync::Arc};

use arrow::{
    array::{ArrayRef, Float32Array, Float64Array, RecordBatch, StringArray, UInt64Array},
    datatypes::SchemaRef,
};
use model::saved::Model;
use stage::{BoxError, Stage};
use statistics::differential::two_sided_p;

use super::{Reading, TargetMeans, rows::label_columns};
use crate::query::{Job, Target};

/// The output genes of a table of changes.
#[derive(Debug)]
pub struct ChangedGenes {
    /// Their names.
    pub names: Vec<String>,
    /// The maximum number of rows of a target, those that change most; all by default.
    pub most: Option<usize>,
}

/// Turns predicted means into rows of [`schemas::arrow::changes_schema`], for all targets but each job's first.
#[derive(Debug)]
pub struct ChangeRows {
    model: Model,
    jobs: Arc<Vec<Job>>,
    schema: SchemaRef,
    genes: ChangedGenes,
    /// Places of the output genes among the model's; all by default.
    places: Option<Arc<Vec<i64>>>,
    /// Whether values are natural logarithms, of which a difference is one of logarithms to base 2, too; none is below 0.
    are_logarithms: bool,
    control: Option<TargetMeans>,
}

/// The changes of the genes of one target.
struct TargetChanges {
    mean: Vec<f32>,
    delta: Vec<f32>,
    standard_error: Vec<Option<f64>>,
    p: Vec<Option<f64>>,
}

impl ChangeRows {
    /// Creates a stage for the means of `jobs`, as `reading` has them.
    #[must_use]
    pub fn new(model: Model, jobs: Arc<Vec<Job>>, schema: SchemaRef, genes: ChangedGenes, reading: &Reading) -> Self {
        let are_logarithms = reading.readout != super::Readout::Expected || model.card.non_negative;
        Self { model, jobs, schema, genes, places: reading.genes.clone(), are_logarithms, control: None }
    }

    fn changes(&self, target: &Target, control: &TargetMeans, means: &TargetMeans) -> TargetChanges {
        let anchored = means.mean.iter().zip(&control.mean).zip(&means.control_mean);
        let floor = if self.are_logarithms { 0.0 } else { f32::NEG_INFINITY };
        let mean: Vec<f32> =
            anchored.map(|((mean, as_control), real)| (real + (mean - as_control)).max(floor)).collect();
        let delta = mean.iter().zip(&means.control_mean).map(|(mean, control)| mean - control).collect();
        let errors = self.model.network.offset().and_then(|offset| offset.gene_errors(&target.parts, &target.terms));
        let chosen = |all: Option<&Vec<f64>>| -> Vec<Option<f64>> {
            match (all, &self.places) {
                (None, _) => vec![None; mean.len()],
                (Some(all), None) => all.iter().copied().map(Some).collect(),
                (Some(all), Some(places)) => {
                    places.iter().map(|at| usize::try_from(*at).ok().and_then(|at| all.get(at).copied())).collect()
                }
            }
        };
        let standard_error = chosen(errors.as_ref().map(|errors| &errors.standard_error));
        let p = chosen(errors.as_ref().and_then(|errors| errors.z.as_ref()))
            .into_iter()
            .map(|z| z.map(two_sided_p))
            .collect();
        TargetChanges { delta, standard_error, p, mean }
    }

    fn rows(&self, target: &Target, control: &TargetMeans, means: &TargetMeans) -> Result<RecordBatch, BoxError> {
        let changes = self.changes(target, control, means);
        let mut places: Vec<usize> = (0..self.genes.names.len()).collect();
        if let Some(most) = self.genes.most {
            let size = |at: &usize| changes.delta[*at].abs();
            places.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
            places.truncate(most);
        }
        let rows = places.len();
        let at = |values: &[f32]| -> ArrayRef {
            Arc::new(Float32Array::from_iter_values(places.iter().map(|at| values[*at])))
        };
        let in_base_2 = |number: f64| self.are_logarithms.then_some(number / LN_2);
        #[expect(clippy::cast_possible_truncation, reason = "rounded as all other numbers are")]
        let narrow = |number: f64| number as f32;
        let fold_changes = places.iter().map(|at| in_base_2(changes.delta[*at].into()).map(narrow));
        let errors = places.iter().map(|at| changes.standard_error[*at].and_then(in_base_2).map(narrow));
        let mut columns = label_columns(target, rows);
        columns.extend([
            Arc::new(UInt64Array::from(vec![means.source_cells; rows])) as ArrayRef,
            Arc::new(Float32Array::from(vec![means.distance; rows])),
            Arc::new(StringArray::from_iter_values(places.iter().map(|at| &self.genes.names[*at]))),
            at(&means.control_mean),
            at(&changes.mean),
            at(&changes.delta),
            Arc::new(fold_changes.collect::<Float32Array>()),
            Arc::new(errors.collect::<Float32Array>()),
            Arc::new(places.iter().map(|at| changes.p[*at]).collect::<Float64Array>()),
        ]);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl Stage for ChangeRows {
    type In = TargetMeans;
    type Out = RecordBatch;

    fn push(&mut self, means: TargetMeans, emit: &mut dyn FnMut(RecordBatch)) -> Result<(), BoxError> {
        if means.target == 0 {
            self.control = Some(means);
            return Ok(());
        }
        let control = self.control.as_ref().filter(|control| control.job == means.job);
        let control = control.ok_or("a job has no prediction of control")?;
        emit(self.rows(&self.jobs[means.job].targets[means.target], control, &means)?);
        Ok(())
    }
}
