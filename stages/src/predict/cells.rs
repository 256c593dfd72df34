//! Every source cell under every target: its expression, or its latents.

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
    model::{layers::Mode, network::Network},
    profiles::Rows,
    query::Job,
    saved::Model,
};

/// Predicts every source cell under every target.
pub struct PredictCells {
    model: Model,
    jobs: Arc<Vec<Job>>,
    told: Told,
    schema: SchemaRef,
    atlas: Atlas,
    names: NamesByJob,
    under_way: Option<UnderWay>,
}

/// What is told of a cell under a target.
#[derive(Debug)]
enum Told {
    /// Its expression.
    Expression(Reading),
    /// Its latents: basal, corrected for the batch, and as they are decoded.
    Latents,
}

/// A job some of whose cells have been predicted.
struct UnderWay {
    job: u32,
    /// What each target adds.
    added: Vec<Added>,
}

impl std::fmt::Debug for PredictCells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PredictCells").field("told", &self.told).field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PredictCells {
    /// A predictor of expression; the batches of job `j` are those of epoch `j`, their cells ascending.
    #[must_use]
    pub fn new(model: Model, jobs: Arc<Vec<Job>>, atlas: Atlas, schema: SchemaRef, reading: Reading) -> Self {
        Self::telling(Told::Expression(reading), model, jobs, atlas, schema)
    }

    /// A predictor of the latents that would be decoded.
    #[must_use]
    pub fn latents(model: Model, jobs: Arc<Vec<Job>>, atlas: Atlas, schema: SchemaRef) -> Self {
        Self::telling(Told::Latents, model, jobs, atlas, schema)
    }

    fn telling(told: Told, model: Model, jobs: Arc<Vec<Job>>, atlas: Atlas, schema: SchemaRef) -> Self {
        Self { model, jobs, told, schema, names: NamesByJob::new(atlas.clone()), atlas, under_way: None }
    }
}

impl Stage for PredictCells {
    type In = Rows;
    type Out = RecordBatch;

    fn push(&mut self, batch: Rows, emit: &mut dyn FnMut(RecordBatch)) -> Result<(), BoxError> {
        let plan = &batch.plan;
        let names = self.names.of(plan.epoch, &plan.cells)?;
        let _no_grad = tch::no_grad_guard();
        let (network, targets) = (&self.model.network, &self.jobs[plan.epoch as usize].targets);
        let cells = network.cells(&batch.expression);
        if self.under_way.as_ref().is_none_or(|under_way| under_way.job != plan.epoch) {
            let added = targets.iter().map(|target| Added::of(network, target)).collect();
            self.under_way = Some(UnderWay { job: plan.epoch, added });
        }
        let added = self.under_way.iter().flat_map(|under_way| &under_way.added);
        let mut tell = |target, lists| -> Result<(), BoxError> {
            emit(cell_rows(&self.schema, &self.atlas, &plan.cells, &names, target, lists)?);
            Ok(())
        };
        match &self.told {
            Told::Latents => {
                let basal = network.encode(&cells, Mode::Eval);
                for (target, added) in targets.iter().zip(added) {
                    let lists = [&basal, &(&basal + &added.without_batch), &(&basal + added.all())].map(to_vec);
                    tell(target, lists.into_iter().collect::<Result<Vec<_>, _>>()?)?;
                }
            }
            Told::Expression(reading) => {
                let library = reading.library(&cells.library);
                let draws = basal(network, &cells, reading, (plan.epoch, plan.index));
                for (target, added) in targets.iter().zip(added) {
                    let mean = mean_of(&draws, added, &library, network, reading)?;
                    tell(target, vec![to_vec(&reading.chosen(mean))?])?;
                }
            }
        }
        Ok(())
    }
}

/// What is read of the cells, averaged over the draws of their basal latents.
fn mean_of(
    draws: &[Tensor],
    added: &Added,
    library: &Tensor,
    network: &Network,
    reading: &Reading,
) -> Result<Tensor, BoxError> {
    let (all, offset) = (added.all(), added.offset.as_ref());
    let of_draw = |basal| reading.of(&network.decode(&(basal + &all), offset, library, Mode::Eval).mean(), library);
    let sum = draws.iter().map(of_draw).reduce(|sum, draw| sum + draw).ok_or("a cell is drawn once at least")?;
    #[expect(clippy::cast_precision_loss, reason = "few draws")]
    let count = draws.len() as f64;
    Ok(if draws.len() == 1 { sum } else { sum / count })
}
