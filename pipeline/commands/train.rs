//! `train`.

use std::path::Path;

use schemas::{
    config::{GeneChoice, GenesKept, Preset},
    model_files as files,
};
use serde_json::json;
use stages::{
    reader::split::Split,
    storage::disk::refuse_existing,
    trainer::{
        counterfactual::SMALLEST_SHARE,
        train::{EpochReport, OnEpoch},
    },
};
use tch::Device;

use crate::device::device;
use cli::model_args::{SettingsArgs, TrainArgs};
use cli::{
    CommandContext,
    allocator::{self, FreedMemory},
    output::{OutputKind, OutputPlace},
    progress::{Steps, per_second},
    show::bytes,
    splits::{held_out, note_untrained},
};
use perturbine::{
    Atlas, Error, Result, Settings, Training, devices,
    flows::{ProgressCounter, ingesting, profiling::profiled, training::split_shares},
    memory::PeakMemory,
    schemas::counting::counted,
};

pub(super) fn train(args: TrainArgs, context: &CommandContext) -> Result<()> {
    let place = OutputPlace::new("--out", &args.out, OutputKind::Model, args.force)?;
    let place = if args.resume { place } else { place.afresh()? };
    args.profile.as_deref().map_or(Ok(()), |profile| OutputKind::Card.check("--profile", profile))?;
    let training = prepare_training(&args, place.path(), device(&args.device)?, context)?;
    training.check_folder(args.resume)?;
    args.profile.as_deref().map_or(Ok(()), refuse_existing)?;
    let on = training.device();
    let device = devices::name_of(on);
    context.show.note(&format!(
        "training on {} for at most {}, on {device}; `perturbine explain train` shows the plan",
        counted(training.cells(), "cell"),
        counted(training.epochs().into(), "epoch")
    ));
    // The allocator would otherwise keep the memory saved by recomputing.
    allocator::give_back(if training.card().config.train.checkpointing {
        FreedMemory::All
    } else {
        FreedMemory::Large
    });
    let peak = PeakMemory::watch();
    let (epochs, cells) = (training.epochs(), training.cells());
    let steps = context.show.steps(u64::from(epochs) * cells, "cells");
    let drawn = steps.clone();
    let training = training.telling(ProgressCounter::to(move |done| {
        drawn.reached_with(done, |rate| within_epoch(done, cells, epochs, &rate));
    }));
    let on_epoch = on_epoch(steps.clone(), epochs, cells);
    let (trained, report) = match args.profile.as_deref().zip(context.trace.as_ref()) {
        Some((path, trace)) => profiled(training, args.resume, on_epoch, path, trace)?,
        None => training.run(args.resume, on_epoch)?,
    };
    steps.end();
    place.take_place()?;
    let card = &trained.card;
    let selection =
        card.best.map(|best| json!({ "metric": best.monitor.name(), "value": best.value, "split": "valid" }));
    let mut result = json!({
        "epochs": card.epochs,
        "best_epoch": card.best.map(|best| best.epoch),
        "cells_per_second": trained.cells_per_second,
        "peak_memory_bytes": peak.bytes(),
        "wait_fraction": { "data": trained.waited_for_data, "sink": trained.waited_for_disk },
        "selection": selection,
        "model": args.out.display().to_string(),
        "device": device,
        "slow_stage": report.slow_stage(),
        "network_share": trained.share,
    });
    if let Some(bytes) = devices::peak_bytes(on)? {
        result["peak_device_bytes"] = bytes.into();
    }
    context.show.result(&result, || {
        let best = card.best.map_or("the last epoch's weights are kept".to_owned(), |best| {
            format!("the weights of epoch {} are kept (valid {} {:.4})", best.epoch, best.monitor.name(), best.value)
        });
        let adds = match trained.share {
            Some(share) if share <= SMALLEST_SHARE => "\nthe network adds nothing measurable beyond the offset here",
            _ => "",
        };
        format!(
            "trained {} at {} cells/s; {best}; model in {} (peak memory {}){adds}",
            counted(card.epochs.into(), "epoch"),
            per_second(trained.cells_per_second),
            args.out.display(),
            bytes(result["peak_memory_bytes"].as_u64().unwrap_or(0))
        )
    })
}

pub(super) fn prepare_training(
    args: &TrainArgs,
    out: &Path,
    device: Device,
    context: &CommandContext,
) -> Result<Training> {
    let mut settings = settings(&args.settings, args.seed)?;
    let finds_batch_size = settings.train.batch_size == 0;
    if finds_batch_size && args.resume {
        settings.train.batch_size = batch_size_before(out)?;
    }
    let atlas = context.open_data(&args.atlas, Some(&args.keys))?;
    let split = split_of(args, &atlas, &settings, context)?;
    note_untrained(&atlas, &split, context);
    let training = Training::prepare(&atlas, split, &settings, out, device, context.resources.clone())?;
    if settings.data.genes != GeneChoice::All {
        context.show.note(&training.card().gene_selection.to_string());
    }
    if finds_batch_size {
        let chosen = training.card().config.train.batch_size;
        let within = if device == Device::Cpu { "--memory" } else { "--memory and the GPU's memory" };
        context.show.note(&format!("batches of {chosen} cells: memory stays within {within}"));
    }
    Ok(training)
}

/// The batch size of the run to resume, whatever memory is free now; 0 if there is none.
fn batch_size_before(out: &Path) -> Result<u32> {
    let path = out.join(files::CONFIG);
    if !path.exists() {
        return Ok(0);
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    Ok(Settings::layered(Preset::Cpa, Some((&path.display().to_string(), &text)), &[])?.train.batch_size)
}

/// The preset, with all overrides.
pub(super) fn settings(args: &SettingsArgs, seed: Option<u64>) -> Result<Settings> {
    let preset = Preset::ALL.into_iter().find(|preset| preset.name() == args.preset);
    let preset = preset.ok_or_else(|| Error::unknown("preset", &args.preset, Preset::ALL.map(Preset::name)))?;
    let text =
        args.config.as_ref().map(|path| std::fs::read_to_string(path).map_err(Error::io("read", path))).transpose()?;
    let path = args.config.as_ref().map(|path| path.display().to_string());
    if args.epochs == Some(0) {
        return Err(Error::usage("--epochs must be at least 1", "leave it out to have the number chosen"));
    }
    if args.batch_size.as_deref() == Some("0") {
        return Err(Error::usage(
            "--batch-size must be at least 2",
            "--batch-size auto chooses the largest that fits into --memory",
        ));
    }
    let mut assignments = args.set.clone();
    assignments.extend(args.epochs.map(|epochs| format!("train.epochs={epochs}")));
    assignments.extend(args.batch_size.as_ref().map(|size| format!("train.batch_size={size}")));
    assignments.extend(seed.map(|seed| format!("seed={seed}")));
    let mut settings = Settings::layered(preset, path.as_deref().zip(text.as_deref()), &assignments)?;
    if let Some(genes) = &args.genes {
        settings.data.genes = genes.clone();
    }
    if !args.genes_keep.is_empty() {
        settings.data.genes_keep = args.genes_keep.iter().cloned().map(GenesKept::from).collect();
    }
    Ok(settings)
}

fn split_of(args: &TrainArgs, atlas: &Atlas, settings: &Settings, context: &CommandContext) -> Result<Split> {
    match &args.split {
        Some(name) if Split::names(atlas).contains(name) => Split::read(atlas, name),
        Some(name) if atlas.path() != args.atlas => {
            if let Some(decided) = ingesting::import_split(atlas, atlas.path(), name)? {
                context.show.note(&decided);
            }
            Split::read(atlas, name)
        }
        Some(name) => Split::read(atlas, name),
        None => {
            let name = if args.hold_out.is_empty() { "random" } else { "hold-out" };
            held_out(atlas, name, &args.hold_out, split_shares(settings), settings.seed)
        }
    }
}

/// The scores of an epoch in one line.
pub(super) fn epoch_line(report: &EpochReport, epochs: u32) -> String {
    let value = |name: &str, shown: &str| report.values.get(name).map(|value| format!("{shown} {value:.3}"));
    let scores = [
        ("train.recon", "loss"),
        ("valid.recon", "valid"),
        ("valid.r2_mean", "r2_mean"),
        ("valid.pearson_delta", "pearson_delta"),
    ];
    let scores: Vec<String> = scores.iter().filter_map(|(name, shown)| value(name, shown)).collect();
    format!("epoch {} ({} of {epochs})  {}", report.epoch, report.epoch + 1, scores.join("  "))
}

/// The message about progress within an epoch.
pub(super) fn within_epoch(done: u64, cells: u64, epochs: u32, rate: &str) -> String {
    let epoch = done.saturating_sub(1) / cells.max(1);
    format!("epoch {epoch} ({} of {epochs}), {rate}", epoch + 1)
}

/// Progress within and between epochs; where there is no terminal, one line per validated epoch.
fn on_epoch(steps: Steps, epochs: u32, cells: u64) -> OnEpoch {
    Box::new(move |report: &EpochReport| {
        let line = epoch_line(report, epochs);
        steps.reached_with((u64::from(report.epoch) + 1) * cells, |_| line.clone());
        if report.values.contains_key("valid.recon") {
            steps.line(&line);
        }
    })
}
