//! `evaluate`.

use perturbine::{
    Error, Model, Result,
    flows::{
        judging::{JudgeOptions, evaluate as judge},
        predicting::split_for,
    },
};
use serde_json::json;
use stages::{
    evaluate::{Scale, frame},
    judge::Anchor,
    split::Part,
};

use super::{
    Context,
    args::model::{EvaluateArgs, ReadoutArg, ScaleArg},
    device::device,
    report::EVALUATION,
};

pub(super) fn evaluate(args: EvaluateArgs, context: &Context) -> Result<()> {
    let atlas = context.open_data(&args.atlas, None)?;
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
