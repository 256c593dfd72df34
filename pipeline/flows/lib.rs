//! The order of stages of pipelines that need no network, and what all pipelines share: their resources, their memory, how they end.
//!
//! From files to an atlas ([`ingesting`], [`simulate()`]); from an atlas to [`batches`], [`dense_batches`] and [`rows`]; from
//! predictions of any model to scores ([`judging`]). Nothing here uses libtorch: the pipelines of a model are in the crate `perturbine`,
//! built from these.
#![forbid(unsafe_code)]

use std::num::NonZeroUsize;

use batcher::{
    dense::{DenseBatch, Densifier},
    gather::Gatherer,
};
use encoder::label_encoder::LabelEncoder;
use reader::{atlas::Atlas, profiles::ExpressionRows, read_ahead::ReadAhead};
use schemas::{ByteSize, Error, Result, atlas::RowOrder, batch::BatchPlan, numbers::to_usize};
use stage::{BoxError, batch::Batch, device_failure::device_failure, phase::Phases};

use runtime::{Capacity, Outcome, Pipeline, Report, Run, RunError, Stop};

mod cell_testing;
pub mod ingesting;
pub mod judging;
pub mod memory;
mod progress;
pub mod real_cells;
#[cfg_attr(not(feature = "hdf5"), path = "no_simulating.rs")]
mod simulating;
pub mod stored_order;
pub mod trace;
pub mod truth;

pub use self::{progress::ProgressCounter, simulating::simulate};

/// The hint after a stopped run that leaves nothing behind.
pub const AGAIN: &str = "run the same command again";

/// Number of edges in the longest pipeline: source, read, annotate, cut, pack, store; one to spare.
const MOST_EDGES: usize = 6;
/// Number of edges in the longest pipeline from an atlas: read, batch, predict, rows, write.
const MOST_EDGES_BESIDE_BLOCKS: usize = 4;

/// The resources of a run.
#[derive(Clone, Debug)]
pub struct Resources {
    /// Number of worker threads of a parallel stage.
    pub threads: NonZeroUsize,
    /// Total memory of all edges, in bytes.
    pub memory: usize,
    /// A handle that stops the run.
    pub stop: Stop,
    /// Receives the phase of the run.
    pub phases: Phases,
    /// Receives the number of predicted cells.
    pub progress: ProgressCounter,
}

impl Default for Resources {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            threads,
            memory: 256 << 20,
            stop: Stop::default(),
            phases: Phases::default(),
            progress: ProgressCounter::default(),
        }
    }
}

impl Resources {
    /// The capacity of one edge: no pipeline has more than six, so together they stay within the memory.
    #[must_use]
    pub fn edge(&self) -> Capacity {
        Capacity { items: 1 + self.threads.get(), bytes: self.memory / MOST_EDGES }
    }

    /// The capacity of one edge of a pipeline from an atlas: if blocks have to be cached, they get most of the memory.
    #[must_use]
    pub fn edge_beside_blocks(&self, atlas: &Atlas) -> Capacity {
        match atlas.holds_blocks() {
            true => {
                Capacity { bytes: (self.memory - self.held_bytes(atlas)) / MOST_EDGES_BESIDE_BLOCKS, ..self.edge() }
            }
            false => self.edge(),
        }
    }

    /// Maximum bytes of unpacked blocks in a pipeline from an atlas: a quarter of the memory if rows are
    /// shuffled, half of it if they are in source order (which is a window of the default size at 320 non-zeros
    /// per cell), or all blocks if they are smaller. Blocks of a memory map belong to the kernel.
    #[must_use]
    pub fn held_bytes(&self, atlas: &Atlas) -> usize {
        if !atlas.holds_blocks() {
            return 0;
        }
        let manifest = atlas.manifest();
        let entry_bytes = (manifest.gene_width.bytes() + manifest.value_width.bytes()) as u64;
        // Each row has a pointer, and a block's arrays are aligned to 8 bytes.
        let all =
            manifest.nonzeros.saturating_mul(entry_bytes).saturating_add(5 * manifest.cells + 32 * manifest.blocks());
        let quarters = if manifest.order == RowOrder::Shuffled { 1 } else { 2 };
        (self.memory / 4 * quarters).min(to_usize(all))
    }
}

/// `order → read → batch`: the batches of some plans, with their labels coded for a model.
pub fn batches<I>(atlas: &Atlas, plans: I, encoder: LabelEncoder, resources: &Resources) -> Pipeline<Batch>
where
    I: IntoIterator<Item = BatchPlan> + Send + 'static,
    I::IntoIter: Send,
{
    batches_as(atlas, plans, encoder, resources, Ok)
}

/// The same, with `f` applied to each batch by the worker that gathers it.
pub fn batches_as<I, T, F>(atlas: &Atlas, plans: I, encoder: LabelEncoder, resources: &Resources, f: F) -> Pipeline<T>
where
    I: IntoIterator<Item = BatchPlan> + Send + 'static,
    I::IntoIter: Send,
    T: ByteSize + Send + 'static,
    F: Fn(Batch) -> Result<T> + Send + Sync + 'static,
{
    let gatherer = Gatherer::new(atlas, resources.held_bytes(atlas));
    read(atlas, plans, resources).map("batch", resources.threads, move |plan| {
        let labels = encoder.labels(&plan)?;
        Ok(f(gatherer.gather(plan, labels)?)?)
    })
}

/// `order → read → dense`: the batches of some plans as dense rows of the selected genes, with their conditions.
pub fn dense_batches<I>(atlas: &Atlas, plans: I, resources: &Resources) -> Pipeline<DenseBatch>
where
    I: IntoIterator<Item = BatchPlan> + Send + 'static,
    I::IntoIter: Send,
{
    let densifier = Densifier::new(atlas, resources.held_bytes(atlas));
    read(atlas, plans, resources).map("dense", resources.threads, move |plan| densifier.densify(plan))
}

/// `order → read → batch`: the rows of some plans, without labels.
pub fn rows<I>(atlas: &Atlas, plans: I, resources: &Resources) -> Pipeline<ExpressionRows>
where
    I: IntoIterator<Item = BatchPlan> + Send + 'static,
    I::IntoIter: Send,
{
    rows_with_listener(atlas, plans, resources, |_| {})
}

/// The same, also reporting each plan whose rows were read.
pub fn rows_with_listener<I, F>(atlas: &Atlas, plans: I, resources: &Resources, on_plan: F) -> Pipeline<ExpressionRows>
where
    I: IntoIterator<Item = BatchPlan> + Send + 'static,
    I::IntoIter: Send,
    F: Fn(&BatchPlan) + Send + Sync + 'static,
{
    let gatherer = Gatherer::new(atlas, resources.held_bytes(atlas));
    read(atlas, plans, resources).map("batch", resources.threads, move |plan| {
        let expression = gatherer.rows(&plan)?;
        on_plan(&plan);
        Ok(ExpressionRows { plan, expression })
    })
}

/// `order → read`: plans whose blocks were prefetched. Both stages take little time per plan, so they share a
/// thread.
fn read<I>(atlas: &Atlas, plans: I, resources: &Resources) -> Pipeline<BatchPlan>
where
    I: IntoIterator<Item = BatchPlan> + Send + 'static,
    I::IntoIter: Send,
{
    let (capacity, atlas) = (resources.edge_beside_blocks(atlas), atlas.clone());
    let plans = Plans(Deferred(move || ReadAhead::new(atlas, plans.into_iter())));
    Pipeline::from_source("read", capacity, plans).with_stop(resources.stop.clone())
}

/// An iterator that is created on the thread that drives it.
#[derive(Debug)]
pub struct Deferred<F>(
    /// Creates it.
    pub F,
);

impl<I: Iterator, F: FnOnce() -> I> IntoIterator for Deferred<F> {
    type Item = I::Item;
    type IntoIter = I;

    fn into_iter(self) -> I {
        self.0()
    }
}

/// Plans can't fail, but the runtime's sources may.
struct Plans<I>(I);

impl<I: IntoIterator<Item = BatchPlan>> IntoIterator for Plans<I> {
    type Item = Result<BatchPlan, Error>;
    type IntoIter = std::iter::Map<I::IntoIter, fn(BatchPlan) -> Result<BatchPlan, Error>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().map(Ok)
    }
}

/// The summary of a completed run; `resume` describes how to continue a stopped one.
///
/// # Errors
/// The failure of the run, or that it was stopped.
pub fn completed<S>(run: Result<Run<S>, RunError>, resume: &str) -> Result<(S, Report)> {
    let stopped = || Error::Stopped { resume: resume.to_owned() };
    match run {
        Ok(Run { outcome: Outcome::Complete(summary), report }) => Ok((summary, report)),
        Ok(Run { outcome: Outcome::Stopped, .. }) | Err(RunError::Stopped) => Err(stopped()),
        Err(RunError::Failed { stage, cause }) => Err(of_device(cause_of(stage, cause))),
    }
}

/// The GPU failure in a stage's error or panic, recognised by libtorch's message; any other error is returned
/// unchanged.
fn of_device(error: Error) -> Error {
    match error {
        Error::Bug(text) => device_failure(&text).unwrap_or(Error::Bug(text)),
        other => other,
    }
}

/// The library error that caused a run to fail; any other cause is a bug of the stage.
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
