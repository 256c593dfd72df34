//! How many cells a second of processor time trains, by either engine: whole runs through the pipeline, with loader,
//! schedules, losses and validation, on simulated cells shaped like Norman's.
//!
//! ```sh
//! cargo bench --bench train -- [CELLS] [THREADS]
//! ```
//!
//! The network of the preset `norman`, 2,000 genes of which 17% are non-zero in a cell, one batch for the autoencoder to two for
//! the adversaries from the start, no mixup. One line of JSON a run: the engines in turn, so that both see the same neighbours on the
//! machine, and each twice. A run of few epochs is taken off one of more: what is left is epochs alone.
#![allow(clippy::disallowed_methods, reason = "a benchmark writes files of its own")]
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[path = "common/clock.rs"]
mod clock;

use std::{cell::Cell, error::Error, fs, num::NonZero, path::Path, rc::Rc};

use perturbine::{
    Atlas, Resources, Training,
    flows::{
        ingesting::{IngestOptions, ingest},
        simulate,
    },
    schemas::config::{Preset, Settings},
    stages::{
        formats::format::{Choice, open},
        reader::split::{Scheme, Split, SplitShares},
        simulate::{SimulateSettings, Simulator},
        storage::disk::ScratchFolder,
    },
};
use tch::Device;

use self::clock::processor_seconds;

/// Epochs of the shorter and the longer run.
const EPOCHS: [u32; 2] = [1, 4];

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let cells: u64 = arguments.first().map_or(Ok(20_000), |text| text.parse())?;
    let threads: usize = arguments.get(1).map_or(Ok(1), |text| text.parse())?;
    tch::set_num_threads(i32::try_from(threads)?);
    let scratch = ScratchFolder::create()?;
    let (file, folder) = (scratch.path().join("bench.h5ad"), scratch.path().join("bench.atlas"));
    let like_norman = SimulateSettings {
        cells,
        genes: 2000,
        conditions: 230,
        combos: 125,
        cell_types: 1,
        density: 0.17,
        batches: 2,
        ..SimulateSettings::default()
    };
    simulate(&Simulator::new(like_norman)?, &file, None, &Resources::default())?;
    ingest(open(&file, &Choice::default())?, &folder, &IngestOptions::default(), &Resources::default())?;
    let atlas = Atlas::open(&folder)?;
    for _ in 0..2 {
        for batch in [2048, 128] {
            for engine in ["plain", "fused"] {
                let [few, many] = [
                    run(&atlas, scratch.path(), engine, batch, EPOCHS[0], threads)?,
                    run(&atlas, scratch.path(), engine, batch, EPOCHS[1], threads)?,
                ];
                let (trained, seconds) = (many.0 - few.0, many.1 - few.1);
                let line = serde_json::json!({
                    "engine": engine,
                    "batch": batch,
                    "threads": threads,
                    "cells_cpu_s": (trained / seconds).round(),
                });
                println!("{line}");
            }
        }
    }
    Ok(())
}

/// Training cells over all epochs, and seconds of processor time.
fn run(atlas: &Atlas, scratch: &Path, engine: &str, batch: u32, epochs: u32, threads: usize) -> Result<(f64, f64)> {
    let assignments = [
        format!("train.engine={engine}"),
        format!("train.batch_size={batch}"),
        format!("train.epochs={epochs}"),
        format!("train.check_val_every_n_epoch={}", 2 * EPOCHS[1]),
        "train.n_epochs_pretrain_ae=0".into(),
        "train.n_epochs_adv_warmup=0".into(),
        "train.mixup_alpha=0".into(),
        "adversary.adv_steps=3".into(),
    ];
    let settings = Settings::layered(Preset::Norman, None, &assignments)?;
    let split = Split::make(atlas, "all", &Scheme::Nothing, SplitShares { valid: 0.05, reference: 0.0 }, 0)?;
    let folder = scratch.join(format!("{engine}-{batch}-{epochs}"));
    let resources = Resources { threads: NonZero::new(threads).ok_or("no threads")?, ..Resources::default() };
    let training = Training::prepare(atlas, split, &settings, &folder, Device::Cpu, resources)?;
    let before = processor_seconds()?;
    let counted = Rc::new(Cell::new(0.0));
    let counter = counted.clone();
    training.run(
        false,
        Box::new(move |epoch| counter.set(counter.get() + epoch.values["cells_per_second"] * epoch.values["seconds"])),
    )?;
    let seconds = processor_seconds()? - before;
    fs::remove_dir_all(&folder)?;
    Ok((counted.get(), seconds))
}
