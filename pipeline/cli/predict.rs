//! `predict`.

use perturbine::{
    Error, Model, Prediction, Query, Request, Result,
    flows::predicting::{Output, own_split},
    memory::PeakMemory,
};
use serde_json::json;
use stages::{
    groups::Selector,
    query::{BatchChoice, OnUnknown, OnUnseen},
    split::{Part, Split},
};

use super::{
    Context,
    args::model::{LayoutArg, OnUnknownArg, OnUnseenArg, OutputArg, PredictArgs},
    device::device,
    show::bytes,
};

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
    let published = prediction.write(output, out)?.published;
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

pub(super) fn output_of(args: &PredictArgs) -> Output {
    match (args.output, args.layout) {
        (OutputArg::Cells, _) => Output::Cells,
        (OutputArg::Means, LayoutArg::Wide) => Output::WideMeans,
        (OutputArg::Means, LayoutArg::Long) => Output::LongMeans,
    }
}

pub(super) fn prepare_prediction(args: &PredictArgs, context: &Context) -> Result<Prediction> {
    let atlas = context.open_data(&args.atlas, None)?;
    let model = Model::load(&args.model, device(&args.device)?)?;
    let split = match &args.split {
        Some(name) => Some(Split::read(&atlas, name)?),
        None => own_split(&model, &atlas)?,
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
        unseen: match args.unseen {
            OnUnseenArg::Error => OnUnseen::Error,
            OnUnseenArg::Skip => OnUnseen::Skip,
            OnUnseenArg::Embedding => OnUnseen::Embedding,
        },
        no_control: match args.no_control {
            OnUnknownArg::Error => OnUnknown::Error,
            OnUnknownArg::Skip => OnUnknown::Skip,
        },
        batch: match args.batch.as_str() {
            "source" => BatchChoice::Source,
            "average" => BatchChoice::Average,
            "none" => BatchChoice::LeftOut,
            value => BatchChoice::Value(value.to_owned()),
        },
        cells_per_condition: args.cells_per_condition,
    };
    Prediction::prepare(&atlas, &model, &query, split.as_ref(), context.resources.clone())
}
