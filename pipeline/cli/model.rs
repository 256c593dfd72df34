//! Commands about models: train, predict, evaluate, report, explain.

use std::path::{Path, PathBuf};

use perturbine::{
    Atlas, Error, Model, Prediction, Query, Request, Result, Settings, Training,
    flows::{
        completed,
        judging::{JudgeOptions, evaluate as judge},
        predicting::{Output, own_split, split_for},
        training::PIPELINE_REPORT,
    },
    memory::PeakMemory,
};
use schemas::config::Preset;
use serde_json::json;
use stages::{
    evaluate::{Evaluation, Scale, frame},
    groups::Selector,
    judge::Anchor,
    publish::Publish,
    query::OnUnknown,
    report::{HistoryRow, ReportInput, Scatter, Table, page},
    saved::{self, files},
    split::{Part, Split},
    train::{EpochReport, OnEpoch},
};
use tch::Device;

use super::{
    Context,
    args::{
        EvaluateArgs, ExplainArgs, Explained, LayoutArg, OnUnknownArg, OutputArg, PredictArgs, ReadoutArg, ReportArgs,
        ScaleArg, TrainArgs,
    },
    show::{Show, bytes},
};

/// The file in a model's folder that holds its last evaluation, for the report.
const EVALUATION: &str = "evaluation.json";

pub(super) fn train(args: TrainArgs, context: &Context) -> Result<()> {
    let training = prepare_training(&args, context)?;
    context.show.note(&format!(
        "training on {} cells for at most {} epochs; `perturbine explain train` shows the plan",
        training.cells(),
        training.epochs()
    ));
    let peak = PeakMemory::watch();
    let on_epoch = epoch_bar(&context.show, training.epochs());
    let (trained, report) = training.run(args.resume, on_epoch)?;
    let card = &trained.card;
    let selection =
        card.best.map(|best| json!({ "metric": best.monitor.name(), "value": best.value, "split": "valid" }));
    let result = json!({
        "epochs": card.epochs,
        "best_epoch": card.best.map(|best| best.epoch),
        "cells_per_second": trained.cells_per_second,
        "peak_memory_bytes": peak.bytes(),
        "wait_fraction": { "data": trained.waited_for_data, "sink": trained.waited_for_disk },
        "selection": selection,
        "model": trained.folder,
        "slow_stage": report.slow_stage(),
    });
    context.show.result(&result, || {
        let best = card.best.map_or("the last epoch's weights are kept".to_owned(), |best| {
            format!("the weights of epoch {} are kept (valid {} {:.4})", best.epoch, best.monitor.name(), best.value)
        });
        format!(
            "trained {} epochs at {:.0} cells/s; {best}; model in {} (peak memory {})",
            card.epochs,
            trained.cells_per_second,
            trained.folder.display(),
            bytes(result["peak_memory_bytes"].as_u64().unwrap_or(0))
        )
    })
}

fn prepare_training(args: &TrainArgs, context: &Context) -> Result<Training> {
    let settings = settings(args)?;
    let atlas = atlas_of(args, context)?;
    let split = split_of(args, &atlas, &settings, context)?;
    Training::prepare(&atlas, split, &settings, &args.out, device(&args.device)?, context.resources.clone())
}

fn settings(args: &TrainArgs) -> Result<Settings> {
    let preset = match args.preset.as_str() {
        "cpa" => Preset::Cpa,
        other => return Err(Error::unknown("preset", other, ["cpa"])),
    };
    let text =
        args.config.as_ref().map(|path| std::fs::read_to_string(path).map_err(Error::io("read", path))).transpose()?;
    let path = args.config.as_ref().map(|path| path.display().to_string());
    let mut assignments = args.set.clone();
    assignments.extend(args.epochs.map(|epochs| format!("train.epochs={epochs}")));
    assignments.extend(args.batch_size.map(|size| format!("train.batch_size={size}")));
    assignments.extend(args.seed.map(|seed| format!("seed={seed}")));
    Settings::layered(preset, path.as_deref().zip(text.as_deref()), &assignments)
}

/// The atlas; an `.h5ad` file is ingested beside itself, once.
fn atlas_of(args: &TrainArgs, context: &Context) -> Result<Atlas> {
    #[cfg(feature = "hdf5")]
    if args.atlas.is_file() {
        let cache = args.atlas.with_extension("atlas");
        if !cache.exists() {
            context.show.note(&format!("ingesting {} into {}", args.atlas.display(), cache.display()));
            super::data::ingest_file(&args.atlas, &cache, &args.keys, context)?;
        }
        let atlas = context.open(&cache)?;
        let length = std::fs::metadata(&args.atlas).map_err(Error::io("read", &args.atlas))?.len();
        if atlas.manifest().sources.iter().all(|source| source.bytes != length) {
            let message = format!("{} was made from another version of {}", cache.display(), args.atlas.display());
            return Err(Error::usage(message, "remove the atlas, and it is made anew"));
        }
        if let Some(flag) = args.keys.disagrees_with(atlas.manifest()) {
            let message = format!("{} was made with another {flag}", cache.display());
            return Err(Error::usage(message, "remove the atlas, and it is made anew"));
        }
        context.show.note(&format!("using {}", cache.display()));
        return Ok(atlas);
    }
    context.open(&args.atlas)
}

fn split_of(args: &TrainArgs, atlas: &Atlas, settings: &Settings, context: &Context) -> Result<Split> {
    match &args.split {
        Some(name) if Split::names(atlas).contains(name) => Split::read(atlas, name),
        Some(name) if args.atlas.is_file() => {
            super::data::import_split(atlas.path(), name, context)?;
            Split::read(atlas, name)
        }
        Some(name) => Split::read(atlas, name),
        None => {
            let name = if args.hold_out.is_empty() { "random" } else { "hold-out" };
            super::data::held_out(atlas, name, &args.hold_out, settings.train.valid, settings.seed)
        }
    }
}

/// A bar on a terminal, a line an epoch that was validated elsewhere.
fn epoch_bar(show: &Show, epochs: u32) -> OnEpoch {
    let bar = show.bar(u64::from(epochs), "epochs");
    let lines = !show.quiet && bar.is_hidden();
    Box::new(move |report: &EpochReport| {
        let value = |name: &str| report.values.get(name).map(|value| format!("{name} {value:.4}"));
        let told = ["train.recon", "valid.recon", "valid.r2_mean", "valid.pearson_delta", "train.accuracy"]
            .iter()
            .filter_map(|name| value(name));
        let told = told.collect::<Vec<_>>().join("  ");
        bar.set_position(u64::from(report.epoch) + 1);
        if lines && report.values.contains_key("valid.recon") {
            eprintln!("epoch {}  {told}", report.epoch);
        }
        bar.set_message(told);
    })
}

pub(super) fn predict(args: PredictArgs, context: &Context) -> Result<()> {
    let output = output_of(&args);
    let prediction = prepare_prediction(&args, context)?;
    let skipped = prediction.jobs().skipped.clone();
    let source_cells = prediction.jobs().predicted_cells();
    for skipped in &skipped {
        context.show.note(&format!("skipped {}: {}", skipped.condition, skipped.why));
    }
    if args.dry_run {
        let targets = prediction.jobs().targets();
        let result = json!({ "targets": targets, "source_cells": source_cells, "skipped": skipped });
        return context
            .show
            .result(&result, || format!("{targets} conditions from {source_cells} cells would be predicted"));
    }
    let out = args
        .out
        .as_ref()
        .ok_or_else(|| Error::usage("--out is missing", "name the folder or .parquet file to write"))?;
    let peak = PeakMemory::watch();
    let started = std::time::Instant::now();
    let sink = Publish::create(out, prediction.schema(output))?;
    let run = prediction.pipeline(output)?.run("write", sink);
    let (published, _) = completed(run, "run the same command again: nothing was written")?;
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    let rate = source_cells as f64 / started.elapsed().as_secs_f64();
    let result = json!({
        "rows": published.rows,
        "files": published.files.len(),
        "bytes": published.bytes(),
        "cells_per_second": rate,
        "peak_memory_bytes": peak.bytes(),
        "skipped": skipped,
    });
    context.show.result(&result, || {
        format!("{} rows in {} ({}), {rate:.0} cells/s", published.rows, out.display(), bytes(published.bytes()))
    })
}

fn output_of(args: &PredictArgs) -> Output {
    match (args.output, args.layout) {
        (OutputArg::Cells, _) => Output::Cells,
        (OutputArg::Means, LayoutArg::Wide) => Output::WideMeans,
        (OutputArg::Means, LayoutArg::Long) => Output::LongMeans,
    }
}

fn prepare_prediction(args: &PredictArgs, context: &Context) -> Result<Prediction> {
    let atlas = context.open(&args.atlas)?;
    let model = Model::load(&args.model, device(&args.device)?)?;
    let split = match &args.split {
        Some(name) => Some(Split::read(&atlas, name)?),
        None => own_split(&model, &atlas)?,
    };
    let on_unknown = |arg| match arg {
        OnUnknownArg::Error => OnUnknown::Error,
        OnUnknownArg::Skip => OnUnknown::Skip,
    };
    let mut to = Vec::new();
    for text in &args.to {
        to.extend(Request::parse(text)?);
    }
    if to.is_empty() {
        let holds_out = split.as_ref().is_some_and(|split| 0 < split.counts()[&Part::Ood]);
        to.push(if holds_out { Request::Ood } else { Request::Observed });
    }
    let query = Query {
        to,
        from: args.from.as_deref().map(Selector::parse).transpose()?,
        unseen: on_unknown(args.unseen),
        no_control: on_unknown(args.no_control),
        cells_per_condition: args.cells_per_condition,
    };
    Prediction::prepare(&atlas, &model, &query, split.as_ref(), context.resources.clone())
}

pub(super) fn evaluate(args: EvaluateArgs, context: &Context) -> Result<()> {
    let atlas = context.open(&args.atlas)?;
    let model = Model::load(&args.model, device(&args.device)?)?;
    let split = split_for(&model, &atlas, args.split.as_deref())?;
    if split.counts()[&Part::Ood] == 0 {
        context
            .show
            .note("nothing was held out: the model is judged on valid rows, whose conditions it was trained on");
    }
    let options = JudgeOptions {
        scale: args.scale.map(|scale| match scale {
            ScaleArg::Log1p => Scale::Log1p,
            ScaleArg::Pseudobulk => Scale::Pseudobulk,
            ScaleArg::Values => Scale::Values,
        }),
        anchor: match args.readout {
            ReadoutArg::Anchored => Anchor::Anchored,
            ReadoutArg::Raw => Anchor::Raw,
        },
    };
    let judged = judge(&atlas, &model, split, options, &context.resources)?;
    for skipped in &judged.skipped {
        context.show.note(&format!("skipped {}: {}", skipped.condition, skipped.why));
    }
    let evaluation = &judged.judgement.evaluation;
    let kept = json!({ "evaluation": evaluation, "scatters": judged.judgement.scatters });
    let kept = serde_json::to_vec(&kept).map_err(|error| Error::Bug(error.to_string()))?;
    if let Err(error) = stages::disk::write_atomically(&args.model.join(EVALUATION), &kept) {
        context.show.note(&format!("the report will not have this evaluation: {error}"));
    }
    let not_a_table = |error: polars::error::PolarsError| Error::Bug(error.to_string());
    let (conditions, means) =
        (frame::conditions(evaluation).map_err(not_a_table)?, frame::means(evaluation).map_err(not_a_table)?);
    context
        .show
        .result(evaluation, || format!("{}\n{}\n{}", frame::draw(&conditions), frame::draw(&means), evaluation.summary))
}

pub(super) fn report(args: &ReportArgs, context: &Context) -> Result<()> {
    let card = saved::read_card(&args.model)?;
    let (evaluation, scatters) = kept_evaluation(&args.model)?;
    if evaluation.is_none() {
        context.show.note("the page has no evaluation: run `perturbine evaluate` first");
    }
    let line = |name: &str, value: String| (name.to_owned(), value);
    let input = ReportInput {
        title: args.model.display().to_string(),
        model_card: vec![
            line("genes", card.genes.len().to_string()),
            line("values", card.values.to_string()),
            line("training cells", card.vocabulary.combination_cells.iter().sum::<u64>().to_string()),
            line("combinations", card.vocabulary.combinations.len().to_string()),
            line("epochs", card.epochs.to_string()),
            line("best epoch", card.best.map_or("none".into(), |best| best.epoch.to_string())),
            line("split", card.split.clone()),
            line("atlas", card.atlas.clone()),
            line("seed", card.config.seed.to_string()),
            line("written by", card.written_by.clone()),
        ],
        history: history(&args.model.join(files::HISTORY))?,
        evaluation,
        scatters,
        pipeline: pipeline_table(&args.model.join(PIPELINE_REPORT))?,
    };
    stages::disk::write_atomically(&args.out, page(&input).as_bytes())?;
    context.show.result(&json!({ "file": args.out }), || format!("report in {}", args.out.display()))
}

fn kept_evaluation(model: &Path) -> Result<(Option<Evaluation>, Vec<Scatter>)> {
    #[derive(serde::Deserialize)]
    struct Kept {
        evaluation: Evaluation,
        scatters: Vec<Scatter>,
    }
    let path = model.join(EVALUATION);
    if !path.exists() {
        return Ok((None, Vec::new()));
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let kept: Kept = serde_json::from_str(&text).map_err(|error| Error::damaged(&path, error.to_string()))?;
    Ok((Some(kept.evaluation), kept.scatters))
}

fn history(path: &Path) -> Result<Vec<HistoryRow>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let rows = text.lines().map(|line| {
        let report: EpochReport =
            serde_json::from_str(line).map_err(|error| Error::damaged(path, error.to_string()))?;
        Ok(HistoryRow { epoch: report.epoch, values: report.values })
    });
    rows.collect()
}

/// What each edge measured, as rows of text.
fn pipeline_table(path: &PathBuf) -> Result<Table> {
    if !path.exists() {
        return Ok(Table::default());
    }
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let report: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::damaged(path, error.to_string()))?;
    let edges = report["edges"].as_array().cloned().unwrap_or_default();
    let columns: Vec<String> =
        edges.first().and_then(|edge| edge.as_object()).map(|edge| edge.keys().cloned().collect()).unwrap_or_default();
    let cell = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows = edges.iter().map(|edge| columns.iter().map(|column| cell(&edge[column])).collect());
    Ok(Table { rows: rows.collect(), columns })
}

pub(super) fn explain(args: ExplainArgs, context: &Context) -> Result<()> {
    let (graph, network) = match &args.what {
        Explained::Train(args) => {
            let training = prepare_training(args, context)?;
            let card = training.card();
            (training.graph()?, training_bytes(card))
        }
        Explained::Predict(args) => {
            let prediction = prepare_prediction(args, context)?;
            let targets = prediction.jobs().jobs.iter().map(|job| job.targets.len()).max().unwrap_or(0);
            let genes = stages::saved::read_card(&args.model)?.genes.len();
            let sums = 3 * 8 * targets * genes;
            let decoded = 12 * 4 * 1024 * genes;
            (prediction.pipeline(output_of(args))?.plan("write"), sums + decoded)
        }
    };
    let edges = graph.bytes();
    let floor = usize::try_from(perturbine::memory::anonymous_bytes().unwrap_or(0)).unwrap_or(0);
    let total = edges + network + floor;
    let result = json!({ "graph": graph, "edges_bytes": edges, "network_bytes": network, "floor_bytes": floor, "peak_memory_bytes": total });
    context.show.result(&result, || {
        let size = |count: usize| bytes(count as u64);
        format!(
            "{graph}\nedges {} + network {} + libtorch and program {} = at most {}",
            size(edges),
            size(network),
            size(floor),
            size(total)
        )
    })
}

/// Weights, gradients, optimiser states and the best weights, and what a step holds of a batch.
fn training_bytes(card: &saved::Card) -> usize {
    let model = &card.config.model;
    let wide = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    let (genes, latent) = (card.genes.len(), wide(model.n_latent));
    let hidden = |width: u32, layers: u32| wide(width) * (1 + wide(layers.saturating_sub(1)) * wide(width));
    let weights = genes * (wide(model.n_hidden_encoder) + 2 * wide(model.n_hidden_decoder))
        + hidden(model.n_hidden_encoder, model.n_layers_encoder)
        + hidden(model.n_hidden_decoder, model.n_layers_decoder)
        + latent * (wide(model.n_hidden_encoder) + wide(model.n_hidden_decoder) + card.vocabulary.perturbations.len());
    let dense = wide(card.config.train.batch_size) * genes;
    // Measured: the step keeps some fourteen dense tensors of a batch between forward and backward.
    4 * (5 * weights + 14 * dense)
}

/// `auto` is a GPU where libtorch sees one.
fn device(name: &str) -> Result<Device> {
    let cuda = |index: usize| match tch::Cuda::is_available() {
        true => Ok(Device::Cuda(index)),
        false => Err(Error::usage(
            "this machine has no CUDA device that libtorch can use",
            "use --device cpu, or run `make setup CUDA=1` first",
        )),
    };
    match name.split_once(':') {
        None if name == "auto" => Ok(Device::cuda_if_available()),
        None if name == "cpu" => Ok(Device::Cpu),
        None if name == "cuda" => cuda(0),
        Some(("cuda", index)) => cuda(
            index.parse().map_err(|_| Error::usage(format!("`{name}` names no device"), "use auto, cpu or cuda:0"))?,
        ),
        _ => Err(Error::usage(format!("`{name}` names no device"), "use auto, cpu or cuda:0")),
    }
}
