//! `predict`.

use serde_json::json;
use stages::{
    predictor::query::{BatchChoice, OnNoControl, OnUnseen, OnUnseenCovariate},
    reader::{
        selector::{Selector, with_key_of},
        split::{Split, SplitPart},
    },
    sink::layout::is_named,
};
use tch::Device;

use crate::{
    arrow_stream,
    commit::{EARLIER, FILES, complete, show_plan, show_published},
    device::device,
    predict_tables::predict_tables,
};
use cli::model_args::{
    LayoutArg, OnMissingGenesArg, OnNoControlArg, OnUnseenArg, OnUnseenCovariateArg, OutputArg, OutputScaleArg,
    PredictArgs, TermsArgs,
};
use cli::{
    CommandContext,
    output::{OutputKind, OutputPlace, is_standard_stream},
    progress::per_second,
    show::bytes,
};
use perturbine::{
    Atlas, Error, Model, Prediction, Query, Request, Result,
    devices::peak_bytes,
    flows::{
        ProgressCounter,
        predicting::{Library, OutputScale, PredictedGenes, PredictionForm, Terms, own_split},
        publishing::WriteOptions,
    },
    memory::PeakMemory,
    schemas::{
        conditions::CONTROL,
        counting::{counted, grouped},
        numbers::to_usize,
        quoting::listed,
    },
};

pub(super) fn predict(args: &PredictArgs, context: &CommandContext) -> Result<()> {
    let output = output_of(args);
    if args.reads_tables() {
        return predict_tables(args, context);
    }
    if args.out.as_deref().is_some_and(is_standard_stream) && !args.writing.shards.only_shows() {
        return stream(args, output, context);
    }
    // A long table is refused as an .h5ad later, with the layout that would do.
    let names_h5ad = args.out.as_deref().is_some_and(|out| is_named(out, "h5ad"));
    let kind = match output {
        PredictionForm::LongMeans | PredictionForm::Changes if !names_h5ad => OutputKind::LongPredictions,
        _ => OutputKind::Predictions,
    };
    let place = |out| OutputPlace::new("--out", out, kind, args.force)?.afresh();
    let place = args.out.as_deref().map(place).transpose()?;
    let options = args.writing.options(args.out.as_deref())?;
    if !args.writing.shards.only_shows() && options.shard.is_none() {
        place.iter().try_for_each(OutputPlace::check_free)?;
    }
    let on = device(&args.device)?;
    let prediction = prepare_prediction(args, on, context)?;
    let skipped = prediction.jobs().skipped.clone();
    let source_cells: u64 = prediction.jobs().spans().iter().map(|span| span.cells).sum();
    for skipped in &skipped {
        context.show.note(&skipped.to_string());
    }
    let size = prediction.size(output, &options)?;
    if args.writing.shards.plan_only {
        return show_plan(&prediction.plan(output, &options), size.files(args.out.as_deref()), FILES, context);
    }
    if args.writing.shards.dry_run {
        let controls = if output == PredictionForm::Changes { prediction.jobs().jobs.len() } else { 0 };
        let targets = prediction.jobs().targets() - controls;
        let minutes = prediction.expected_time(output)?.as_secs_f64() / 60.0;
        let result = json!({
            "targets": targets,
            "source_cells": source_cells,
            "rows": size.rows,
            "files": size.files(args.out.as_deref()),
            "units": size.files(args.out.as_deref()),
            "value_bytes": size.value_bytes,
            "bytes": size.file_bytes,
            "minutes": minutes,
            "skipped": skipped,
            "missing_genes": prediction.missing_genes(),
        });
        return context.show.result(&result, || {
            format!(
                "{} from {} would be predicted: {}, {} of values, about {} on disk, in about {minutes:.1} minutes",
                counted(targets as u64, "condition"),
                counted(source_cells, "cell"),
                counted(size.rows, "row"),
                bytes(size.value_bytes),
                bytes(size.file_bytes)
            )
        });
    }
    let out = args.writing.shards.place(args.out.as_deref())?;
    let missing_genes = prediction.missing_genes().to_vec();
    if let Some(shard) = options.shard
        && let Some(published) = complete(out, &prediction.plan(output, &options), shard, options.portable)?
    {
        let summary = json!({
            "cells_per_second": null,
            "peak_memory_bytes": null,
            "skipped": skipped,
            "missing_genes": missing_genes,
        });
        return show_published(&published, out, summary, EARLIER, context);
    }
    let predicted = prediction.predicted_cells(output, &options)?;
    let waiting = to_usize(size.waiting_bytes);
    let (edges, network) = (context.resources.memory, prediction.network_bytes());
    let floor = to_usize(perturbine::memory::anonymous_bytes().unwrap_or(0));
    context.show.note(&format!(
        "memory: at most {} (edges and blocks {}, rows waiting to be written {}, decoding {}, libtorch and program {})",
        bytes((edges + waiting + network + floor) as u64),
        bytes(edges as u64),
        bytes(size.waiting_bytes),
        bytes(network as u64),
        bytes(floor as u64)
    ));
    let peak = PeakMemory::watch();
    let started = std::time::Instant::now();
    let steps = context.show.steps(predicted, "cells");
    let drawn = steps.clone();
    let progress = ProgressCounter::to(move |cells| drawn.reached(cells));
    let target = place.as_ref().filter(|_| !options.portable).map_or(out, OutputPlace::path);
    let published = prediction.telling(progress).publish(output, target, &options)?.published;
    place.iter().try_for_each(OutputPlace::take_place)?;
    steps.end();
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    let rate = predicted as f64 / started.elapsed().as_secs_f64();
    let mut summary = json!({
        "cells_per_second": rate,
        "peak_memory_bytes": peak.bytes(),
        "skipped": skipped,
        "missing_genes": missing_genes,
    });
    if let Some(bytes) = peak_bytes(on)? {
        summary["peak_device_bytes"] = bytes.into();
    }
    show_published(&published, out, summary, &format!(", {} cells/s", per_second(rate)), context)
}

/// Writes predictions to standard output as they come.
fn stream(args: &PredictArgs, output: PredictionForm, context: &CommandContext) -> Result<()> {
    arrow_stream::refuse_files(&args.writing, args.force.force)?;
    let prediction = prepare_prediction(args, device(&args.device)?, context)?;
    let (skipped, missing_genes) = (prediction.jobs().skipped.clone(), prediction.missing_genes().to_vec());
    for skipped in &skipped {
        context.show.note(&skipped.to_string());
    }
    let cells = prediction.predicted_cells(output, &WriteOptions::default())?;
    let steps = context.show.steps(cells, "cells");
    let drawn = steps.clone();
    let prediction = prediction.telling(ProgressCounter::to(move |cells| drawn.reached(cells)));
    let rows = arrow_stream::write(&prediction.schema(output), prediction.pipeline(output)?)?;
    steps.end();
    let result = json!({ "rows": rows, "skipped": skipped, "missing_genes": missing_genes });
    context.show.result_beside(&result, || format!("wrote {} to standard output", counted(rows, "row")))
}

pub(super) fn output_of(args: &PredictArgs) -> PredictionForm {
    match (args.output, args.layout) {
        (OutputArg::Cells, _) => PredictionForm::Cells,
        (OutputArg::Latent, _) => PredictionForm::Latent,
        (OutputArg::Changes, _) => PredictionForm::Changes,
        (OutputArg::Means, LayoutArg::Wide) => PredictionForm::WideMeans,
        (OutputArg::Means, LayoutArg::Long) => PredictionForm::LongMeans,
    }
}

pub(super) fn prepare_prediction(args: &PredictArgs, device: Device, context: &CommandContext) -> Result<Prediction> {
    let model = Model::load(&args.model, device)?;
    let atlas = seen_by(&model, &context.open_data(&args.atlas, None)?, args.missing_genes, context)?;
    let split = match &args.split {
        Some(name) => Some(Split::read(&atlas, name)?),
        None => own_split(&model, &atlas)?,
    };
    let mut to = requests(args, Some(&atlas))?;
    if to.is_empty() {
        let holds_out = split.as_ref().is_some_and(|split| split.counts()[&SplitPart::Ood] > 0);
        to.push(if holds_out { Request::Ood } else { Request::Observed });
    }
    let query = query(args, to)?;
    let output = output_of(args);
    let terms_asked = terms(&args.terms)?;
    if output == PredictionForm::Latent && terms_asked != (Terms { seed: terms_asked.seed, ..Terms::default() }) {
        let message = "latents have no genes, scale or library size, and are given at their means";
        let hint = "leave out --genes, --top, --library, --output-scale and --samples";
        return Err(Error::usage(message, hint));
    }
    if let (PredictionForm::Changes, Some(_)) = (output, terms_asked.scale) {
        let message = "changes are of log(1 + counts per ten thousand), or of continuous values as they are";
        return Err(Error::usage(message, "leave out --output-scale, or use --layout long"));
    }
    let wide = matches!(output, PredictionForm::WideMeans | PredictionForm::Cells);
    if args.terms.top.is_some() && args.terms.genes.as_deref() != Some("deg") && wide {
        let hint = "add --layout long, or --genes deg";
        return Err(Error::usage(
            "--top chooses genes for each condition, but a wide table has the same genes for all conditions",
            hint,
        ));
    }
    let prediction = Prediction::prepare(&atlas, &model, &query, split.as_ref(), context.resources.clone())?;
    note_perturbed_sources(query.from.as_ref(), &atlas, context)?;
    let prediction = prediction.with_terms(&terms_asked)?;
    if output == PredictionForm::Changes { prediction.of_changes() } else { Ok(prediction) }
}

/// The conditions of `--to`. Errors about text that is not a selector name a key of the atlas, if there is one.
pub(super) fn requests(args: &PredictArgs, atlas: Option<&Atlas>) -> Result<Vec<Request>> {
    let mut to = Vec::new();
    for text in &args.to {
        to.extend(Request::parse(text).map_err(|error| match atlas {
            Some(atlas) => with_key_of(text, atlas, error),
            None => error,
        })?);
    }
    Ok(to)
}

/// The query for these conditions.
pub(super) fn query(args: &PredictArgs, to: Vec<Request>) -> Result<Query> {
    Ok(Query {
        to,
        from: args.from.as_deref().map(Selector::parse).transpose()?,
        unseen: match args.unseen {
            OnUnseenArg::Error => OnUnseen::Error,
            OnUnseenArg::Skip => OnUnseen::Skip,
            OnUnseenArg::Embedding => OnUnseen::Embedding,
        },
        matching: args.matching.as_deref().map(listed),
        no_control: match args.no_control {
            OnNoControlArg::Error => OnNoControl::Error,
            OnNoControlArg::Skip => OnNoControl::Skip,
            OnNoControlArg::Borrow => OnNoControl::Borrow,
        },
        unseen_covariate: match args.unseen_covariate {
            OnUnseenCovariateArg::Error => OnUnseenCovariate::Error,
            OnUnseenCovariateArg::Nearest => OnUnseenCovariate::Nearest,
            OnUnseenCovariateArg::Mean => OnUnseenCovariate::Mean,
        },
        batch: match args.batch.as_str() {
            "source" => BatchChoice::Source,
            "average" => BatchChoice::Average,
            "none" => BatchChoice::LeftOut,
            value => BatchChoice::Value(value.to_owned()),
        },
        cells_per_condition: args.cells_per_condition,
    })
}

/// Says if cells to start from are not controls, unless a condition was named.
pub(super) fn note_perturbed_sources(from: Option<&Selector>, atlas: &Atlas, context: &CommandContext) -> Result<()> {
    let Some(from) = from else { return Ok(()) };
    let Some([all, perturbed]) = from.of_any_condition(atlas)?.filter(|counts| counts[1] != 0) else { return Ok(()) };
    let mut controls = from.clone();
    controls.0.insert(0, ("condition".to_owned(), atlas.manifest().conditions.name(CONTROL).to_owned()));
    context.show.note(&format!(
        "--from '{from}' names no condition: {perturbed} of its {all} cells are not controls, and control means are means of \
         all of them; to start from controls alone, write --from '{controls}'"
    ));
    Ok(())
}

/// An atlas restricted to the genes of a model; missing ones are reported.
pub(super) fn seen_by(
    model: &Model,
    atlas: &Atlas,
    missing: OnMissingGenesArg,
    context: &CommandContext,
) -> Result<Atlas> {
    let genes = &model.card.genes;
    match missing {
        OnMissingGenesArg::Error => atlas.with_genes(genes),
        OnMissingGenesArg::Zero => {
            let atlas = atlas.with_genes_or_zeros(genes)?;
            if let missing @ [_, ..] = atlas.missing_genes() {
                let named = missing.join(", ");
                let [count, all] = [missing.len(), genes.len()].map(|count| grouped(count as u64));
                context.show.note(&format!("{count} of the model's {all} genes are missing and count as 0: {named}"));
            }
            Ok(atlas)
        }
    }
}

/// The terms of predictions.
pub(super) fn terms(args: &TermsArgs) -> Result<Terms> {
    let library = match args.library.as_str() {
        "source" => Library::Source,
        "median" => Library::Median,
        number => Library::Of(number.parse().map_err(|_| {
            Error::usage(
                format!("`{number}` is not a library size"),
                "write --library source, median or a number of counts",
            )
        })?),
    };
    Ok(Terms {
        scale: args.output_scale.map(|scale| match scale {
            OutputScaleArg::Counts => OutputScale::Counts,
            OutputScaleArg::Cp10k => OutputScale::Cp10k,
            OutputScaleArg::Log1pCp10k => OutputScale::Log1pCp10k,
            OutputScaleArg::Values => OutputScale::Values,
        }),
        library,
        samples: args.samples,
        seed: args.seed,
        genes: match args.genes.as_deref() {
            None => PredictedGenes::All,
            Some("deg") => PredictedGenes::Differential,
            Some(file) => PredictedGenes::Listed(file.into()),
        },
        top: args.top,
    })
}
