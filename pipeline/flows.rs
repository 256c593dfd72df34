//! Which stage follows which: the only file that knows.

use std::num::NonZeroUsize;

use schemas::{
    Error, Result,
    batch::{BatchPlan, Role},
    ids::{CellIndex, RowIndex},
};
use stages::{
    BoxError,
    atlas::Atlas,
    batch::{Batch, Gatherer},
    encode::Encoder,
    profiles::Rows,
    read::Read,
};

use crate::runtime::{Capacity, Error as RunError, Outcome, Pipeline, Report, Run, Stop};

#[cfg(feature = "torch")]
pub mod choosing;
pub mod ingesting;
#[cfg(feature = "torch")]
pub mod judging;
#[cfg(feature = "torch")]
pub mod predicting;
#[cfg(feature = "hdf5")]
mod simulating;
#[cfg(feature = "torch")]
pub mod training;

/// Edges of the longest road: order, read, encode, batch, predict, rows.
const MOST_EDGES: usize = 6;

/// Rows of the matrix that a batch is drawn from when nothing but sums over cells is wanted.
#[cfg(feature = "torch")]
const SUMMED_ROWS: u64 = 512;

/// What a run may use.
#[derive(Clone, Debug)]
pub struct Resources {
    /// Worker threads of a parallel stage.
    pub threads: NonZeroUsize,
    /// Bytes that all edges together may hold.
    pub memory: usize,
    /// Ends the run early.
    pub stop: Stop,
}

impl Default for Resources {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { threads, memory: 256 << 20, stop: Stop::default() }
    }
}

impl Resources {
    /// One edge of a road: no road has more than [`MOST_EDGES`], so together they stay within the memory.
    fn edge(&self) -> Capacity {
        Capacity { items: 1 + self.threads.get(), bytes: self.memory / MOST_EDGES }
    }
}

/// `order → read → encode → batch`: the batches of some plans, with their labels coded for a model.
pub fn batches<I>(atlas: &Atlas, plans: I, encoder: Encoder, resources: &Resources) -> Pipeline<Batch>
where
    I: IntoIterator<Item = BatchPlan> + Send + 'static,
    I::IntoIter: Send,
{
    let gatherer = Gatherer::new(atlas);
    Pipeline::from_source("order", resources.edge(), Plans(plans))
        .with_stop(resources.stop.clone())
        .then("read", Read::new(atlas.clone()))
        .map("encode", resources.threads, move |pinned| encoder.encode(pinned))
        .map("batch", resources.threads, move |encoded| gatherer.gather(encoded))
}

/// `order → read → batch`: the rows of some plans, without labels.
pub fn rows<I>(atlas: &Atlas, plans: I, resources: &Resources) -> Pipeline<Rows>
where
    I: IntoIterator<Item = BatchPlan> + Send + 'static,
    I::IntoIter: Send,
{
    let gatherer = Gatherer::new(atlas);
    Pipeline::from_source("order", resources.edge(), Plans(plans))
        .with_stop(resources.stop.clone())
        .then("read", Read::new(atlas.clone()))
        .map("batch", resources.threads, move |pinned| {
            let expression = gatherer.rows(&pinned)?;
            Ok(Rows { plan: pinned.plan, expression })
        })
}

/// Some cells, as the matrix has them: every block is read once at most.
#[cfg(feature = "torch")]
fn rows_as_stored<F>(atlas: &Atlas, wanted: F) -> impl Iterator<Item = BatchPlan> + Send + use<F>
where
    F: Fn(CellIndex) -> bool + Send + 'static,
{
    let (atlas, rows) = (atlas.clone(), atlas.cells());
    (0..rows.div_ceil(SUMMED_ROWS)).map(move |index| {
        let end = rows.min((index + 1) * SUMMED_ROWS);
        let cells = (index * SUMMED_ROWS..end).map(|row| atlas.cell(RowIndex(row))).filter(|cell| wanted(*cell));
        BatchPlan { epoch: 0, index, role: Role::Source, last: end == rows, window: index, cells: cells.collect() }
    })
}

/// Plans can't fail; the runtime's sources may.
struct Plans<I>(I);

impl<I: IntoIterator<Item = BatchPlan>> IntoIterator for Plans<I> {
    type Item = Result<BatchPlan, Error>;
    type IntoIter = std::iter::Map<I::IntoIter, fn(BatchPlan) -> Result<BatchPlan, Error>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().map(Ok)
    }
}

/// The summary of a run that completed; `resume` says how to take one up that was stopped.
///
/// # Errors
/// What made the run fail, or that it was stopped.
pub fn completed<S>(run: Result<Run<S>, RunError>, resume: &str) -> Result<(S, Report)> {
    let stopped = || Error::Stopped { resume: resume.to_owned() };
    match run {
        Ok(Run { outcome: Outcome::Complete(summary), report }) => Ok((summary, report)),
        Ok(Run { outcome: Outcome::Stopped, .. }) | Err(RunError::Stopped) => Err(stopped()),
        Err(RunError::Failed { stage, cause }) => Err(cause_of(stage, cause)),
    }
}

/// The error of ours within a run's; anything else is a bug of the stage.
fn cause_of(stage: &str, cause: BoxError) -> Error {
    match cause.downcast::<Error>() {
        Ok(error) => *error,
        Err(other) => match other.downcast::<RunError>() {
            Ok(inner) => match *inner {
                RunError::Failed { stage, cause } => cause_of(stage, cause),
                other => Error::Bug(format!("stage `{stage}`: {other}")),
            },
            Err(other) => Error::Bug(format!("stage `{stage}`: {other}")),
        },
    }
}

#[cfg(feature = "hdf5")]
pub use simulating::simulate;
