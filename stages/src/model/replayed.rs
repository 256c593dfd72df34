//! Steps of fixed shapes, which a GPU notes once as a graph and replays as a whole.
//!
//! A step is a thousand small pieces of work, and to hand them out one by one takes longer than to do them. So everything that
//! differs from step to step is brought to a place that stays: the batch's bytes, learning rates, weights of losses, counts of
//! steps, all on the device. Then the work is the same each time; after some steps it is noted ([`Graph`]), one graph for each
//! layout of a batch and each turn of the schedule, and from then on replayed. Where that can't be, on a CPU or without the
//! library for it, the same work is done piece by piece, and gives the same numbers.

use std::{cell::RefCell, collections::HashMap};

use schemas::{Error, Result, config::Doser};
use tch::{Device, Kind, Tensor};

use super::{
    ahead::Ahead,
    carried::{Beside, Carried, put_codes},
    draws::Draws,
    few_passes::FewPasses,
    input::Input,
    parcel::Layout,
    schedule::Schedule,
    step::{Engine, Learner, StepLosses, turns},
};
use crate::libtorch::{Graph, Stream, empty_cache, lacks_graphs, synchronise};

/// Steps of a kind that are computed before one is noted: they make what libtorch makes when it is first asked.
const BEFORE_NOTED: u32 = 3;
/// Kinds of steps that are noted at most; others are computed piece by piece.
const MOST_GRAPHS: usize = 32;

/// Steps by libtorch's operations, replayed where there is a GPU.
#[derive(Debug)]
pub struct Replayed {
    memory: RefCell<Memory>,
    /// The stream of all work while this is there, and the one to go back to.
    streams: Option<[Stream; 2]>,
}

/// What differs between two steps that are not the same work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Work {
    layout: Layout,
    adversarial: bool,
    autoencoder_learns: bool,
    adversaries_learn: bool,
    has_offset: bool,
    has_sources: bool,
}

/// Where what differs between batches of one layout is brought to.
#[derive(Debug)]
struct Place {
    bytes: Tensor,
    /// Rows of offsets, and cells that are decoded from, `[cells]` each.
    rows: Tensor,
    sources: Tensor,
}

impl Place {
    fn of(carried: &Carried) -> Self {
        let codes = || Tensor::zeros([carried.layout.cells()], (Kind::Int64, carried.device()));
        Self { bytes: carried.place(), rows: codes(), sources: codes() }
    }

    fn shallow_clone(&self) -> Self {
        let Self { bytes, rows, sources } = self;
        Self { bytes: bytes.shallow_clone(), rows: rows.shallow_clone(), sources: sources.shallow_clone() }
    }
}

/// What is there of a kind of work.
#[derive(Debug)]
enum Known {
    /// It was done so many times.
    Done(u32),
    /// It was noted, with where its losses lie.
    Noted(Graph, StepLosses),
}

#[derive(Debug, Default)]
struct Memory {
    known: HashMap<Work, Known>,
    places: HashMap<Layout, Place>,
    ahead: Ahead,
    /// Why nothing is noted.
    lacks: Option<String>,
}

impl Replayed {
    /// Why steps of a learner can't be replayed, if they can't.
    #[must_use]
    pub fn lacks(learner: &Learner) -> Option<&'static str> {
        let plan = &learner.plan;
        let why = [
            (1 < plan.train.accumulate, "train.accumulate makes steps of several batches"),
            (0.0 < plan.train.mixup_alpha, "cells that are mixed have another number of non-zeros each time"),
            (plan.train.checkpointing, "train.checkpointing recomputes what it needs"),
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
        Ok(Self { memory: RefCell::new(Memory { lacks, ..Memory::default() }), streams })
    }

    /// How many graphs were noted.
    #[must_use]
    pub fn graphs(&self) -> usize {
        self.memory.borrow().known.values().filter(|known| matches!(known, Known::Noted(..))).count()
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
        if draws.mixup.is_some() || draws.noise.is_some() || Self::lacks(learner).is_some() {
            let input = beside.complete(carried.input(learner.network.parameters.kind())?);
            return Ok(self.step(learner, &input, draws, schedule));
        }
        learner.set_on_device(schedule);
        let layout = carried.layout.clone();
        let mut memory = self.memory.borrow_mut();
        let place = memory.places.entry(layout.clone()).or_insert_with(|| Place::of(carried));
        carried.put(&mut place.bytes)?;
        if let Some((_, rows)) = &beside.offset {
            put_codes(rows, &mut place.rows)?;
        }
        if let Some(sources) = &beside.sources {
            put_codes(sources, &mut place.sources)?;
        }
        let place = place.shallow_clone();
        if let Some([own, _]) = &self.streams {
            memory.ahead.given(own)?;
        }
        let Schedule { adversarial, autoencoder_learns, adversaries_learn, .. } = schedule;
        let (has_offset, has_sources) = (beside.offset.is_some(), beside.sources.is_some());
        let work = Work { layout, adversarial, autoencoder_learns, adversaries_learn, has_offset, has_sources };
        let table = beside.offset.as_ref().map(|(table, _)| *table);
        memory.step(learner, work, (&place, table), schedule)
    }
}

impl Memory {
    fn step(
        &mut self,
        learner: &mut Learner,
        work: Work,
        (place, table): (&Place, Option<&Tensor>),
        schedule: Schedule,
    ) -> Result<StepLosses> {
        let kind: Kind = learner.network.parameters.kind();
        let layout = work.layout.clone();
        let sources = work.has_sources.then(|| place.sources.shallow_clone());
        let mut compute = || {
            let offset = table.map(|table| table.index_select(0, &place.rows));
            let sources = sources.as_ref().map(Tensor::shallow_clone);
            let input = Input { offset, sources, ..layout.input(&place.bytes, kind) };
            turns(&FewPasses, learner, &input, &Draws::default(), schedule)
        };
        let times = match self.known.get(&work) {
            Some(Known::Noted(graph, losses)) => {
                graph.replay()?;
                return Ok(losses.shallow_clone());
            }
            Some(Known::Done(times)) => *times,
            None => 0,
        };
        let full = MOST_GRAPHS <= self.known.values().filter(|known| matches!(known, Known::Noted(..))).count();
        if times < BEFORE_NOTED || full || self.lacks.is_some() {
            self.known.insert(work, Known::Done(times.saturating_add(1)));
            return Ok(compute());
        }
        let like = self.known.values().find_map(|known| match known {
            Known::Noted(graph, _) => Some(graph),
            Known::Done(_) => None,
        });
        if like.is_none() {
            // A graph's memory is its own: what steps before it took would be kept beside it for nothing.
            empty_cache()?;
        }
        match Graph::note(like, || Ok(compute())) {
            Ok((graph, losses)) => {
                graph.replay()?;
                let told = losses.shallow_clone();
                self.known.insert(work, Known::Noted(graph, losses));
                Ok(told)
            }
            // libtorch's allocator and generator stay as they were within the graph, so that nothing can be computed after it.
            Err(error @ (Error::DeviceMemory { .. } | Error::Device { .. })) => Err(error),
            Err(error) => {
                let why = match error {
                    Error::Bug(why) => why,
                    other => other.to_string(),
                };
                let message = format!("a step could not be recorded as a CUDA graph ({why})");
                Err(Error::Device {
                    message,
                    hint: "train again with --set train.engine=plain, which records none".to_owned(),
                })
            }
        }
    }
}
