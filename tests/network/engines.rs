//! The engines compute the same steps: by kernels as by libtorch's operations.

use perturbine::runtime::WorkerThreads;
use schemas::config::TrainingPlan;
use stages::model::{
    draws::StepDraws,
    fused::Fused,
    plain::Plain,
    schedule::{Clock, Schedule},
    step::{Engine, Learner},
};
use tch::{Device, Kind, Tensor};

use crate::support::small_network::{CELLS, GENES, alone, input, input_for, plan, vocabulary};

/// The differences between runs; both engines get the same settings. Dropout is off, because each draws it differently.
const SETTINGS: [&str; 8] = [
    "model.norm_encoder=batch model.norm_decoder=batch",
    "model.norm_encoder=layer model.norm_decoder=none model.n_layers_encoder=1 model.n_layers_decoder=1",
    "model.norm_encoder=none model.norm_decoder=layer model.doser_type=mlp",
    "model.variational=true train.n_epochs_kl_warmup=0 train.gradient_clip_value=0",
    "train.decoder_on_every_batch=true adversary.adv_steps=2",
    "train.gradient_clip_value=0.01 adversary.norm_adv=layer adversary.adv_loss=focal",
    "train.n_epochs_pretrain_ae=2",
    "train.objective=paired train.decoupled_decay=true train.wd=0.1 model.output_deviation=0.01",
];

/// The results of an engine after some steps.
struct Run {
    learner: Learner,
    /// Losses and norms of gradients, by step and name.
    losses_and_norms: Vec<(String, f64)>,
}

fn run(engine: &dyn Engine, plan: &TrainingPlan, kind: Kind, mixed: bool, steps: u64) -> Run {
    let mut learner = Learner::new(plan, GENES, &vocabulary(), Kind::Float, Device::Cpu);
    if kind == Kind::Double {
        // The same numbers in both kinds.
        let state = learner.state().expect("memory");
        learner = Learner::new(plan, GENES, &vocabulary(), kind, Device::Cpu);
        learner.restore(&state, std::path::Path::new("itself")).expect("the same network");
    }
    assert_eq!(Fused::lacks(&learner.network), None, "nothing would be compared");
    let (input, mut losses_and_norms) = (input_for(plan, kind), Vec::new());
    for step in 0..steps {
        let mut draws = StepDraws::from_seed(step, if mixed { 0.7 } else { 0.0 }, CELLS);
        tch::manual_seed(5);
        draws.noise = Some(Tensor::randn([70, 6], (Kind::Float, Device::Cpu)).to_kind(kind));
        let schedule =
            Schedule::at(plan, Clock { epoch: u32::from(step > 1), batch: step, step, updates: step, of: 0 });
        let losses = engine.step(&mut learner, &input, &draws, schedule);
        let values = losses.values.iter();
        losses_and_norms
            .extend(values.map(|(name, value)| (format!("{name} of step {step}"), value.double_value(&[]))));
    }
    Run { learner, losses_and_norms }
}

#[track_caller]
fn alike(found: &Run, expected: &Run, tolerance: f64, what: &str) {
    let names = |run: &Run| run.losses_and_norms.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    for ((name, found), (_, expected)) in found.losses_and_norms.iter().zip(&expected.losses_and_norms) {
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
                [&Plain as &dyn Engine, &Fused::default()].map(|engine| run(engine, &plan, Kind::Double, mixed, 4));
            alike(&fused, &plain, 1e-9, settings);
            for (name, expected) in &plain.learner.state().expect("memory") {
                let found = &fused.learner.state().expect("memory")[name];
                let off = (found - expected).abs().max().double_value(&[]);
                let scale = expected.abs().max().double_value(&[]).max(1e-3);
                // The gradient of a bias before batch norm is rounding noise, which Adam turns into full-size updates.
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
        alike(&run(&Fused::default(), &plan, Kind::Float, false, 1), &plain, 2e-5, settings);
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
            Fused::default().step(&mut learner, &input(Kind::Float), &StepDraws::default(), schedule);
        }
        learner.state().expect("memory")
    };
    let (once, again, other) = (run(1), run(1), run(2));
    assert!(once.iter().all(|(name, tensor)| *tensor == again[name]));
    assert!(once.iter().any(|(name, tensor)| *tensor != other[name]));
}

#[test]
fn any_number_of_threads_takes_the_same_steps() {
    let _alone = alone();
    let plan = plan("model.norm_decoder=layer");
    let [alone, shared] = [0, 3].map(|threads| {
        let threads = WorkerThreads::start(threads).expect("threads");
        run(&Fused::new(threads.workers()), &plan, Kind::Float, true, 4)
    });
    assert_eq!(shared.losses_and_norms, alone.losses_and_norms);
    let (shared, alone) = (shared.learner.state().expect("memory"), alone.learner.state().expect("memory"));
    assert!(alone.iter().all(|(name, tensor)| *tensor == shared[name]));
}
