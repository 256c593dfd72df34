//! GPU memory: it agrees with the prediction, and does not grow.

use stages::model::{
    draws::StepDraws,
    graph_replay::GraphReplay,
    schedule::{Clock, Schedule},
    step::{Engine, Learner},
    transfer::{BatchPacker, StepExtras},
};
use tch::{Device, Kind};

use crate::{
    gpu::{Counter, Gpu, inside},
    small_network::{GENES, batch, plan, vocabulary},
};

/// Enough cells for four batches of the largest size before a step is recorded, since the last batch of an epoch is smaller.
const ATLAS: &str = "--cells 20000 --genes 5000 --conditions 12 --combos 2 --density 0.05";

#[test]
fn a_training_takes_what_explain_says() {
    let Some(gpu) = Gpu::with_simulated(ATLAS) else { return };
    let (mut all, mut off) = (Vec::new(), 0.0_f64);
    for preset in ["cpa", "residual"] {
        for cells in [128, 1024, 2048, 8192] {
            let out = format!("{preset}-{cells}");
            let flags = format!(
                "train s.atlas --out {out} --preset {preset} --epochs 8 --batch-size {cells} --seed 1 --device cuda:0 \
                 --set train.n_epochs_pretrain_ae=1 --set train.n_epochs_adv_warmup=2 --set train.check_val_every_n_epoch=4"
            );
            let predicted_bytes = gpu.json(&format!("explain {flags}")).0["device_bytes"].as_f64().unwrap();
            let found = gpu.json(&flags).0["peak_device_bytes"].as_f64().unwrap();
            all.push(format!("{preset} at {cells}: {:.0} MB said, {:.0} MB found", predicted_bytes / 1e6, found / 1e6));
            off = off.max((predicted_bytes / found - 1.0).abs());
        }
    }
    assert!(off <= 0.15, "{}", all.join("\n"));
}

#[test]
fn a_thousand_steps_leave_nothing_behind() {
    let Some(counters) = inside("memory::a_thousand_steps_leave_nothing_behind", &[]) else { return };
    let plan = plan("model.dropout_rate_encoder=0.1");
    let mut learner = Learner::new(&plan, GENES, &vocabulary(), Kind::Float, Device::Cuda(0));
    let engine = GraphReplay::new(&mut learner).expect("a device");
    let packer = BatchPacker::new(i64::from(GENES));
    let kept = [Counter::DeviceBytes, Counter::PinnedBytes, Counter::Streams, Counter::Graphs];
    let mut held = Vec::new();
    for step in 0..1100_u64 {
        let cells = if step % 4 == 3 { 10..50 } else { 0..70 };
        let mut packed = packer.pack(&batch(cells)).expect("memory");
        let clock = Clock { epoch: 3, batch: step % 3, step, updates: step, of: 1100 };
        let schedule = Schedule::at(&plan, clock);
        engine
            .step_on(&mut learner, &mut packed, &StepExtras::default(), &StepDraws::default(), schedule)
            .expect("a step");
        if step == 99 || step == 1099 {
            held.push(kept.map(|counter| counters.get(counter)));
        }
    }
    assert_eq!(held[0], held[1], "{kept:?} grew over a thousand steps");
    assert!(counters.get(Counter::GraphLaunches) > 0, "nothing was replayed");
}
