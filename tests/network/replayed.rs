//! Steps of fixed shapes compute what others do: on packed batches with room to spare, with rates, weights and counts on the
//! device, and one optimiser step over all parameters.

use std::path::Path;

use stages::model::{
    draws::StepDraws,
    graph_replay::GraphReplay,
    step::{Engine, Learner},
    transfer::{BatchPacker, StepExtras},
};
use tch::{Device, Kind};

use crate::support::{
    small_network::{GENES, alone, batch, plan},
    steps::{alike, learner, plain, replayed, schedule},
};

/// The differences between runs. A variational encoder draws from libtorch's generator, in the same order. Dropout is off: custom kernels
/// draw it in their own way.
const SETTINGS: [&str; 20] = [
    // More covariates than a kernel takes: their embeddings are added by automatic differentiation.
    r#"train.match_keys=["a","b","c","d","e","f","g","h","i"]"#,
    r#"train.match_keys=["a","b","c","d","e","f","g","h","i"] train.mixup_alpha=0.3 train.objective=both"#,
    "model.perturbation_embeddings=table.parquet train.objective=both",
    "model.variational=true train.mixup_alpha=0.3",
    "model.recon_loss=gauss model.variational=true train.objective=both",
    "train.mixup_alpha=0.4 train.objective=both",
    "train.mixup_alpha=0.3 adversary.adv_loss=focal model.doser_type=linear",
    "train.mixup_alpha=0.3 compat=cpa-tools-0.8.8",
    "adversary.norm_adv=layer model.doser_type=linear",
    "adversary.adv_loss=focal adversary.n_layers_adv=1 model.doser_type=sigm train.gradient_clip_value=0",
    "train.objective=both train.decoupled_decay=true train.wd=0.1",
    "train.objective=paired model.recon_loss=zinb train.lr_schedule=cosine",
    "model.norm_encoder=batch model.norm_decoder=batch",
    "model.norm_encoder=layer model.norm_decoder=none",
    "model.recon_loss=zinb model.norm_decoder=layer",
    "model.recon_loss=gauss model.norm_decoder=layer",
    "model.variational=true train.n_epochs_kl_warmup=7 train.gradient_clip_value=0",
    "train.decoder_on_every_batch=true adversary.adv_steps=2",
    "train.gradient_clip_value=0.01 adversary.adv_loss=focal train.step_size_lr=1",
    "train.n_epochs_pretrain_ae=2 train.n_epochs_adv_warmup=5",
];

#[test]
fn in_float64_steps_of_fixed_shapes_equal_plain_ones() {
    let _alone = alone();
    for settings in SETTINGS {
        let plan = plan(settings);
        let found = replayed(&plan, Kind::Double, Device::Cpu, true);
        assert_eq!(found.graphs, 0, "a CPU has no graphs");
        alike(&found, &plain(&plan, Kind::Double, Device::Cpu), [1e-9, 1e-7], settings);
    }
}

#[test]
fn a_learner_that_was_saved_goes_on_as_if_it_had_not_been() {
    let _alone = alone();
    let plan = plan("model.norm_encoder=layer");
    let packer = BatchPacker::new(i64::from(GENES));
    let step = |engine: &GraphReplay, learner: &mut Learner, at: u64| {
        tch::manual_seed(7);
        let mut packed = packer.pack(&batch(0..70)).expect("memory");
        engine
            .step_on(learner, &mut packed, &StepExtras::default(), &StepDraws::default(), schedule(&plan, at))
            .expect("a step");
    };
    let mut whole = learner(&plan, Kind::Double, Device::Cpu);
    let engine = GraphReplay::new(&mut whole).expect("a device");
    (0..3).for_each(|at| step(&engine, &mut whole, at));
    let saved = whole.state().expect("memory");
    (3..6).for_each(|at| step(&engine, &mut whole, at));
    let mut resumed = learner(&plan, Kind::Double, Device::Cpu);
    let engine = GraphReplay::new(&mut resumed).expect("a device");
    resumed.restore(&saved, Path::new("itself")).expect("the same network");
    (3..6).for_each(|at| step(&engine, &mut resumed, at));
    let (whole, resumed) = (whole.state().expect("memory"), resumed.state().expect("memory"));
    assert!(whole.iter().all(|(name, tensor)| *tensor == resumed[name]), "a state is not the whole state");
    // A plain step continues from it, too.
    let mut plain = learner(&plan, Kind::Double, Device::Cpu);
    plain.restore(&saved, Path::new("itself")).expect("the same network");
    assert_eq!(plain.state().expect("memory")["autoencoder.steps.module.px_r"], saved["autoencoder.steps.module.px_r"]);
}

#[test]
fn what_can_not_be_replayed_says_why() {
    let _alone = alone();
    for (settings, why) in [
        ("train.mixup_alpha=0.2 model.recon_loss=zinb", "mixed"),
        ("train.accumulate=2", "accumulate"),
        ("train.checkpointing=true", "checkpointing"),
        ("model.doser_type=mlp", "mlp"),
    ] {
        let learner = learner(&plan(settings), Kind::Float, Device::Cpu);
        assert!(GraphReplay::lacks(&learner).is_some_and(|reason| reason.contains(why)), "{settings}");
    }
}

#[test]
fn rounded_copies_of_weights_follow_them() {
    let _alone = alone();
    let plan = plan("train.precision=bf16");
    let packer = BatchPacker::new(i64::from(GENES));
    let step = |engine: &GraphReplay, learner: &mut Learner, at: u64| {
        let mut packed = packer.pack(&batch(0..70)).expect("memory");
        engine
            .step_on(learner, &mut packed, &StepExtras::default(), &StepDraws::default(), schedule(&plan, at))
            .expect("a step");
    };
    let mut kept = learner(&plan, Kind::Float, Device::Cpu);
    let engine = GraphReplay::new(&mut kept).expect("a device");
    (0..6).for_each(|at| step(&engine, &mut kept, at));
    // An engine rounds the weights that it finds.
    let mut rounded = learner(&plan, Kind::Float, Device::Cpu);
    for at in 0..6 {
        let engine = GraphReplay::new(&mut rounded).expect("a device");
        step(&engine, &mut rounded, at);
        let saved = rounded.state().expect("memory");
        rounded = learner(&plan, Kind::Float, Device::Cpu);
        rounded.restore(&saved, Path::new("itself")).expect("the same network");
    }
    let (kept, rounded) = (kept.state().expect("memory"), rounded.state().expect("memory"));
    assert!(kept.iter().all(|(name, tensor)| *tensor == rounded[name]), "a copy is not its weight, rounded");
}
