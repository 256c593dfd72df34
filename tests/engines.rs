//! The engines compute the same steps: by kernels as by libtorch's operations.

#![cfg(feature = "torch")]

use std::sync::{Mutex, MutexGuard, PoisonError};

use schemas::{
    atlas::ValueKind,
    batch::{Expression, Genes, Values},
    conditions::Covariate,
    config::{Plan, Preset, Settings},
};
use stages::{
    model::{
        draws::Draws,
        fused::Fused,
        input::{Cells, Input},
        schedule::{Clock, Schedule},
        step::{Engine, Learner, Plain},
    },
    vocabulary::Vocabulary,
};
use tch::{Device, Kind, Tensor};

const CELLS: usize = 70;
const GENES: u32 = 45;

/// What differs between runs; both engines are asked for the same. Dropout is off: each draws it in its own way.
const SETTINGS: [&str; 7] = [
    "model.norm_encoder=batch model.norm_decoder=batch",
    "model.norm_encoder=layer model.norm_decoder=none model.n_layers_encoder=1 model.n_layers_decoder=1",
    "model.norm_encoder=none model.norm_decoder=layer model.doser_type=mlp",
    "model.variational=true train.n_epochs_kl_warmup=0 train.gradient_clip_value=0",
    "train.decoder_on_every_batch=true adversary.adv_steps=2",
    "train.gradient_clip_value=0.01 adversary.norm_adv=layer adversary.adv_loss=focal",
    "train.n_epochs_pretrain_ae=2",
];

fn plan(assignments: &str) -> Plan {
    let small = "model.n_latent=6 model.n_hidden_encoder=20 model.n_hidden_decoder=17 model.n_layers_encoder=2 \
                 model.n_layers_decoder=2 adversary.n_hidden_adv=9 model.dropout_rate_encoder=0 \
                 model.dropout_rate_decoder=0 adversary.dropout_rate_adv=0 train.n_epochs_pretrain_ae=0 \
                 train.n_epochs_adv_warmup=0";
    let assignments: Vec<String> = small.split_whitespace().chain(assignments.split(' ')).map(str::to_owned).collect();
    Settings::layered(Preset::Cpa, None, &assignments)
        .and_then(|settings| settings.check(ValueKind::Counts))
        .expect("good settings")
}

fn vocabulary() -> Vocabulary {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Vocabulary {
        perturbations: names(&["<PAD>", "ctrl", "A", "B"]),
        combinations: names(&["A", "A+B", "ctrl"]),
        combination_cells: vec![30, 10, 30],
        covariates: vec![Covariate { name: "cell_type".to_owned(), values: names(&["x", "y"]) }],
        ..Vocabulary::default()
    }
}

/// Counts without a pattern; one of the cells has none, one gene is large.
fn input(kind: Kind) -> Input {
    let mut state = 7_u32;
    let mut draw = move |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let mut expression =
        Expression { row_pointers: vec![0], genes: Genes::U16(Vec::new()), values: Values::U16(Vec::new()) };
    let (mut genes, mut values) = (Vec::new(), Vec::new());
    for cell in 0..CELLS {
        for gene in (0..GENES).filter(|_| cell != 3) {
            if draw(4) == 0 || gene == 5 {
                genes.push(u16::try_from(gene).expect("few genes"));
                values.push(u16::try_from(1 + draw(if gene == 5 { 900 } else { 6 })).expect("a small count"));
            }
        }
        expression.row_pointers.push(u32::try_from(genes.len()).expect("few entries"));
    }
    (expression.genes, expression.values) = (Genes::U16(genes), Values::U16(values));
    let conditions: Vec<usize> = (0..CELLS).map(|cell| cell % 3).collect();
    let codes: Vec<i64> = conditions.iter().flat_map(|condition| [[2, 0], [2, 3], [1, 0]][*condition]).collect();
    let doses: Vec<f64> =
        conditions.iter().flat_map(|condition| [[0.5, 0.0], [0.5, 0.25], [1.0, 0.0]][*condition]).collect();
    let classes: Vec<i64> = conditions.iter().map(|condition| i64::try_from(*condition).expect("three")).collect();
    let types: Vec<i64> = (0..70).map(|cell| cell / 5 % 2).collect();
    Input {
        cells: Cells::new(&expression, i64::from(GENES), kind, Device::Cpu),
        perturbations: Tensor::from_slice(&codes).view([70, 2]),
        doses: Tensor::from_slice(&doses).view([70, 2]).to_kind(kind),
        covariates: vec![Tensor::from_slice(&types)],
        combinations: Tensor::from_slice(&classes),
    }
}

/// Learners are drawn from libtorch's generator, of which a process has one: tests that draw do so by turns.
static GENERATOR: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an engine made of some steps.
struct Run {
    learner: Learner,
    /// Losses and norms of gradients, by step and name.
    told: Vec<(String, f64)>,
}

fn run(engine: &dyn Engine, plan: &Plan, kind: Kind, mixed: bool, steps: u64) -> Run {
    let mut learner = Learner::new(plan, GENES, &vocabulary(), Kind::Float, Device::Cpu);
    if kind == Kind::Double {
        // The same numbers in both kinds.
        let state = learner.state();
        learner = Learner::new(plan, GENES, &vocabulary(), kind, Device::Cpu);
        learner.restore(&state, std::path::Path::new("itself")).expect("the same network");
    }
    assert_eq!(Fused::lacks(&learner.network), None, "nothing would be compared");
    let (input, mut told) = (input(kind), Vec::new());
    for step in 0..steps {
        let mut draws = Draws::of(step, if mixed { 0.7 } else { 0.0 }, CELLS, Device::Cpu);
        tch::manual_seed(5);
        draws.noise = Some(Tensor::randn([70, 6], (Kind::Float, Device::Cpu)).to_kind(kind));
        let schedule = Schedule::at(plan, Clock { epoch: u32::from(1 < step), batch: step, step, updates: step });
        let losses = engine.step(&mut learner, &input, &draws, schedule);
        let values = losses.values.iter();
        told.extend(values.map(|(name, value)| (format!("{name} of step {step}"), value.double_value(&[]))));
    }
    Run { learner, told }
}

#[track_caller]
fn alike(found: &Run, expected: &Run, tolerance: f64, what: &str) {
    let names = |run: &Run| run.told.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    for ((name, found), (_, expected)) in found.told.iter().zip(&expected.told) {
        let off = (found - expected).abs() / expected.abs().max(1e-3);
        assert!(off < tolerance, "{what}: {name} is {found}, not {expected}");
    }
}

#[test]
fn in_float64_the_fused_engine_equals_the_plain_one() {
    let _alone = alone();
    for settings in SETTINGS {
        let plan = plan(settings);
        for mixed in [false, true] {
            let [plain, fused] =
                [&Plain as &dyn Engine, &Fused].map(|engine| run(engine, &plan, Kind::Double, mixed, 4));
            alike(&fused, &plain, 1e-9, settings);
            for (name, expected) in &plain.learner.state() {
                let found = &fused.learner.state()[name];
                let off = (found - expected).abs().max().double_value(&[]);
                let scale = expected.abs().max().double_value(&[]).max(1e-3);
                // What moves a bias before batch norm is rounding noise, which Adam turns into whole steps.
                let noise = name.ends_with(".0.bias");
                assert!(noise || off <= 1e-7 * scale, "{settings}: {name} is off by {off:e} of {scale:e}");
            }
        }
    }
}

#[test]
fn in_float32_it_stays_as_close_to_float64_as_rounding_lets_it() {
    let _alone = alone();
    for settings in SETTINGS {
        let plan = plan(settings);
        let plain = run(&Plain, &plan, Kind::Double, false, 1);
        alike(&run(&Fused, &plan, Kind::Float, false, 1), &plain, 2e-5, settings);
    }
}

#[test]
fn a_seed_gives_the_same_bits_and_another_one_drops_others() {
    let _alone = alone();
    let plan = plan("model.dropout_rate_encoder=0.3 model.norm_decoder=layer");
    let run = |seed: i64| {
        let mut learner = Learner::new(&plan, GENES, &vocabulary(), Kind::Float, Device::Cpu);
        for step in 0..3 {
            tch::manual_seed(seed + 100 * i64::try_from(step).expect("three steps"));
            let schedule = Schedule::at(&plan, Clock { batch: step, step, ..Clock::default() });
            Fused.step(&mut learner, &input(Kind::Float), &Draws::default(), schedule);
        }
        learner.state()
    };
    let (once, again, other) = (run(1), run(1), run(2));
    assert!(once.iter().all(|(name, tensor)| *tensor == again[name]));
    assert!(once.iter().any(|(name, tensor)| *tensor != other[name]));
}
