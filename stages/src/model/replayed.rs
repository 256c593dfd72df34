//! Steps of fixed shapes, which a GPU notes once as a graph and replays as a whole.
//!
//! A step is a thousand small pieces of work, and to hand them out one by one takes longer than to do them. So everything that
//! differs from step to step is brought to a place that stays: the batch's bytes, learning rates, weights of losses, counts of
//! steps, all on the device. Then the work is the same each time; after some steps it is noted ([`Graph`]), one graph for each
//! layout of a batch and each turn of the schedule, and from then on replayed. Where that can't be, on a CPU or without the
//! library for it, the same work is done piece by piece, and gives the same numbers.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use schemas::{Error, Result, config::Doser};
use tch::{Device, Kind, Tensor};

use super::{
    ahead::Ahead,
    carried::{Beside, Carried, put_codes},
    draws::Draws,
    few_passes::FewPasses,
    input::Input,
    launched::{self, Control, Controls, StepInput},
    parcel::Layout,
    schedule::Schedule,
    step::{Engine, Learner, StepLosses, turns},
};
use crate::{
    device_kernels::losses::LossSums,
    libtorch::{Graph, Stream, empty_cache, lacks_graphs, launch::lacks_kernels, synchronise},
};

/// Graphs that are kept; the one that was not used for longest gives way to a new one.
const MOST_GRAPHS: usize = 32;

/// Steps by libtorch's operations, replayed where there is a GPU.
#[derive(Debug)]
pub struct Replayed {
    memory: RefCell<Memory>,
    /// The stream of all work while this is there, and the one to go back to.
    streams: Option<[Stream; 2]>,
    /// Whether steps are made of kernels of our own.
    is_launched: bool,
}

/// What differs between two steps that are not the same work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Work {
    layout: Layout,
    turn: Turn,
}

/// Whose turn it is, and what it learns from beside a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Turn {
    adversarial: bool,
    autoencoder_learns: bool,
    adversaries_learn: bool,
    has_offset: bool,
    has_sources: bool,
    is_mixed: bool,
}

/// Where what differs between batches of one layout is brought to.
#[derive(Debug)]
struct Place {
    bytes: Tensor,
    /// Rows of offsets, and cells that are decoded from, `[cells]` each.
    rows: Tensor,
    sources: Tensor,
    controls: Controls,
}

impl Place {
    fn of(carried: &Carried) -> Self {
        let codes = || Tensor::zeros([carried.layout.cells()], (Kind::Int64, carried.device()));
        let controls = Controls::new(carried.layout.cells(), carried.device());
        Self { bytes: carried.place(), rows: codes(), sources: codes(), controls }
    }

    fn shallow_clone(&self) -> Self {
        let Self { bytes, rows, sources, controls } = self;
        let [bytes, rows, sources] = [bytes, rows, sources].map(Tensor::shallow_clone);
        Self { bytes, rows, sources, controls: controls.shallow_clone() }
    }
}

/// What is known of a kind of work.
#[derive(Debug)]
struct Known {
    /// What its steps add their numbers to, where they do so themselves.
    sums: Option<Rc<LossSums>>,
    /// The work as a graph, with where its losses lie.
    graph: Option<(Graph, StepLosses)>,
    /// The step that did it last.
    last: u64,
}

#[derive(Debug, Default)]
struct Memory {
    known: HashMap<Work, Known>,
    places: HashMap<Layout, Place>,
    /// Turns that were computed before: libtorch has made what it makes when it is first asked, and their work can be captured.
    computed: HashSet<Turn>,
    steps: u64,
    ahead: Ahead,
    /// Why nothing is captured.
    lacks: Option<String>,
}

impl Replayed {
    /// Why steps of a learner can't be replayed, if they can't.
    #[must_use]
    pub fn lacks(learner: &Learner) -> Option<&'static str> {
        let plan = &learner.plan;
        let why = [
            (1 < plan.train.accumulate, "train.accumulate makes steps of several batches"),
            (plan.train.checkpointing, "train.checkpointing recomputes what it needs"),
            (
                0.0 < plan.train.mixup_alpha && launched::lacks(learner).is_some(),
                "cells that are mixed have another number of non-zeros each time",
            ),
            (plan.model.doser_type == Doser::Mlp, "model.doser_type = mlp looks for pairs of a batch that are alike"),
        ];
        why.into_iter().find_map(|(lacks, why)| lacks.then_some(why))
    }

    /// Readies a learner to be replayed: what differs from step to step moves to its device.
    ///
    /// # Errors
    /// A device that is gone.
    pub fn new(learner: &mut Learner) -> Result<Self> {
        let device = learner.network.parameters.device();
        learner.keep_on_device();
        let (streams, lacks) = match device {
            Device::Cuda(index) => {
                // What was done so far was given to another stream.
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
        let lacks_kernels = launched::lacks(learner).map(str::to_owned).or_else(|| lacks_kernels(device));
        if let (Some(why), Device::Cuda(_)) = (&lacks_kernels, device) {
            tracing::info!("steps are made of libtorch's operations, and not of kernels of our own: {why}");
        }
        if lacks_kernels.is_none() {
            learner.network.keep_rounded();
        }
        let memory = RefCell::new(Memory { lacks, ..Memory::default() });
        Ok(Self { memory, streams, is_launched: lacks_kernels.is_none() })
    }

    /// How many graphs there are.
    #[must_use]
    pub fn graphs(&self) -> usize {
        self.memory.borrow().known.values().filter(|known| known.graph.is_some()).count()
    }

    /// Computes no more than piece by piece: what replaying is compared with.
    #[must_use]
    pub fn without_graphs(self) -> Self {
        self.memory.borrow_mut().lacks = Some("it was asked for".to_owned());
        self
    }
}

impl Drop for Replayed {
    fn drop(&mut self) {
        if let Some([own, before]) = &self.streams {
            // The other stream waits for what this one was given. A device that is gone does no harm here.
            let _ = own.event().and_then(|event| before.awaits(&event)).and_then(|()| before.enter());
        }
    }
}

impl Engine for Replayed {
    fn step(&self, learner: &mut Learner, input: &Input, draws: &Draws, schedule: Schedule) -> StepLosses {
        learner.set_on_device(schedule);
        turns(&FewPasses, learner, input, draws, schedule)
    }

    fn step_on(
        &self,
        learner: &mut Learner,
        (carried, beside): (&mut Carried, &Beside<'_>),
        draws: &Draws,
        schedule: Schedule,
    ) -> Result<StepLosses> {
        let is_mixed = draws.mixup.is_some();
        if is_mixed && !self.is_launched || draws.noise.is_some() || Self::lacks(learner).is_some() {
            let input = beside.complete(carried.input(learner.network.parameters.kind())?);
            return Ok(self.step(learner, &input, draws, schedule));
        }
        let layout = carried.layout.clone();
        let mut memory = self.memory.borrow_mut();
        let place = memory.places.entry(layout.clone()).or_insert_with(|| Place::of(carried));
        carried.put(&mut place.bytes)?;
        if self.is_launched {
            place.controls.put(launched::Given {
                rates: learner.rates(schedule),
                schedule,
                seed: draws.seed,
                rows: beside.offset.as_ref().map_or(&[], |(_, rows)| rows),
                sources: beside.sources.as_deref().unwrap_or_default(),
                mixup: draws.mixup.as_ref().map(|mixup| (&*mixup.partners, mixup.share)),
            })?;
        } else {
            learner.set_on_device(schedule);
            if let Some((_, rows)) = &beside.offset {
                put_codes(rows, &mut place.rows)?;
            }
            if let Some(sources) = &beside.sources {
                put_codes(sources, &mut place.sources)?;
            }
        }
        let place = place.shallow_clone();
        if let Some([own, _]) = &self.streams {
            memory.ahead.given(own)?;
        }
        let Schedule { adversarial, autoencoder_learns, adversaries_learn, .. } = schedule;
        let (has_offset, has_sources) = (beside.offset.is_some(), beside.sources.is_some());
        let turn = Turn { adversarial, autoencoder_learns, adversaries_learn, has_offset, has_sources, is_mixed };
        let table = beside.offset.as_ref().map(|(table, _)| *table);
        let kind = learner.network.parameters.kind();
        let sums = self.is_launched.then(|| memory.sums_of(&layout, turn, carried.device()));
        let compute = || {
            if let Some(sums) = sums {
                let mixing = is_mixed.then(|| place.controls.mixing());
                let network = &learner.network;
                let batch =
                    layout.packed(&place.bytes).unpack(layout.genes(), kind, network.decoder.is_of_counts(), mixing);
                let rows = launched::needs_rows(network).then(|| layout.input(&place.bytes, kind).cells);
                let input = StepInput { batch, rows, controls: &place.controls, offsets: table, has_sources };
                let losses = launched::step(learner, &input, schedule);
                let numbers: Vec<&Tensor> = losses.values.iter().map(|(_, number)| number).collect();
                sums.add(&numbers, &place.controls.whole(Control::Batch));
                return StepLosses { sums: Some(sums), ..losses };
            }
            let offset = table.map(|table| table.index_select(0, &place.rows));
            let sources = has_sources.then(|| place.sources.shallow_clone());
            let input = Input { offset, sources, ..layout.input(&place.bytes, kind) };
            turns(&FewPasses, learner, &input, &Draws::default(), schedule)
        };
        memory.step(Work { layout: layout.clone(), turn }, compute)
    }
}

impl Memory {
    /// What is known of a kind of work.
    fn known(&mut self, work: Work) -> &mut Known {
        self.known.entry(work).or_insert(Known { sums: None, graph: None, last: 0 })
    }

    /// What steps of a kind add their numbers to: made before any of them is captured, so that it is there for good.
    fn sums_of(&mut self, layout: &Layout, turn: Turn, device: Device) -> Rc<LossSums> {
        let known = self.known(Work { layout: layout.clone(), turn });
        Rc::clone(known.sums.get_or_insert_with(|| Rc::new(LossSums::new(device))))
    }

    /// Makes a step by the graph of its kind of work. Where there is none yet, the work is captured first, or computed once if its turn
    /// never was.
    fn step(&mut self, work: Work, compute: impl FnOnce() -> StepLosses) -> Result<StepLosses> {
        self.steps += 1;
        let (steps, turn) = (self.steps, work.turn);
        let known = self.known(work.clone());
        known.last = steps;
        if let Some((graph, losses)) = &known.graph {
            graph.replay()?;
            return Ok(losses.shallow_clone());
        }
        // Kernels of our own are loaded once for all turns.
        let is_launched = known.sums.is_some();
        let is_ready = is_launched && !self.computed.is_empty() || self.computed.contains(&turn);
        self.computed.insert(turn);
        if !is_ready || self.lacks.is_some() {
            return Ok(compute());
        }
        // A graph's memory is its own: what steps before it took would be kept beside it for nothing.
        empty_cache()?;
        self.make_room();
        let like = self.known.values().find_map(|known| known.graph.as_ref().map(|(graph, _)| graph));
        let (graph, losses) = Graph::note(like, || Ok(compute())).map_err(not_captured)?;
        graph.replay()?;
        let replayed = losses.shallow_clone();
        self.known(work).graph = Some((graph, losses));
        Ok(replayed)
    }

    /// Lets the graph go that was not used for longest, if there are as many as are kept.
    fn make_room(&mut self) {
        let graphs = || self.known.values().filter(|known| known.graph.is_some());
        let Some(oldest) = graphs().map(|known| known.last).min().filter(|_| MOST_GRAPHS <= graphs().count()) else {
            return;
        };
        self.known.values_mut().filter(|known| known.last == oldest).for_each(|known| known.graph = None);
    }
}

/// What ends a run in which a step could not be captured: libtorch's allocator and generator stay as they were within the graph, so nothing
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
