//! Means of conditions, the whole way from an atlas to a Parquet file, against the decoder's forward passes alone.
//!
//! ```sh
//! cargo bench --bench predict -- [CELLS] [ROUNDS]
//! ```
//!
//! The network of the preset `norman`, 2,000 genes; every condition from the controls of each covariate combination. *Alone* is
//! libtorch decoding as many latents, in batches of the same size, and throwing away what comes out. One thread; processor time, in turn.
#![allow(clippy::disallowed_methods, reason = "a benchmark writes files of its own")]
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[path = "common/clock.rs"]
mod clock;

use std::{error::Error, fs, hint::black_box, num::NonZero, path::Path};

use perturbine::{
    Atlas, Model, Prediction, Query, Request, Resources, Training,
    flows::{
        ingesting::{IngestOptions, ingest},
        predicting::PredictionForm,
        simulate,
    },
    schemas::config::{Preset, Settings},
    stages::{
        formats::format::{Choice, open},
        model::layers::Mode,
        predictor::predict::batch_size,
        reader::split::{Scheme, Split, SplitShares},
        simulate::{SimulateSettings, Simulator},
        storage::disk::ScratchFolder,
    },
};
use tch::{Device, Kind, Tensor};

use self::clock::processor_seconds;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let cells: u64 = arguments.first().map_or(Ok(20_000), |text| text.parse())?;
    let rounds: u32 = arguments.get(1).map_or(Ok(3), |text| text.parse())?;
    tch::set_num_threads(1);
    let scratch = ScratchFolder::create()?;
    let (atlas, model) = trained(scratch.path(), cells)?;
    for round in 0..rounds {
        for output in [PredictionForm::WideMeans, PredictionForm::Cells] {
            let few = (output == PredictionForm::Cells).then(|| NonZero::new(100)).flatten();
            let query = Query { to: vec![Request::Observed], cells_per_condition: few, ..Query::default() };
            let prediction = Prediction::prepare(&atlas, &model, &query, None, one_thread())?;
            let jobs = prediction.jobs();
            let sizes: Vec<usize> = jobs.jobs.iter().map(|job| batch_size(job.targets.len())).collect();
            let (decoded, size) = (jobs.predicted_cells(), sizes.iter().copied().max().unwrap_or(1));
            let out = scratch.path().join(format!("{output:?}-{round}"));
            let before = processor_seconds()?;
            prediction.write(output, &out)?;
            let whole = processor_seconds()? - before;
            let before = processor_seconds()?;
            decode_alone(&model, decoded, size)?;
            let alone = processor_seconds()? - before;
            fs::remove_dir_all(&out)?;
            #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
            let rate = |seconds: f64| (decoded as f64 / seconds).round();
            let line = serde_json::json!({
                "output": format!("{output:?}"),
                "cells": decoded,
                "whole_cells_cpu_s": rate(whole),
                "decoder_alone_cells_cpu_s": rate(alone),
                "ratio": (alone / whole * 100.0).round() / 100.0,
            });
            println!("{line}");
        }
    }
    Ok(())
}

fn one_thread() -> Resources {
    Resources { threads: NonZero::<usize>::MIN, ..Resources::default() }
}

/// An atlas, and a model that has seen it once.
fn trained(scratch: &Path, cells: u64) -> Result<(Atlas, Model)> {
    let (file, folder) = (scratch.join("bench.h5ad"), scratch.join("bench.atlas"));
    let like_norman = SimulateSettings {
        cells,
        genes: 2000,
        conditions: 100,
        combos: 50,
        cell_types: 2,
        density: 0.17,
        batches: 1,
        ..SimulateSettings::default()
    };
    simulate(&Simulator::new(like_norman)?, &file, None, &Resources::default())?;
    ingest(open(&file, &Choice::default())?, &folder, &IngestOptions::default(), &Resources::default())?;
    let atlas = Atlas::open(&folder)?;
    let settings = Settings::layered(Preset::Norman, None, &["train.epochs=1".to_owned()])?;
    let split = Split::make(&atlas, "all", &Scheme::Nothing, SplitShares { valid: 0.05, reference: 0.0 }, 0)?;
    let out = scratch.join("model");
    Training::prepare(&atlas, split, &settings, &out, Device::Cpu, one_thread())?.run(false, Box::new(|_| {}))?;
    let model = Model::load(&out, Device::Cpu)?;
    Ok((atlas, model))
}

/// Decodes this many latents.
fn decode_alone(model: &Model, cells: u64, size: usize) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let rows = i64::try_from(size)?;
    let latent = Tensor::randn([rows, model.network.width()], (Kind::Float, Device::Cpu));
    let library = Tensor::full([rows, 1], 2000.0, (Kind::Float, Device::Cpu));
    for _ in 0..cells.div_ceil(size as u64) {
        drop(black_box(model.network.decode(&latent, None, &library, Mode::Eval)));
    }
    Ok(())
}
