//! The latents of every source cell under every target.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use super::{
    Reading,
    latent::{Added, basal},
    names::NamesByJob,
    rows::cell_rows,
    to_vec,
};
use crate::{BoxError, Stage, atlas::Atlas, model::input::Cells, profiles::Rows, query::Job, saved::Model};

/// Tells the latents from which source cells would be decoded under every target.
pub struct PredictLatents {
    model: Model,
    jobs: Arc<Vec<Job>>,
    schema: SchemaRef,
    atlas: Atlas,
    names: NamesByJob,
}

impl std::fmt::Debug for PredictLatents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PredictLatents").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PredictLatents {
    /// A predictor of jobs; the batches of job `j` are those of epoch `j`, their cells ascending.
    #[must_use]
    pub fn new(model: Model, jobs: Arc<Vec<Job>>, atlas: Atlas, schema: SchemaRef) -> Self {
        Self { model, jobs, schema, names: NamesByJob::new(atlas.clone()), atlas }
    }
}

impl Stage for PredictLatents {
    type In = Rows;
    type Out = RecordBatch;

    fn push(&mut self, batch: Rows, emit: &mut dyn FnMut(RecordBatch)) -> Result<(), BoxError> {
        let names = self.names.of(batch.plan.epoch, &batch.plan.cells)?;
        let _no_grad = tch::no_grad_guard();
        let network = &self.model.network;
        let cells =
            Cells::new(&batch.expression, network.genes(), network.parameters.kind(), network.parameters.device());
        let basal = basal(network, &cells, &Reading::default(), (batch.plan.epoch, batch.plan.index)).remove(0);
        for target in &self.jobs[batch.plan.epoch as usize].targets {
            let added = Added::of(network, target);
            let lists = [&basal, &(&basal + &added.without_batch), &(&basal + added.all())].map(to_vec);
            let lists = lists.into_iter().collect::<Result<Vec<_>, _>>()?;
            emit(cell_rows(&self.schema, &self.atlas, &batch.plan.cells, &names, target, lists)?);
        }
        Ok(())
    }
}
