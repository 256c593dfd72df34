//! Every source cell under every target.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use tch::Tensor;

use super::{
    Reading,
    latent::{Added, basal},
    names::NamesByJob,
    rows::cell_rows,
    to_vec,
};
use crate::{
    BoxError, Stage,
    atlas::Atlas,
    model::{input::Cells, layers::Mode},
    profiles::Rows,
    query::Job,
    saved::Model,
};

/// Predicts every source cell under every target.
pub struct PredictCells {
    model: Model,
    jobs: Arc<Vec<Job>>,
    reading: Reading,
    schema: SchemaRef,
    atlas: Atlas,
    names: NamesByJob,
}

impl std::fmt::Debug for PredictCells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PredictCells").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PredictCells {
    /// A predictor of jobs; the batches of job `j` are those of epoch `j`, their cells ascending.
    #[must_use]
    pub fn new(model: Model, jobs: Arc<Vec<Job>>, atlas: Atlas, schema: SchemaRef, reading: Reading) -> Self {
        Self { model, jobs, reading, schema, names: NamesByJob::new(atlas.clone()), atlas }
    }
}

impl Stage for PredictCells {
    type In = Rows;
    type Out = RecordBatch;

    fn push(&mut self, batch: Rows, emit: &mut dyn FnMut(RecordBatch)) -> Result<(), BoxError> {
        let names = self.names.of(batch.plan.epoch, &batch.plan.cells)?;
        let _no_grad = tch::no_grad_guard();
        let network = &self.model.network;
        let cells =
            Cells::new(&batch.expression, network.genes(), network.parameters.kind(), network.parameters.device());
        let library = self.reading.library(&cells.library);
        let draws = basal(network, &cells, &self.reading, (batch.plan.epoch, batch.plan.index));
        for target in &self.jobs[batch.plan.epoch as usize].targets {
            let added = Added::of(network, target);
            let of_draw = |basal: &Tensor| {
                let output = network.decode(&(basal + added.all()), added.offset.as_ref(), &library, Mode::Eval);
                self.reading.of(&output.mean(), &library)
            };
            let sum =
                draws.iter().map(of_draw).reduce(|sum, draw| sum + draw).ok_or("a cell is drawn once at least")?;
            #[expect(clippy::cast_precision_loss, reason = "few draws")]
            let mean = if draws.len() == 1 { sum } else { sum / draws.len() as f64 };
            let expression = to_vec(&self.reading.chosen(mean))?;
            emit(cell_rows(&self.schema, &self.atlas, &batch.plan.cells, &names, target, vec![expression])?);
        }
        Ok(())
    }
}
