//! Predicts every source cell under every target: its expression, or its latents.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use model::{expected::expected_counts, layers::Mode, network::Network, saved::Model};
use reader::{atlas::Atlas, profiles::ExpressionRows};
use schemas::{ByteSize, batch::Expression, ids::CellIndex};
use stage::{BoxError, Stage};
use tch::Tensor;
use torch::{OneThread, host_copy::to_host};

use super::{
    FEWEST_CELLS, Reading,
    latent::{TargetLatentTerms, basal},
    names::NamesByJob,
    rows::cell_rows,
    to_vec,
};
use crate::query::Job;

/// The output for a cell under a target.
#[derive(Clone, Debug)]
pub enum CellOutput {
    /// Its expression.
    Expression(Reading),
    /// Its latents: basal, corrected for the batch, and decoded.
    Latents,
}

/// Encoded source cells, ready to be predicted under one of their job's targets.
pub struct EncodedCells {
    source: Arc<SourceCells>,
    /// Indices of the job and of the target in it.
    place: (usize, usize),
    /// Basal latents, one tensor `[cells, latent]` per draw.
    draws: Vec<Tensor>,
    /// Library size of each cell, `[cells, 1]`.
    library: Tensor,
    added: TargetLatentTerms,
}

/// Source cells.
struct SourceCells {
    cells: Vec<CellIndex>,
    names: Vec<String>,
}

impl std::fmt::Debug for EncodedCells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncodedCells")
            .field("cells", &self.source.cells.len())
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl ByteSize for EncodedCells {
    fn byte_size(&self) -> usize {
        let numbers = self.draws.iter().map(Tensor::numel).sum::<usize>() + self.library.numel();
        numbers * size_of::<f32>() + self.source.names.iter().map(String::len).sum::<usize>()
    }
}

/// Encodes source cells, once for all targets of their job.
pub struct EncodeCells {
    model: Model,
    jobs: Arc<Vec<Job>>,
    output: CellOutput,
    names: NamesByJob,
    under_way: Option<UnfinishedEncoding>,
}

/// A job of which some cells have been encoded.
struct UnfinishedEncoding {
    job: usize,
    /// The latent terms of each target.
    added: Vec<TargetLatentTerms>,
}

impl std::fmt::Debug for EncodeCells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncodeCells").field("output", &self.output).finish_non_exhaustive()
    }
}

impl EncodeCells {
    /// Creates an encoder for this output; the batches of job `j` are those of pass `j`, with ascending cells.
    #[must_use]
    pub fn new(model: Model, jobs: Arc<Vec<Job>>, atlas: Atlas, output: CellOutput) -> Self {
        Self { model, jobs, output, names: NamesByJob::new(atlas), under_way: None }
    }
}

impl Stage for EncodeCells {
    type In = ExpressionRows;
    type Out = EncodedCells;

    fn push(&mut self, batch: ExpressionRows, emit: &mut dyn FnMut(EncodedCells)) -> Result<(), BoxError> {
        let _one_thread = OneThread::hold();
        let ExpressionRows { plan, mut expression } = batch;
        fill_up(&mut expression);
        let (job, names) = (plan.job(), self.names.for_cells(plan.pass, &plan.cells)?);
        let _no_grad = tch::no_grad_guard();
        let network = &self.model.network;
        if self.under_way.as_ref().is_none_or(|under_way| under_way.job != job) {
            let added = self.jobs[job].targets.iter().map(|target| TargetLatentTerms::new(network, target)).collect();
            self.under_way = Some(UnfinishedEncoding { job, added });
        }
        let cells = network.cells(&expression)?;
        let (draws, library) = match &self.output {
            CellOutput::Latents => (vec![network.encode(&cells, Mode::Eval)], cells.library.shallow_clone()),
            CellOutput::Expression(reading) => {
                (basal(network, &cells, reading, (plan.pass, plan.index)), reading.library(&cells.library))
            }
        };
        let source = Arc::new(SourceCells { cells: plan.cells, names });
        for (target, added) in self.under_way.iter().flat_map(|under_way| &under_way.added).enumerate() {
            emit(EncodedCells {
                source: Arc::clone(&source),
                place: (job, target),
                draws: draws.iter().map(Tensor::shallow_clone).collect(),
                library: library.shallow_clone(),
                added: added.shallow_clone(),
            });
        }
        Ok(())
    }
}

/// Adds empty rows to a small batch: products of matrices with a few rows are rounded otherwise, and what is predicted for a cell does not
/// depend on the number of cells beside it.
fn fill_up(expression: &mut Expression) {
    let entries = expression.row_pointers.last().copied().unwrap_or_default();
    let pointers = expression.row_pointers.len().max(FEWEST_CELLS + 1);
    expression.row_pointers.resize(pointers, entries);
}

/// Predicts encoded cells under their target, on as many threads as there are models.
pub struct PredictCells {
    // Each thread takes a model, because tensors can't be shared between threads.
    models: Mutex<Vec<Model>>,
    jobs: Arc<Vec<Job>>,
    atlas: Atlas,
    output: CellOutput,
    schema: SchemaRef,
}

impl std::fmt::Debug for PredictCells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PredictCells")
            .field("output", &self.output)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl PredictCells {
    /// Creates a predictor for cells prepared by [`EncodeCells`] for the same output, with a model for each
    /// thread.
    #[must_use]
    pub fn new(models: Vec<Model>, jobs: Arc<Vec<Job>>, atlas: Atlas, output: CellOutput, schema: SchemaRef) -> Self {
        Self { models: Mutex::new(models), jobs, atlas, output, schema }
    }

    /// One row per cell.
    ///
    /// # Errors
    /// This fails only through a bug.
    pub fn predict(&self, cells: &EncodedCells) -> Result<RecordBatch, BoxError> {
        // Cells are decoded by all threads, each of which computes by itself.
        let _one_thread = OneThread::hold();
        let models = || self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let model = models().pop().ok_or("there are more threads than models")?;
        let lists = self.lists(cells, &model.network);
        models().push(model);
        let (job, target) = cells.place;
        let computed = usize::try_from(cells.library.size()[0])?;
        let SourceCells { cells, names } = &*cells.source;
        let mut lists = lists?;
        lists.iter_mut().for_each(|list| list.truncate(list.len() / computed * cells.len()));
        cell_rows(&self.schema, &self.atlas, cells, names, &self.jobs[job].targets[target], lists)
    }

    fn lists(&self, cells: &EncodedCells, network: &Network) -> Result<Vec<Vec<f32>>, BoxError> {
        let _no_grad = tch::no_grad_guard();
        let EncodedCells { draws, library, added, .. } = cells;
        match &self.output {
            CellOutput::Latents => {
                let basal = &draws[0];
                let latents = [basal, &(basal + &added.without_batch), &(basal + added.all())];
                to_host(&latents)?.iter().map(to_vec).collect()
            }
            CellOutput::Expression(reading) => {
                let all = if reading.is_all_expected() { &draws[..] } else { &[] };
                if let [basal] = all
                    && let Some(means) =
                        expected_counts(network, &(basal + added.all()), added.offset.as_ref(), library)
                {
                    return Ok(vec![means]);
                }
                let mean = mean_of(draws, added, library, network, reading)?;
                Ok(vec![to_vec(&reading.chosen(mean))?])
            }
        }
    }
}

/// The readout of the cells, averaged over the draws of their basal latents.
fn mean_of(
    draws: &[Tensor],
    added: &TargetLatentTerms,
    library: &Tensor,
    network: &Network,
    reading: &Reading,
) -> Result<Tensor, BoxError> {
    let (all, offset) = (added.all(), added.offset.as_ref());
    let of_draw =
        |basal| reading.convert(&network.decode(&(basal + &all), offset, library, Mode::Eval).mean(), library);
    let sum = draws.iter().map(of_draw).reduce(|sum, draw| sum + draw).ok_or("a cell is drawn once at least")?;
    #[expect(clippy::cast_precision_loss, reason = "few draws")]
    let count = draws.len() as f64;
    Ok(reading.bounded(if draws.len() == 1 { sum } else { sum / count }))
}
