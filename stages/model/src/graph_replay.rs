//! Steps that a GPU captures once as a graph and then replays.
//!
//! Launching a hundred kernels one by one takes longer than running them. Therefore all inputs that differ
//! from step to step, the batch and the numbers of `StepNumbers`, reach the device in one copy
//! ([`transfer`](super::transfer)), and a step reads them from a fixed place. The work is then always the
//! same: it is captured once ([`CudaGraph`]), with one graph per layout of a batch and kind of step, and replayed
//! from then on. Without a GPU, the same work runs kernel by kernel and gives the same numbers.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    rc::Rc,
};

use device_kernels::losses::LossSums;
use schemas::{Error, Result};
use tch::{Device, Tensor};
use torch::{CudaGraph, empty_cache, lacks_graphs, launch::lacks_kernels};

use super::{
    backpressure::Backpressure,
    draws::StepDraws,
    input::Input,
    launched::{self, StepInput},
    packed_batch::{PackedBatch, PackedLayout},
    schedule::Schedule,
    step::{Engine, Learner, StepLosses},
    step_numbers::{Control, StepNumbers},
    transfer::{BatchBuffers, StepExtras, Streams},
};

/// Maximum number of graphs; the least recently used one is replaced.
const MOST_GRAPHS: usize = 32;

/// Steps of custom kernels, replayed on a GPU.
#[derive(Debug)]
pub struct GraphReplay {
    /// `None` without a GPU.
    streams: Option<Streams>,
    memory: RefCell<ReplayMemory>,
}

/// The properties that distinguish steps with different work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct StepWork {
    layout: PackedLayout,
    kind: StepKind,
}

/// The sides that learn, and their inputs other than the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct StepKind {
    adversarial: bool,
    autoencoder_learns: bool,
    adversaries_learn: bool,
    has_offset: bool,
    has_sources: bool,
    is_mixed: bool,
}

/// The state of a kind of work.
#[derive(Debug)]
struct CapturedWork {
    /// The sums of its steps' measurements.
    sums: Rc<LossSums>,
    /// The graph, and the addresses of its losses.
    graph: Option<(CudaGraph, StepLosses)>,
    /// The number of the last step that used it.
    last: u64,
}

#[derive(Debug, Default)]
struct ReplayMemory {
    buffers: HashMap<PackedLayout, BatchBuffers>,
    graphs: CapturedGraphs,
    backpressure: Backpressure,
}

#[derive(Debug, Default)]
struct CapturedGraphs {
    known: HashMap<StepWork, CapturedWork>,
    /// Number of steps so far. The first is never captured, because libtorch initialises itself during it.
    steps: u64,
    /// The reason why nothing is captured, if there is one.
    lacks: Option<String>,
}

impl GraphReplay {
    /// Why steps of a learner can't be replayed; `None` if they can.
    #[must_use]
    pub fn lacks(learner: &Learner) -> Option<String> {
        launched::lacks(learner).map(str::to_owned).or_else(|| lacks_kernels(learner.network.parameters.device()))
    }

    /// Prepares a learner for replay: state that changes from step to step moves to its device.
    ///
    /// # Errors
    /// A lost device.
    pub fn new(learner: &mut Learner) -> Result<Self> {
        let device = learner.network.parameters.device();
        learner.keep_on_device();
        let (streams, lacks) = match device {
            Device::Cuda(index) => (Some(Streams::enter(index)?), lacks_graphs()),
            _ => (None, Some("there is no GPU".to_owned())),
        };
        if let (Some(why), Device::Cuda(_)) = (&lacks, device) {
            tracing::warn!("steps are computed piece by piece: {why}");
        }
        let graphs = CapturedGraphs { lacks, ..CapturedGraphs::default() };
        Ok(Self { streams, memory: RefCell::new(ReplayMemory { graphs, ..ReplayMemory::default() }) })
    }

    /// Number of graphs.
    #[must_use]
    pub fn graphs(&self) -> usize {
        self.memory.borrow().graphs.captured().count()
    }

    /// Runs everything kernel by kernel, for comparison with replay.
    #[must_use]
    pub fn without_graphs(self) -> Self {
        self.memory.borrow_mut().graphs.lacks = Some("it was asked for".to_owned());
        self
    }
}

impl Engine for GraphReplay {
    /// # Panics
    /// Always: this engine's batches are packed, even in host memory.
    fn step(&self, _: &mut Learner, _: &Input, _: &StepDraws, _: Schedule) -> StepLosses {
        unreachable!("batches are packed for a step that is replayed")
    }

    fn step_on(
        &self,
        learner: &mut Learner,
        batch: &mut PackedBatch,
        extras: &StepExtras<'_>,
        draws: &StepDraws,
        schedule: Schedule,
    ) -> Result<StepLosses> {
        let numbers = StepNumbers {
            rates: learner.rates(schedule),
            schedule,
            seed: draws.seed,
            rows: extras.offset.as_ref().map_or(&[], |(_, rows)| rows),
            sources: extras.sources.as_deref().unwrap_or_default(),
            mixup: draws.mixup.as_ref().map(|mixup| (&*mixup.partners, mixup.share)),
        };
        let mut memory = self.memory.borrow_mut();
        let offsets = extras.offset.as_ref().map(|(table, _)| *table);
        let losses = memory.step(self.streams.as_ref(), learner, batch, &numbers, offsets);
        if losses.is_err() {
            // There may be a batch on the device that no step will take.
            memory.forget(&batch.layout);
        }
        losses
    }
}

impl ReplayMemory {
    /// Sends a batch to the device, and submits the step that takes it.
    fn step(
        &mut self,
        streams: Option<&Streams>,
        learner: &mut Learner,
        batch: &mut PackedBatch,
        numbers: &StepNumbers<'_>,
        offsets: Option<&Tensor>,
    ) -> Result<StepLosses> {
        let (layout, device) = (batch.layout.clone(), learner.network.parameters.device());
        let buffers = match self.buffers.entry(layout.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(BatchBuffers::new(layout.clone(), device, streams)?),
        };
        buffers.send(batch, numbers, streams)?;
        let schedule = numbers.schedule;
        let Schedule { adversarial, autoencoder_learns, adversaries_learn, .. } = schedule;
        let (has_offset, has_sources) = (offsets.is_some(), !numbers.sources.is_empty());
        let is_mixed = numbers.mixup.is_some();
        let kind = StepKind { adversarial, autoencoder_learns, adversaries_learn, has_offset, has_sources, is_mixed };
        let losses = self.graphs.step(StepWork { layout: layout.clone(), kind }, device, |sums| {
            buffers.take();
            let network = &learner.network;
            let (place, controls) = (buffers.place(), buffers.controls());
            let (kind, of_counts) = (network.parameters.kind(), network.decoder.is_of_counts());
            let mixing = is_mixed.then(|| controls.mixing());
            let input = StepInput {
                batch: layout.packed(place).unpack(layout.genes(), kind, of_counts, mixing),
                rows: launched::needs_rows(network).then(|| layout.input(place, kind).cells),
                controls: &controls,
                offsets,
                has_sources,
            };
            let losses = launched::step(learner, &input, schedule);
            let values: Vec<&Tensor> = losses.values.iter().map(|(_, value)| value).collect();
            sums.add(&values, &controls.whole(Control::Batch));
            StepLosses { sums: Some(sums), ..losses }
        })?;
        if let Some(streams) = streams {
            buffers.step_given(streams)?;
            self.backpressure.given(&streams.compute)?;
        }
        Ok(losses)
    }

    /// Drops the buffers of a layout, and the graphs that use them.
    fn forget(&mut self, layout: &PackedLayout) {
        self.buffers.remove(layout);
        self.graphs.known.retain(|work, _| work.layout != *layout);
    }
}

impl CapturedGraphs {
    /// Runs a step with the graph of its kind of work, which is captured first if there is none yet.
    fn step(
        &mut self,
        work: StepWork,
        device: Device,
        compute: impl FnOnce(Rc<LossSums>) -> StepLosses,
    ) -> Result<StepLosses> {
        self.steps += 1;
        // Sums are allocated before any step is captured, so that they are permanent.
        let new = || CapturedWork { sums: Rc::new(LossSums::new(device)), graph: None, last: 0 };
        let known = self.known.entry(work.clone()).or_insert_with(new);
        known.last = self.steps;
        if let Some((graph, losses)) = &known.graph {
            graph.replay()?;
            return Ok(losses.shallow_clone());
        }
        let sums = Rc::clone(&known.sums);
        if self.steps == 1 || self.lacks.is_some() {
            return Ok(compute(sums));
        }
        // A graph has its own memory; memory of earlier steps would stay allocated next to it.
        empty_cache()?;
        self.make_room();
        let like = self.captured().find_map(|known| known.graph.as_ref().map(|(graph, _)| graph));
        let (graph, losses) = CudaGraph::note(like, || Ok(compute(sums))).map_err(not_captured)?;
        graph.replay()?;
        let replayed = losses.shallow_clone();
        if let Some(known) = self.known.get_mut(&work) {
            known.graph = Some((graph, losses));
        }
        Ok(replayed)
    }

    /// The kinds of work that have a graph.
    fn captured(&self) -> impl Iterator<Item = &CapturedWork> {
        self.known.values().filter(|known| known.graph.is_some())
    }

    /// Drops the least recently used graph, if there are as many as the limit.
    fn make_room(&mut self) {
        let oldest = self.captured().map(|known| known.last).min();
        let Some(oldest) = oldest.filter(|_| self.captured().count() >= MOST_GRAPHS) else {
            return;
        };
        self.known.values_mut().filter(|known| known.last == oldest).for_each(|known| known.graph = None);
    }
}

/// The error that ends a run when a step could not be captured: libtorch's allocator and generator remain in capture mode, so nothing
/// can be computed after it.
fn not_captured(error: Error) -> Error {
    let why = match error {
        Error::DeviceMemory { .. } | Error::Device { .. } => return error,
        Error::Bug(why) => why,
        other => other.to_string(),
    };
    Error::Device {
        message: format!("a step could not be captured as a CUDA graph ({why})"),
        hint: "train again with --set train.engine=plain, which captures none".to_owned(),
    }
}
