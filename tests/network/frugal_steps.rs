//! Ways to save memory in a step don't change what is learned, or only as much as documented.

use std::{collections::BTreeMap, ops::Range, path::Path, slice::from_ref};

use schemas::config::TrainingPlan;
use stages::model::{
    accumulate::BatchShare,
    draws::StepDraws,
    fused::Fused,
    loss_term::LossTerm,
    plain::Plain,
    schedule::{Clock, Schedule},
    step::{Engine, Learner},
};
use tch::{Device, Kind, Tensor};

use crate::support::small_network::{CELLS, GENES, alone, input, input_of, plan, vocabulary};

/// A learner in float64 with the numbers that float32 draws.
fn learner(plan: &TrainingPlan, kind: Kind) -> Learner {
    let drawn = Learner::new(plan, GENES, &vocabulary(), Kind::Float, Device::Cpu);
    let mut learner = Learner::new(plan, GENES, &vocabulary(), kind, Device::Cpu);
    learner.restore(&drawn.state().expect("memory"), Path::new("itself")).expect("the same network");
    learner
}

/// Weights and moments after some steps, each on all cells, in this many batches.
fn state_after(
    engine: &dyn Engine,
    plan: &TrainingPlan,
    batches: &[Range<usize>],
    steps: u64,
) -> BTreeMap<String, Tensor> {
    let mut learner = learner(plan, Kind::Double);
    for step in 0..steps {
        let schedule = Schedule::at(plan, Clock { batch: step, step, updates: step, ..Clock::default() });
        let whole = input(Kind::Double);
        let all = Vec::<i64>::try_from(&whole.combinations).expect("numbers");
        let classes: Vec<u32> = all.into_iter().map(|class| u32::try_from(class).expect("small")).collect();
        let classes: Vec<&[u32]> = batches.iter().map(|range| &classes[range.clone()]).collect();
        for (range, share) in batches.iter().zip(BatchShare::for_batches(&learner.adversaries, &classes)) {
            learner.takes(share);
            let losses =
                engine.step(&mut learner, &input_of(range.clone(), Kind::Double), &StepDraws::default(), schedule);
            assert_eq!(losses.updates != 0, range.end == CELLS, "a step is made with its last batch, and not before");
        }
    }
    learner.state().expect("memory")
}

#[track_caller]
fn close(found: &BTreeMap<String, Tensor>, expected: &BTreeMap<String, Tensor>, tolerance: f64, what: &str) {
    for (name, expected) in expected {
        let off = (&found[name] - expected).abs().max().double_value(&[]);
        let scale = expected.abs().max().double_value(&[]).max(1e-6);
        assert!(off <= tolerance * scale, "{what}: {name} is off by {off:e} of {scale:e}");
    }
}

#[test]
fn batches_that_are_accumulated_give_the_gradients_of_one_batch() {
    let _alone = alone();
    let settings = [
        "model.norm_encoder=layer model.norm_decoder=layer adversary.norm_adv=none",
        "model.norm_encoder=none adversary.norm_adv=layer adversary.adv_loss=focal train.gradient_clip_value=0.01",
        "model.norm_encoder=none adversary.norm_adv=none adversary.adv_steps=2 train.gradient_clip_value=0",
    ];
    let whole = 0..CELLS;
    // Of different sizes, with different classes in each.
    let parts = [0..31, 31..36, 36..CELLS];
    for settings in settings {
        let plan = plan(settings);
        for engine in [&Plain as &dyn Engine, &Fused::default()] {
            // After one step the first moments are a tenth of the gradients.
            let moments = |state: BTreeMap<String, Tensor>| {
                state.into_iter().filter(|(name, _)| name.contains(".first.")).collect::<BTreeMap<_, _>>()
            };
            let [one, several] =
                [from_ref(&whole), &parts].map(|batches| moments(state_after(engine, &plan, batches, 1)));
            assert!(one.values().any(|moment| moment.abs().max().double_value(&[]) > 0.0));
            close(&several, &one, 1e-12, &format!("{settings} by {engine:?}"));
            let [one, several] = [from_ref(&whole), &parts].map(|batches| state_after(engine, &plan, batches, 4));
            close(&several, &one, 1e-8, &format!("four steps of {settings} by {engine:?}"));
        }
    }
}

#[test]
fn one_batch_is_a_step_by_itself_as_it_was() {
    let _alone = alone();
    let plan = plan("model.norm_encoder=batch");
    let state = state_after(&Plain, &plan, from_ref(&(0..CELLS)), 2);
    let mut learner = learner(&plan, Kind::Double);
    for step in 0..2 {
        let schedule = Schedule::at(&plan, Clock { batch: step, step, updates: step, ..Clock::default() });
        Plain.step(&mut learner, &input(Kind::Double), &StepDraws::default(), schedule);
    }
    assert!(learner.state().expect("memory").iter().all(|(name, tensor)| *tensor == state[name]));
}

/// All measurements of some steps, and the state after them.
fn run(
    plan: &TrainingPlan,
    kind: Kind,
    mixed: bool,
    steps: u64,
) -> (Vec<(LossTerm, Tensor)>, BTreeMap<String, Tensor>) {
    let (mut learner, mut losses) = (learner(plan, kind), Vec::new());
    for step in 0..steps {
        tch::manual_seed(11 + i64::try_from(step).expect("few steps"));
        let draws = StepDraws::from_seed(step, if mixed { 0.7 } else { 0.0 }, CELLS);
        let schedule = Schedule::at(plan, Clock { batch: step, step, updates: step, ..Clock::default() });
        losses.extend(Plain.step(&mut learner, &input(kind), &draws, schedule).values);
    }
    (losses, learner.state().expect("memory"))
}

#[test]
fn what_is_recomputed_gives_the_same_bits() {
    let _alone = alone();
    let settings = [
        "model.norm_encoder=batch model.norm_decoder=batch+layer",
        "model.dropout_rate_encoder=0.3 model.dropout_rate_decoder=0.2 adversary.dropout_rate_adv=0.3",
        "model.recon_loss=zinb model.norm_decoder=batch model.dropout_rate_decoder=0.4",
        "model.recon_loss=gauss model.dropout_rate_encoder=0.1 model.n_layers_decoder=1",
        "model.variational=true train.n_epochs_kl_warmup=0 model.dropout_rate_encoder=0.2",
        "model.doser_type=mlp adversary.adv_steps=2 model.dropout_rate_decoder=0.1",
    ];
    for settings in settings {
        let [held, recomputed] =
            ["", " train.checkpointing=true"].map(|more| plan(&format!("train.engine=plain {settings}{more}")));
        for (kind, mixed) in [(Kind::Double, false), (Kind::Float, false), (Kind::Float, true)] {
            let (losses, state) = run(&held, kind, mixed, 3);
            let (told_again, state_again) = run(&recomputed, kind, mixed, 3);
            let names = |losses: &[(LossTerm, Tensor)]| losses.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            assert_eq!(names(&told_again), names(&losses), "{settings}");
            for ((name, loss), (_, again)) in losses.iter().zip(&told_again) {
                assert_eq!(again, loss, "{settings}: {name}");
            }
            for (name, tensor) in &state {
                let off = (&state_again[name] - tensor).abs().max().double_value(&[]);
                assert!(state_again[name] == *tensor, "{settings}: {name} differs by {off:e}");
            }
        }
    }
}

#[test]
fn rounded_products_move_the_losses_by_a_few_parts_in_a_hundred_at_most() {
    let _alone = alone();
    let last = |precision: &str| {
        let plan = plan(&format!("train.engine=plain train.precision={precision} model.norm_encoder=batch"));
        let (losses, state) = run(&plan, Kind::Float, false, 20);
        assert!(state.values().all(|tensor| tensor.kind() != Kind::BFloat16), "weights stay float32");
        let recon = losses.iter().rev().find(|(name, _)| *name == LossTerm::Reconstruction).expect("a loss");
        assert_eq!(recon.1.kind(), Kind::Float, "losses stay float32");
        recon.1.double_value(&[])
    };
    let (exact, rounded) = (last("float32"), last("bf16"));
    assert_ne!(exact, rounded, "nothing was rounded");
    assert!((rounded / exact - 1.0).abs() < 0.03, "{rounded}, not {exact}");
}
