//! `evaluate`.

use schemas::{
    model_files as files,
    skipped::{Skipped, sentences},
};
use serde::Serialize;
use serde_json::json;
use stages::{
    evaluate::{Evaluation, frame},
    reader::split::SplitPart,
    statistics::scale::{Anchor, Scale},
};

use crate::device::device;
use cli::CommandContext;
use cli::{
    model_args::evaluation::{EvaluateArgs, PartArg},
    typed_command::typed_command,
};
use perturbine::{
    Error, Model, Result,
    flows::{
        data_overview::data_overview,
        evaluation::{EvaluationOptions, evaluate as evaluate_model},
        figures::figures,
        predicting::split_for,
    },
};

pub(super) fn evaluate(args: EvaluateArgs, context: &CommandContext) -> Result<()> {
    let atlas = context.open_data(&args.atlas, None)?;
    let model = Model::load(&args.model, device(&args.device)?)?;
    let split = split_for(&model, &atlas, args.split.as_deref())?;
    if split.counts()[&SplitPart::Ood] == 0 && args.on.is_none() {
        context
            .show
            .note("nothing was held out: the model is evaluated on valid cells, whose conditions it was trained on");
    }
    let default_part = if split.counts()[&SplitPart::Ood] > 0 { PartArg::Ood } else { PartArg::Valid };
    let is_default_part = args.on.is_none_or(|part| part == default_part);
    let options = EvaluationOptions {
        scale: args.scale.map(Scale::from),
        anchor: args.readout.map(Anchor::from),
        on: args.on.map(SplitPart::from),
        predictions: args.predictions,
    };
    let data = data_overview(&atlas, &split);
    let judged = evaluate_model(&atlas, &model, split, &options, &context.resources)?;
    for sentence in sentences(&judged.skipped) {
        context.show.note(&sentence);
    }
    let evaluation = &judged.judgement.evaluation;
    if evaluation.conditions.is_empty() {
        return Err(Error::data(
            args.model.display().to_string(),
            "no condition could be evaluated",
            "the notes above give the reason for each",
        ));
    }
    // The report is about the model and what was held out; predictions from a file may come from another model.
    if options.predictions.is_none() && is_default_part {
        let pictures = figures(&atlas, &model, &context.resources)
            .inspect_err(|error| context.show.note(&format!("the report will have no plots of the latent: {error}")))
            .ok();
        let kept = json!({
            "evaluation": evaluation,
            "changes": judged.judgement.changes,
            "data": data,
            "pictures": pictures,
            "command": typed_command(),
            // Another process may replace the model before this is written.
            "weights": model.card.weights,
        });
        let kept = serde_json::to_vec(&kept).map_err(|error| Error::Bug(error.to_string()))?;
        if let Err(error) = stages::storage::disk::write_atomically(&args.model.join(files::EVALUATION), &kept) {
            context.show.note(&format!("the report will not include this evaluation: {error}"));
        }
    }
    let not_a_table = |error: polars::error::PolarsError| Error::Bug(error.to_string());
    let frames = [frame::conditions, frame::means, frame::ranges, frame::strata].map(|frame| frame(evaluation));
    let frames = frames.into_iter().collect::<Result<Vec<_>, _>>().map_err(not_a_table)?;
    let shown = ShownEvaluation { skipped: &judged.skipped, evaluation };
    context.show.result_with_table(&shown, &frames[0], || {
        let drawn: Vec<String> = frames.iter().map(|frame| context.show.table(frame)).collect();
        format!("{}\n\n{}", evaluation.summary, drawn.join("\n"))
    })
}

/// An evaluation with the conditions that it lacks.
#[derive(Serialize)]
struct ShownEvaluation<'a> {
    skipped: &'a [Skipped],
    #[serde(flatten)]
    evaluation: &'a Evaluation,
}
