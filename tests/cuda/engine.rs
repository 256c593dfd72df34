//! Memory and waits of the engine, observed inside a process.

use std::ops::Range;

use schemas::config::TrainingPlan;
use stages::{
    model::{
        draws::StepDraws,
        graph_replay::GraphReplay,
        schedule::{Clock, Schedule},
        step::{Engine, Learner},
        transfer::{BatchPacker, StepExtras},
    },
    torch::synchronise,
};
use tch::{Device, Kind};

use crate::{
    gpu::{Counter, Counters, Gpu, inside},
    small_network::{GENES, batch, plan, vocabulary},
};

const GPU: Device = Device::Cuda(0);

/// A learner on the stand-in, and what steps of it need.
struct Training {
    plan: TrainingPlan,
    learner: Learner,
    engine: GraphReplay,
    packer: BatchPacker,
}

impl Training {
    fn new(settings: &str) -> Self {
        let plan = plan(settings);
        let mut learner = Learner::new(&plan, GENES, &vocabulary(), Kind::Float, GPU);
        let engine = GraphReplay::new(&mut learner).unwrap();
        Self { plan, learner, engine, packer: BatchPacker::new(i64::from(GENES)) }
    }

    /// One step on these cells.
    fn step(&mut self, cells: Range<usize>) {
        let mut packed = self.packer.pack(&batch(cells)).unwrap();
        let schedule = Schedule::at(&self.plan, Clock::default());
        let extras = StepExtras::default();
        self.engine.step_on(&mut self.learner, &mut packed, &extras, &StepDraws::default(), schedule).unwrap();
    }
}

/// The increase of a counter during some work.
fn growth(counters: &Counters, counter: Counter, done: impl FnOnce()) -> u64 {
    let before = counters.get(counter);
    done();
    counters.get(counter) - before
}

#[test]
fn a_batch_that_is_used_again_waits_for_its_copy() {
    let Some(counters) = inside("engine::a_batch_that_is_used_again_waits_for_its_copy", &[("LAZY", "1")]) else {
        return;
    };
    let Training { plan, mut learner, engine, packer } = Training::new("model.dropout_rate_encoder=0.1");
    let mut packed = packer.pack(&batch(0..70)).unwrap();
    for step in 0..6 {
        let schedule = Schedule::at(&plan, Clock { batch: step, ..Clock::default() });
        engine.step_on(&mut learner, &mut packed, &StepExtras::default(), &StepDraws::default(), schedule).unwrap();
    }
    synchronise(0).unwrap();
    assert_eq!(counters.get(Counter::Races), 0, "numbers of a step were written before those of another were copied");
}

#[test]
fn the_host_waits_once_for_a_checkpoint() {
    let Some(counters) = inside("engine::the_host_waits_once_for_a_checkpoint", &[]) else { return };
    let mut training = Training::new("train.average=ema");
    (0..5).for_each(|_| training.step(0..70));
    let mut held = 0;
    let waits = growth(&counters, Counter::Waits, || {
        let state = training.learner.state().unwrap();
        assert!(state.values().all(|tensor| tensor.device() == Device::Cpu), "a state is on the host");
        held = state.len();
    });
    assert!(held > 100, "{held} tensors, so a wait for each would show");
    assert_eq!(waits, 1);
}

#[test]
fn the_graph_that_was_not_used_for_longest_gives_way_to_the_33rd() {
    let test = "engine::the_graph_that_was_not_used_for_longest_gives_way_to_the_33rd";
    let Some(counters) = inside(test, &[]) else { return };
    let mut training = Training::new("model.dropout_rate_encoder=0.1");
    training.step(0..70);
    // Batches of each size are a kind of step of their own.
    (1..=40).for_each(|cells| training.step(0..cells));
    assert_eq!((training.engine.graphs(), counters.get(Counter::Graphs)), (32, 32));
    let captures = |training: &mut Training, cells| growth(&counters, Counter::Captures, || training.step(0..cells));
    assert_eq!([40, 25, 9].map(|cells| captures(&mut training, cells)), [0, 0, 0], "the last 32 kinds are kept");
    assert_eq!(captures(&mut training, 1), 1, "the first kind gave way");
    assert_eq!(captures(&mut training, 1), 0);
    assert_eq!(captures(&mut training, 9), 0, "it was used since");
    assert_eq!(captures(&mut training, 10), 1, "now it was the oldest");
    assert_eq!(training.engine.graphs(), 32);
}

#[test]
fn predicted_means_come_to_the_host_many_targets_at_once() {
    let Some(gpu) = Gpu::with_simulated("--cells 3000 --genes 60 --conditions 60 --combos 2 --density 0.3") else {
        return;
    };
    gpu.json("train s.atlas --out m --epochs 1 --device cuda:0");
    let predicted = |to: &str, out: &str| {
        let (result, observed) = gpu.json(&format!("predict m s.atlas --to {to} --out {out} --device cuda:0"));
        (result["rows"].as_u64().unwrap(), observed.counter("waits"))
    };
    let (few, many) = (predicted("condition=G00001", "few"), predicted("observed", "many"));
    assert!(many.0 - few.0 >= 40, "{few:?} and {many:?} targets and waits");
    assert!(many.1 - few.1 <= 5, "{few:?} and {many:?} targets and waits");
}
