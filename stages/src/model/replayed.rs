//! Steps that a GPU captures once as a graph and then replays.
//!
//! Launching a hundred kernels one by one takes longer than running them. So all inputs that differ from step to step are copied to
//! fixed buffers: the batch's bytes, and the other inputs from the host ([`Controls`]). Then the work is always the same: it is
//! captured ([`Graph`]), one graph per layout of a batch and kind of step, and replayed from then on. Without a GPU, the
//! same work runs kernel by kernel and gives the same numbers.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use schemas::{Error, Result};
use tch::{Device, Tensor};

use super::{
    ahead::Ahead,
    carried::{Beside, Carried},
    draws::Draws,
    input::Input,
    launched::{self, Control, Controls, StepInput},
    parcel::Layout,
    schedule::Schedule,
    step::{Engine, Learner, StepLosses},
};
use crate::{
    device_kernels::losses::LossSums,
    libtorch::{Graph, Stream, empty_cache, lacks_graphs, launch::lacks_kernels, synchronise},
};

/// Maximum number of graphs; the least recently used one is replaced.
const MOST_GRAPHS: usize = 32;

/// Steps of custom kernels, replayed on a GPU.
#[derive(Debug)]
pub struct Replayed {
    memory: RefCell<Memory>,
    /// The stream of all work, and the previous stream to restore.
    streams: Option<[Stream; 2]>,
}

/// The properties that distinguish steps with different work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Work {
    layout: Layout,
    turn: Turn,
}

/// The sides that learn, and their inputs other than the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Turn {
    adversarial: bool,
    autoencoder_learns: bool,
    adversaries_learn: bool,
    has_offset: bool,
    has_sources: bool,
    is_mixed: bool,
}

/// Fixed buffers for the inputs of batches of one layout.
#[derive(Debug)]
struct Place {
    bytes: Tensor,
    controls: Controls,
}

impl Place {
    fn of(carried: &Carried) -> Self {
        Self { bytes: carried.place(), controls: Controls::new(carried.layout.cells(), carried.device()) }
    }

    fn shallow_clone(&self) -> Self {
        Self { bytes: self.bytes.shallow_clone(), controls: self.controls.shallow_clone() }
    }
}

/// The state of a kind of work.
#[derive(Debug)]
struct Known {
    /// The sums of its steps' measurements.
    sums: Rc<LossSums>,
    /// The graph, and the addresses of its losses.
    graph: Option<(Graph, StepLosses)>,
    /// The last step that used it.
    last: u64,
}

#[derive(Debug, Default)]
struct Memory {
    known: HashMap<Work, Known>,
    places: HashMap<Layout, Place>,
    /// Number of steps so far. The first is never captured, because libtorch initialises itself during it.
    steps: u64,
    ahead: Ahead,
    /// Why nothing is captured.
    lacks: Option<String>,
}

impl Replayed {
    /// Why steps of a learner can't be replayed, if they can't.
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
            Device::Cuda(index) => {
                // Earlier work was given to another stream.
                synchronise(index)?;
                let own = Stream::of_pool(index)?;
                let before = own.enter()?;
                (Some([own, before]), lacks_graphs())
            }
            _ => (None, Some("there is no GPU".to_owned())),
        };
        if let (Some(why), Device::Cuda(_)) = (&lacks, device) {
            tracing::warn!("steps are computed piece by piece: {why}");
        }
        Ok(Self { memory: RefCell::new(Memory { lacks, ..Memory::default() }), streams })
    }

    /// Number of graphs.
    #[must_use]
    pub fn graphs(&self) -> usize {
        self.memory.borrow().known.values().filter(|known| known.graph.is_some()).count()
    }

    /// Runs everything kernel by kernel, for comparison with replay.
    #[must_use]
    pub fn without_graphs(self) -> Self {
        self.memory.borrow_mut().lacks = Some("it was asked for".to_owned());
        self
    }
}

impl Drop for Replayed {
    fn drop(&mut self) {
        if let Some([own, before]) = &self.streams {
            // The other stream waits for this one's work. A lost device does no harm here.
            let _ = own.event().and_then(|event| before.awaits(&event)).and_then(|()| before.enter());
        }
    }
}

impl Engine for Replayed {
    /// # Panics
    /// Always: its batches are transferred, even into host memory.
    fn step(&self, _: &mut Learner, _: &Input, _: &Draws, _: Schedule) -> StepLosses {
        unreachable!("batches are carried to a step that is replayed")
    }

    fn step_on(
        &self,
        learner: &mut Learner,
        (carried, beside): (&mut Carried, &Beside<'_>),
        draws: &Draws,
        schedule: Schedule,
    ) -> Result<StepLosses> {
        let layout = carried.layout.clone();
        let mut memory = self.memory.borrow_mut();
        let place = memory.places.entry(layout.clone()).or_insert_with(|| Place::of(carried));
        carried.put(&mut place.bytes)?;
        place.controls.put(launched::Given {
            rates: learner.rates(schedule),
            schedule,
            seed: draws.seed,
            rows: beside.offset.as_ref().map_or(&[], |(_, rows)| rows),
            sources: beside.sources.as_deref().unwrap_or_default(),
            mixup: draws.mixup.as_ref().map(|mixup| (&*mixup.partners, mixup.share)),
        })?;
        let place = place.shallow_clone();
        if let Some([own, _]) = &self.streams {
            memory.ahead.given(own)?;
        }
        let Schedule { adversarial, autoencoder_learns, adversaries_learn, .. } = schedule;
        let (has_offset, has_sources) = (beside.offset.is_some(), beside.sources.is_some());
        let is_mixed = draws.mixup.is_some();
        let turn = Turn { adversarial, autoencoder_learns, adversaries_learn, has_offset, has_sources, is_mixed };
        let work = Work { layout: layout.clone(), turn };
        let device = carried.device();
        memory.step(work, device, |sums| {
            let network = &learner.network;
            let (kind, of_counts) = (network.parameters.kind(), network.decoder.is_of_counts());
            let mixing = is_mixed.then(|| place.controls.mixing());
            let input = StepInput {
                batch: layout.packed(&place.bytes).unpack(layout.genes(), kind, of_counts, mixing),
                rows: launched::needs_rows(network).then(|| layout.input(&place.bytes, kind).cells),
                controls: &place.controls,
                offsets: beside.offset.as_ref().map(|(table, _)| *table),
                has_sources,
            };
            let losses = launched::step(learner, &input, schedule);
            let numbers: Vec<&Tensor> = losses.values.iter().map(|(_, number)| number).collect();
            sums.add(&numbers, &place.controls.whole(Control::Batch));
            StepLosses { sums: Some(sums), ..losses }
        })
    }
}

impl Memory {
    /// Runs a step with the graph of its kind of work, which is captured first if there is none yet.
    fn step(
        &mut self,
        work: Work,
        device: Device,
        compute: impl FnOnce(Rc<LossSums>) -> StepLosses,
    ) -> Result<StepLosses> {
        self.steps += 1;
        // Sums are allocated before any step is captured, so that they are permanent.
        let new = || Known { sums: Rc::new(LossSums::new(device)), graph: None, last: 0 };
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
        let like = self.known.values().find_map(|known| known.graph.as_ref().map(|(graph, _)| graph));
        let (graph, losses) = Graph::note(like, || Ok(compute(sums))).map_err(not_captured)?;
        graph.replay()?;
        let replayed = losses.shallow_clone();
        if let Some(known) = self.known.get_mut(&work) {
            known.graph = Some((graph, losses));
        }
        Ok(replayed)
    }

    /// Drops the least recently used graph, if there are as many as the limit.
    fn make_room(&mut self) {
        let graphs = || self.known.values().filter(|known| known.graph.is_some());
        let Some(oldest) = graphs().map(|known| known.last).min().filter(|_| MOST_GRAPHS <= graphs().count()) else {
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
