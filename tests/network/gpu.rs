//! A GPU computes the same as the CPU, and nothing is left behind there. Without a GPU, these tests report that and pass.
//!
//! Tolerances are parts of what is compared. In float64 the learning rate alone is rounded, to float32, as libtorch's kernel
//! reads it; in float32, sums are computed in other orders, which Adam amplifies where gradients are small.

#![allow(clippy::print_stderr, reason = "a test that has nothing to test says so")]

use std::{path::Path, sync::MutexGuard, thread};

use stages::{
    model::{
        draws::StepDraws,
        graph_replay::GraphReplay,
        input::Input,
        packed_batch::PackedBatch,
        step::{Engine, Learner},
        transfer::{BatchPacker, StepExtras},
    },
    torch::{self, device_memory, synchronise},
};
use tch::{Cuda, Device, Kind};

use crate::support::{
    small_network::{GENES, alone, batch, plan},
    steps::{STEPS, alike, cells, learner, plain, replayed, schedule},
};

/// Nothing that is drawn: the generators of devices differ.
const SETTINGS: [&str; 7] = [
    "train.objective=both train.decoupled_decay=true train.wd=0.1",
    "model.norm_encoder=batch model.norm_decoder=batch",
    "model.norm_encoder=layer model.norm_decoder=none model.doser_type=sigm",
    "model.recon_loss=zinb model.norm_decoder=layer",
    "model.recon_loss=gauss model.norm_decoder=layer",
    "train.decoder_on_every_batch=true adversary.adv_steps=2",
    "train.n_epochs_pretrain_ae=2 train.n_epochs_adv_warmup=5 adversary.adv_loss=focal",
];

/// Draws on the device itself.
const DRAWN: [&str; 2] = [
    "model.dropout_rate_encoder=0.2 model.norm_encoder=layer adversary.dropout_rate_adv=0.1",
    "model.variational=true train.n_epochs_kl_warmup=7",
];

const GPU: Device = Device::Cuda(0);

/// The GPU, for one test at a time; none if there is none.
fn gpu() -> Option<MutexGuard<'static, ()>> {
    let guard = alone();
    let why = match torch::load_cuda() {
        Err(why) => why,
        Ok(()) if !Cuda::is_available() => "libtorch finds none that it can use".to_owned(),
        Ok(()) => return Some(guard),
    };
    eprintln!("skipped, there is no GPU: {why}");
    None
}

#[test]
fn in_float64_a_gpu_takes_the_same_steps() {
    let Some(_gpu) = gpu() else { return };
    for settings in SETTINGS {
        let plan = plan(settings);
        let expected = plain(&plan, Kind::Double, Device::Cpu);
        alike(&plain(&plan, Kind::Double, GPU), &expected, [1e-8, 1e-6], settings);
        alike(&replayed(&plan, Kind::Double, GPU, false), &expected, [1e-6, 1e-5], settings);
        let noted = replayed(&plan, Kind::Double, GPU, true);
        alike(&noted, &expected, [1e-6, 1e-5], settings);
        assert!(noted.graphs > 0, "{settings}: nothing was replayed");
    }
}

#[test]
fn in_float32_it_stays_as_close_as_rounding_lets_it() {
    let Some(_gpu) = gpu() else { return };
    for settings in SETTINGS {
        let plan = plan(settings);
        let expected = plain(&plan, Kind::Double, Device::Cpu);
        // Before any step, losses and gradients alone.
        let mut first = replayed(&plan, Kind::Float, GPU, true);
        first.losses_and_norms.retain(|(name, _)| name.ends_with(" of step 0"));
        for (name, found) in first.losses_and_norms {
            let (_, expected) =
                expected.losses_and_norms.iter().find(|(known, _)| *known == name).expect("it is known");
            assert!(
                (found - expected).abs() <= 1e-4 * expected.abs().max(1e-3),
                "{settings}: {name} is {found}, not {expected}"
            );
        }
    }
}

#[test]
fn a_replayed_step_draws_and_computes_what_it_does_piece_by_piece() {
    let Some(_gpu) = gpu() else { return };
    for settings in SETTINGS.into_iter().chain(DRAWN) {
        let plan = plan(settings);
        let noted = replayed(&plan, Kind::Double, GPU, true);
        assert!(noted.graphs > 0, "{settings}: nothing was replayed");
        alike(&noted, &replayed(&plan, Kind::Double, GPU, false), [1e-8, 1e-6], settings);
    }
}

#[test]
fn batches_that_several_threads_pack_arrive_as_they_were() {
    let Some(_gpu) = gpu() else { return };
    let packer = BatchPacker::new(i64::from(GENES));
    let packed: Vec<Vec<PackedBatch>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope
                    .spawn(|| (0..50).map(|step| packer.pack(&batch(cells(step))).expect("memory")).collect::<Vec<_>>())
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    for batches in packed {
        for (step, packed) in (0..50).zip(batches) {
            let found = packed.input(Kind::Double, GPU).expect("a device");
            let expected = Input::new(&batch(cells(step)), i64::from(GENES), Kind::Double, Device::Cpu);
            assert_eq!(found.cells.dense().to_device(Device::Cpu), expected.cells.dense());
            assert_eq!(found.combinations.to_device(Device::Cpu), expected.combinations);
        }
    }
}

#[test]
fn cells_that_are_predicted_from_arrive_as_they_were() {
    let Some(_gpu) = gpu() else { return };
    let plan = plan("model.norm_encoder=layer");
    let (host, device) = (learner(&plan, Kind::Double, Device::Cpu), learner(&plan, Kind::Double, GPU));
    for step in 0..50 {
        let batch = batch(cells(step));
        let [expected, found] =
            [&host, &device].map(|learner| learner.network.cells(&batch.expression).expect("memory"));
        assert_eq!(found.log1p().to_device(Device::Cpu), expected.log1p());
        assert_eq!(found.library.to_device(Device::Cpu), expected.library);
    }
}

fn step(engine: &dyn Engine, learner: &mut Learner, packer: &BatchPacker, at: u64) {
    tch::manual_seed(i64::try_from(at).expect("few steps"));
    let mut packed = packer.pack(&batch(cells(at))).expect("memory");
    let schedule = schedule(&learner.plan, at);
    engine.step_on(learner, &mut packed, &StepExtras::default(), &StepDraws::default(), schedule).expect("a step");
}

#[test]
fn a_thousand_steps_leave_nothing_behind() {
    let Some(_gpu) = gpu() else { return };
    let mut learner = learner(&plan("model.dropout_rate_encoder=0.1"), Kind::Float, GPU);
    let engine = GraphReplay::new(&mut learner).expect("a device");
    let packer = BatchPacker::new(i64::from(GENES));
    let mut held = Vec::new();
    for at in 0..1100 {
        step(&engine, &mut learner, &packer, at);
        if at == 99 || at == 1099 {
            synchronise(0).expect("a device");
            held.push(device_memory(0).expect("a device"));
        }
    }
    let grown = held[1].tensors.saturating_sub(held[0].tensors);
    assert!(grown <= 1 << 20, "tensors grew by {grown} bytes over a thousand steps");
    let grown = held[1].kept.saturating_sub(held[0].kept);
    assert!(grown <= 32 << 20, "what is kept from the device grew by {grown} bytes over a thousand steps");
}

#[test]
fn what_was_saved_is_taken_up_again() {
    let Some(_gpu) = gpu() else { return };
    let plan = plan("model.norm_encoder=layer model.dropout_rate_encoder=0.2");
    let packer = BatchPacker::new(i64::from(GENES));
    let mut whole = learner(&plan, Kind::Double, GPU);
    let engine = GraphReplay::new(&mut whole).expect("a device");
    (0..STEPS / 2).for_each(|at| step(&engine, &mut whole, &packer, at));
    let saved: std::collections::BTreeMap<_, _> = whole
        .state()
        .expect("memory")
        .into_iter()
        .map(|(name, tensor)| (name, tensor.to_device(Device::Cpu)))
        .collect();
    (STEPS / 2..STEPS).for_each(|at| step(&engine, &mut whole, &packer, at));
    let whole = whole.state().expect("memory");
    drop(engine);
    let mut resumed = learner(&plan, Kind::Double, GPU);
    let engine = GraphReplay::new(&mut resumed).expect("a device");
    resumed.restore(&saved, Path::new("itself")).expect("the same network");
    (STEPS / 2..STEPS).for_each(|at| step(&engine, &mut resumed, &packer, at));
    for (name, tensor) in resumed.state().expect("memory") {
        let off = (&tensor - &whole[&name]).abs().max().double_value(&[]);
        assert!(off <= 1e-6, "{name} is off by {off}");
    }
}
