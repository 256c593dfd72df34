//! Every road of the program runs through on a GPU.

use schemas::config::Preset;
use serde_json::Value;

use crate::gpu::{Gpu, Seen};

/// The smallest batches and fewest epochs that use all of a preset's schedule: its own are for hours.
const SHORT: &str = "--batch-size 64 --seed 1 --set train.check_val_every_n_epoch=2 --set train.n_epochs_pretrain_ae=1 \
    --set train.n_epochs_adv_warmup=2";

fn train(gpu: &Gpu, flags: &str) -> (Value, Seen) {
    gpu.json(&format!("train s.atlas --out m --epochs 5 --device cuda:0 {SHORT} {flags}"))
}

#[test]
fn every_preset_trains_resumes_predicts_and_is_evaluated() {
    for preset in Preset::ALL {
        let Some(gpu) = Gpu::with_atlas() else { return };
        let name = preset.name();
        let flags = format!("--preset {name} --hold-out condition=C0000");
        let (told, seen) = train(&gpu, &flags);
        assert_eq!((&told["epochs"], &told["device"]), (&5.into(), &"cuda:0 (Stand-in (sm_90))".into()), "{name}");
        assert!(told["peak_device_bytes"].as_u64().is_some_and(|bytes| 0 < bytes), "{name}: {told}");
        assert!(0 < seen.counter("launches"), "{name}: nothing was launched");
        for command in [
            "predict m s.atlas --to observed --out p --device cuda:0",
            "predict m s.atlas --to observed --output cells --out c --device cuda:0",
            "embed m s.atlas --out e.parquet --device cuda:0",
            "evaluate m s.atlas --device cuda:0",
        ] {
            let (_, seen) = gpu.json(command);
            assert!(0 < seen.counter("launches"), "{name}: {command} launched nothing");
        }
    }
}
