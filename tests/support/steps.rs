//! Runs of some steps on small batches, by one engine or another, and what differs between them.
#![allow(dead_code, reason = "no test needs all of it")]

use std::path::Path;

use schemas::config::{Objective, TrainingPlan};
use stages::{
    model::{
        draws::StepDraws,
        graph_replay::GraphReplay,
        input::Input,
        plain::Plain,
        schedule::{Clock, Schedule},
        step::{Engine, Learner},
        transfer::{BatchPacker, StepExtras},
    },
    offset::CellOffsets,
};
use tch::{Device, Kind, Tensor};

use super::small_network::{GENES, batch_for, vocabulary_for};

/// Batches of the run: in turn of different sizes, so that kinds of steps come back.
pub const STEPS: u64 = 24;

/// Rows that a table gave, among a learner's state.
const EMBEDDINGS: &str = "module.pert_network.pert_embedding.weight";

/// The result of a run.
pub struct Run {
    pub learner: Learner,
    /// Losses and norms of gradients, by step and name.
    pub losses_and_norms: Vec<(String, f64)>,
    /// Graphs that were noted.
    pub graphs: usize,
}

/// A learner of this kind, with the numbers of one of float32.
pub fn learner(plan: &TrainingPlan, kind: Kind, device: Device) -> Learner {
    let vocabulary = vocabulary_for(plan);
    let mut drawn = Learner::new(plan, GENES, &vocabulary, Kind::Float, Device::Cpu).state().expect("memory");
    if let Some(width) = vocabulary.embedding_width.map(i64::from) {
        let rows = i64::try_from(vocabulary.perturbations.len()).expect("few names");
        let table = Tensor::arange(rows * width, (Kind::Float, Device::Cpu)).cos().view([rows, width]);
        drawn.insert(EMBEDDINGS.to_owned(), table);
    }
    let mut learner = Learner::new(plan, GENES, &vocabulary, kind, device);
    learner.restore(&drawn, Path::new("itself")).expect("the same network");
    learner
}

pub fn schedule(plan: &TrainingPlan, step: u64) -> Schedule {
    let epoch = u32::try_from(step / 3).expect("few steps");
    Schedule::at(plan, Clock { epoch, batch: step % 3, step, updates: step, of: 100 })
}

/// Cells of a step's batch.
pub fn cells(step: u64) -> std::ops::Range<usize> {
    if step % 4 == 3 { 10..50 } else { 0..70 }
}

/// How cells of a step's batch are mixed.
fn draws(plan: &TrainingPlan, step: u64) -> StepDraws {
    StepDraws::from_seed(step, schedule(plan, step).mixup_alpha, cells(step).len())
}

/// Offsets to choose from, `[5, genes]`.
fn offsets(kind: Kind, device: Device) -> Tensor {
    let all = Tensor::arange(5 * i64::from(GENES), (Kind::Double, Device::Cpu)).sin();
    all.view([5, i64::from(GENES)]).to_kind(kind).to_device(device)
}

/// A step's inputs besides its batch, if the plan pairs cells: rows of offsets, cells that they are decoded from.
fn besides(plan: &TrainingPlan, step: u64) -> (Option<Vec<i64>>, Option<Vec<i64>>) {
    if plan.train.objective == Objective::Reconstruction {
        return (None, None);
    }
    let (count, step) = (cells(step).len(), i64::try_from(step).expect("few steps"));
    let count = i64::try_from(count).expect("few cells");
    let each = |factor: i64, below: i64| (0..count).map(|cell| (cell * factor + step) % below).collect();
    (Some(each(1, 5)), Some(each(7, count)))
}

/// Plain steps.
pub fn plain(plan: &TrainingPlan, kind: Kind, device: Device) -> Run {
    let mut run = Run { learner: learner(plan, kind, device), losses_and_norms: Vec::new(), graphs: 0 };
    let table = offsets(kind, device);
    for step in 0..STEPS {
        tch::manual_seed(i64::try_from(step).expect("few steps"));
        let (rows, sources) = besides(plan, step);
        let codes = |codes: Vec<i64>| Tensor::from_slice(&codes).to_device(device);
        let input = Input {
            offset: rows.map(|rows| CellOffsets::new(&table, codes(rows))),
            sources: sources.map(codes),
            ..Input::new(&batch_for(plan, cells(step)), i64::from(GENES), kind, device)
        };
        let losses = Plain.step(&mut run.learner, &input, &draws(plan, step), schedule(plan, step));
        run.losses_and_norms.extend(
            losses.values.iter().map(|(name, value)| (format!("{name} of step {step}"), value.double_value(&[]))),
        );
    }
    run
}

/// Steps of fixed shapes, with graphs if they can be and are requested.
pub fn replayed(plan: &TrainingPlan, kind: Kind, device: Device, graphs: bool) -> Run {
    let mut run = Run { learner: learner(plan, kind, device), losses_and_norms: Vec::new(), graphs: 0 };
    assert_eq!(GraphReplay::lacks(&run.learner), None, "nothing would be compared");
    let engine = GraphReplay::new(&mut run.learner).expect("a device");
    let engine = if graphs { engine } else { engine.without_graphs() };
    let packer = BatchPacker::new(i64::from(GENES));
    let table = offsets(kind, device);
    for step in 0..STEPS {
        tch::manual_seed(i64::try_from(step).expect("few steps"));
        let mut packed = packer.pack(&batch_for(plan, cells(step))).expect("memory");
        let losses = {
            let (rows, sources) = besides(plan, step);
            let extras = StepExtras { offset: rows.map(|rows| (&table, rows)), sources };
            engine
                .step_on(&mut run.learner, &mut packed, &extras, &draws(plan, step), schedule(plan, step))
                .expect("a step")
        };
        run.losses_and_norms.extend(
            losses.values.iter().map(|(name, value)| (format!("{name} of step {step}"), value.double_value(&[]))),
        );
    }
    run.graphs = engine.graphs();
    run
}

/// Whether two runs measured and learned the same, to within these relative tolerances.
#[track_caller]
pub fn alike(found: &Run, expected: &Run, [loss_tolerance, learned]: [f64; 2], what: &str) {
    let names = |run: &Run| run.losses_and_norms.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    for ((name, found), (_, expected)) in found.losses_and_norms.iter().zip(&expected.losses_and_norms) {
        let off = (found - expected).abs() / expected.abs().max(1e-3);
        // Accuracies are counted in float32, whatever the numbers of the network are.
        let tolerance = if name.starts_with("acc_") { loss_tolerance.max(1e-6) } else { loss_tolerance };
        assert!(off < tolerance, "{what}: {name} is {found}, not {expected}");
    }
    let state = found.learner.state().expect("memory");
    for (name, expected) in &expected.learner.state().expect("memory") {
        let off = (&state[name] - expected).abs().max().double_value(&[]);
        let scale = expected.abs().max().double_value(&[]).max(1e-3);
        // The gradient of a bias before batch norm is rounding noise, which Adam turns into full-size updates.
        let noise = name.ends_with(".0.bias");
        assert!(noise || off <= learned * scale, "{what}: {name} is off by {off:e} of {scale:e}");
    }
}
