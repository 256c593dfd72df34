//! Every path through the program works on a GPU, for all presets and losses.

use schemas::config::Preset;
use serde_json::Value;

use crate::gpu::{Gpu, Seen};

const GPU: &str = "--device cuda:0";
/// Few epochs that use all of a preset's schedule: its own are for hours.
const SHORT: &str = "--device cuda:0 --batch-size 64 --seed 1 --set train.check_val_every_n_epoch=2 \
    --set train.n_epochs_pretrain_ae=1 --set train.n_epochs_adv_warmup=2 --set train.early_stopping_patience=0";
/// Settings that differ from those of the presets.
const LOSSES: [&str; 6] = [
    "--preset cpa --set model.recon_loss=zinb",
    "--preset cpa --set model.recon_loss=gauss",
    "--preset cpa --set model.variational=true",
    "--preset cpa --set train.precision=bf16",
    "--preset cpa --set train.accumulate=2 --set train.checkpointing=true",
    "--preset residual --set model.recon_loss=gauss --set model.dispersion_start=random",
];

/// Trains for some epochs; the atlas has nine batches.
fn train(gpu: &Gpu, flags: &str) -> (Value, Seen) {
    gpu.json(&format!("train s.atlas --out m --epochs 6 {SHORT} {flags}"))
}

/// Commands for a model, each of which computes on the device.
fn use_model(gpu: &Gpu, what: &str) {
    for command in [
        "predict m s.atlas --to observed --out means",
        "predict m s.atlas --to observed --output cells --out cells",
        "predict m s.atlas --to observed --output latent --out latent",
        "embed m s.atlas --out embeddings.parquet",
        "evaluate m s.atlas --on valid",
    ] {
        let (_, observed) = gpu.json(&format!("{command} {GPU}"));
        assert!(observed.counter("launches") > 0, "{what}: {command} launched nothing");
    }
}

#[test]
fn every_preset_trains_and_its_model_is_used() {
    for preset in Preset::ALL.map(Preset::name) {
        let Some(gpu) = Gpu::with_atlas() else { return };
        let (result, observed) = train(&gpu, &format!("--preset {preset}"));
        assert_eq!(
            (&result["epochs"], &result["device"]),
            (&6.into(), &"cuda:0 (Stand-in (sm_90))".into()),
            "{preset}"
        );
        assert!(result["peak_device_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{preset}: {result}");
        assert!(observed.counter("graph_launches") > 0, "{preset}: nothing was replayed");
        use_model(&gpu, preset);
    }
}

#[test]
fn every_loss_trains_and_its_model_is_used() {
    for flags in LOSSES {
        let Some(gpu) = Gpu::with_atlas() else { return };
        train(&gpu, flags);
        use_model(&gpu, flags);
    }
}

#[test]
fn every_preset_goes_on_where_it_lost_the_device() {
    for preset in Preset::ALL.map(Preset::name) {
        let Some(mut gpu) = Gpu::with_atlas() else { return };
        let flags = format!("--preset {preset}");
        let (_, observed) = train(&gpu, &flags);
        std::fs::remove_dir_all(gpu.home().path("m")).unwrap();
        // After the first epoch there is a checkpoint.
        let launches = observed.counter("launches") + observed.counter("graph_launches");
        gpu.set(&[("LOSE_AFTER", &(launches * 3 / 4).to_string())]);
        let (lost, _) = gpu.run(&format!("train s.atlas --out m --epochs 6 {SHORT} {flags}"));
        assert_eq!(lost.code, 74, "{preset}: {}", lost.stderr);
        gpu.set(&[]);
        let (result, _) = train(&gpu, &format!("{flags} --resume"));
        assert_eq!(result["epochs"], 6, "{preset}: {result}");
        let history = std::fs::read_to_string(gpu.home().path("m/history.jsonl")).unwrap();
        assert_eq!(history.lines().count(), 6, "{preset}: {history}");
    }
}

#[test]
fn every_preset_is_cross_validated() {
    for preset in Preset::ALL.map(Preset::name) {
        let Some(gpu) = Gpu::with_atlas() else { return };
        let (result, observed) = gpu.json(&format!(
            "crossval s.atlas --scheme leave-out:cell_type --epochs 2 --preset {preset} {SHORT} --out folds"
        ));
        assert!(result.is_object() && observed.counter("launches") > 0, "{preset}: {result}");
        assert!(gpu.home().path("folds/crossval.json").exists(), "{preset}");
    }
}
