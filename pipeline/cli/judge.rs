//! `judge`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use evaluate::{
    ChosenScores, Evaluation, PredictionScores,
    card::{Card, CardEntry, content_hash, definitions, split_hash},
    frame,
    predicted_cells::{PredictionColumns, PredictionScale},
};
use reader::split::{Split, SplitPart};
use report::{self, judged_page};
use serde_json::{Map, Value, json};
use statistics::scale::{Scale, TARGET_SUM};
use storage::sealed::sealed;

use super::{
    model_args::judge::{JudgeArgs, PredictionValuesArg},
    typed_command::typed_command,
};
use crate::{
    CommandContext,
    output::{OutputKind, OutputPlace, marked, write_at},
};
use flows::judging::{JudgeOptions, JudgedPrediction, Judgement, judge as judge_predictions};
use reader::atlas::Atlas;
use schemas::{Error, Result, skipped::sentences};

pub(super) fn judge(args: &JudgeArgs, context: &CommandContext) -> Result<()> {
    let place = |flag: &str, path: &Option<PathBuf>, kind: OutputKind| {
        let place = path.as_ref().map(|path| OutputPlace::new(flag, path, kind, args.force)?.afresh()).transpose()?;
        place.iter().try_for_each(OutputPlace::check_free)?;
        Ok::<_, Error>(place)
    };
    let page_place = place("--out", &args.out, OutputKind::Page)?;
    let card_place = place("--card", &args.card, OutputKind::Card)?;
    if args.out.is_some() && args.out == args.card {
        return Err(Error::usage("--out and --card name one file", "give the page and the card names of their own"));
    }
    let atlas = context.open_data(&args.truth, None)?;
    let split = split_for(&atlas, args.split.as_deref(), context)?;
    let options = JudgeOptions {
        scale: args.scale.map(Scale::from),
        on: args.on.map(SplitPart::from),
        columns: PredictionColumns { perturbation: args.perturbation.clone(), dose: args.dose.clone() },
        values: scale_of_numbers(args)?,
        choice: args.choice.choice(&context.resources.stop),
        scores: args.scores.parse()?,
    };
    let hash = split_hash(&atlas, split.as_ref().unwrap_or(&Split::holding_out_all(&atlas)));
    let split_name = split.as_ref().map(|split| split.name().to_owned());
    let judged = judge_predictions(&atlas, split, &args.predictions, &options, &context.resources)?;
    for note in &judged.notes {
        context.show.note(note);
    }
    for sentence in sentences(&judged.skipped) {
        context.show.note(&sentence);
    }
    if let Some(place) = &card_place {
        let card = Card { flags: flags(args), ..card(&judged, &atlas, &hash, split_name)? };
        write_at(place, &sealed(&card)?)?;
    }
    let names = names(&args.predictions);
    let named: Vec<(&str, &Evaluation)> =
        names.iter().map(String::as_str).zip(judged.predictions.iter().map(|one| &one.evidence.evaluation)).collect();
    if let Some(place) = &page_place {
        let shown = names.iter().zip(&judged.predictions).map(|(name, one)| report::PredictionOnPage {
            name,
            evaluation: &one.evidence.evaluation,
            changes: &one.evidence.changes,
        });
        let page = judged_page(&args.truth.display().to_string(), &shown.collect::<Vec<_>>(), &[typed_command()]);
        write_at(place, marked(&page).as_bytes())?;
    }
    let hashes = json!({ "split": hash, "data": atlas.manifest().checksum, "scores": definitions() });
    let tables = [frame::judged::means, frame::judged::shares].map(|table| table(&named, &options.scores));
    let tables = tables.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| Error::Bug(error.to_string()))?;
    let mut shown = result(&named, &judged, &hashes)?;
    keep_chosen(&mut shown, &options.scores);
    context.show.result_with_table(&shown, &tables[0], || {
        let verdicts: Vec<String> =
            named.iter().map(|(name, evaluation)| format!("{name}: {}", evaluation.summary)).collect();
        let drawn: Vec<String> = tables.iter().map(|table| context.show.table(table)).collect();
        format!("{}\n\n{}", verdicts.join("\n"), drawn.join("\n"))
    })
}

/// The named split; the atlas's only one, if none is named; none, if it has none.
fn split_for(atlas: &Atlas, named: Option<&str>, context: &CommandContext) -> Result<Option<Split>> {
    if let Some(name) = named {
        return Split::read(atlas, name).map(Some);
    }
    match &Split::names(atlas)[..] {
        [] => {
            context.show.note(
                "the atlas has no split: all its perturbed cells are compared, and baselines that learn from training cells are undefined",
            );
            Ok(None)
        }
        [only] => {
            context.show.note(&format!("comparing with the cells of the split `{only}`"));
            Split::read(atlas, only).map(Some)
        }
        several => {
            let message = format!("the atlas has several splits: {}", several.join(", "));
            Err(Error::usage(message, "name one with --split"))
        }
    }
}

fn scale_of_numbers(args: &JudgeArgs) -> Result<Option<PredictionScale>> {
    match (args.values, args.target_sum) {
        (None | Some(PredictionValuesArg::Log1pCp10k), Some(sum)) if sum.is_finite() && sum > 0.0 => {
            Ok(Some(PredictionScale::LogNormalised(sum)))
        }
        (None | Some(PredictionValuesArg::Log1pCp10k), Some(sum)) => {
            Err(Error::usage(format!("--target-sum {sum} is not a sum of counts"), "give a number above 0"))
        }
        (Some(_), Some(_)) => {
            Err(Error::usage("only normalised values have a target sum", "leave out --target-sum or --values"))
        }
        (Some(PredictionValuesArg::Counts), None) => Ok(Some(PredictionScale::Counts)),
        (Some(PredictionValuesArg::Log1pCp10k), None) => Ok(Some(PredictionScale::LogNormalised(TARGET_SUM))),
        (Some(PredictionValuesArg::Values), None) => Ok(Some(PredictionScale::Values)),
        (None, None) => Ok(None),
    }
}

/// Short names of predictions: the file's name, or the whole path where two are equal.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let short = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_unique = |path: &PathBuf| paths.iter().filter(|other| short(other) == short(path)).count() == 1;
    let name = |path: &PathBuf| if is_unique(path) { short(path) } else { path.display().to_string() };
    paths.iter().map(name).collect()
}

/// The flags that say how predictions are read, and which scores were computed.
fn flags(args: &JudgeArgs) -> Vec<String> {
    let text = |flag: &str, value: Option<String>| value.map(|value| format!("{flag} {value}"));
    let values = args.values.and_then(|values| Some(values.to_possible_value()?.get_name().to_owned()));
    let all = [
        text("--values", values),
        text("--target-sum", args.target_sum.map(|sum| sum.to_string())),
        text("--perturbation", args.perturbation.clone()),
        text("--dose", args.dose.clone()),
        text("--layer", args.choice.layer.clone()),
        args.choice.raw.then(|| "--raw".to_owned()),
        text("--scores", Some(args.scores.clone()).filter(|scores| scores != "all")),
    ];
    all.into_iter().flatten().collect()
}

fn card(judged: &Judgement, atlas: &Atlas, split: &str, split_name: Option<String>) -> Result<Card> {
    let absolute = |path: &Path| path.canonicalize().map_err(Error::io("find", path));
    let entry = |one: &JudgedPrediction| {
        let (path, hash) = (absolute(&one.path)?, content_hash(&one.path)?);
        Ok(CardEntry { path, hash, mean: one.evidence.evaluation.mean })
    };
    let part = judged.predictions.first().and_then(|one| one.evidence.evaluation.conditions.first());
    Ok(Card {
        written_by: format!("perturbine {}", env!("CARGO_PKG_VERSION")),
        scores: definitions(),
        scale: judged.scale,
        data: atlas.manifest().checksum.clone(),
        atlas: absolute(atlas.path())?,
        split: split.to_owned(),
        split_name,
        part: part.map_or_else(String::new, |condition| condition.split.clone()),
        flags: Vec::new(),
        predictions: judged.predictions.iter().map(entry).collect::<Result<_>>()?,
    })
}

/// Leaves out scores that were not computed.
fn keep_chosen(value: &mut Value, chosen: &ChosenScores) {
    match value {
        Value::Object(all) => {
            all.retain(|name, _| chosen.has(name) || !PredictionScores::NAMES.contains(&name.as_str()));
            all.values_mut().for_each(|one| keep_chosen(one, chosen));
        }
        Value::Array(all) => all.iter_mut().for_each(|one| keep_chosen(one, chosen)),
        _ => {}
    }
}

fn result(named: &[(&str, &Evaluation)], judged: &Judgement, card: &Value) -> Result<Value> {
    let bug = |error: serde_json::Error| Error::Bug(error.to_string());
    let mut predictions = Vec::new();
    for (name, evaluation) in named {
        let mut shown = Map::from_iter([("name".to_owned(), json!(name))]);
        if let Value::Object(scores) = serde_json::to_value(evaluation).map_err(bug)? {
            shown.extend(scores);
            let shares = evaluation.ranges.iter().map(|(score, range)| (score.clone(), json!(range.share)));
            shown.insert("range".to_owned(), Value::Object(shares.collect()));
        }
        predictions.push(Value::Object(shown));
    }
    let first = named.first().map(|(_, evaluation)| *evaluation);
    Ok(json!({
        "strict": first.is_some_and(|one| one.strict),
        "scale": judged.scale,
        "predictions": predictions,
        "baselines": first.map(|one| one.baselines),
        "skipped": judged.skipped,
        "card": card,
    }))
}
