//! A model, from its card and the description at the start of its weights.

use std::{fs, path::Path};

use super::{
    Inspected,
    layers::{network_table, network_text, network_value, tensors_of_file},
    shown_rows,
};
use crate::CommandContext;
use model_card::ModelCard;
use schemas::{
    Error, Result,
    counting::{counted, grouped},
    model_files as files,
    vocabulary::PADDING,
};
use serde_json::{Value, json};

/// Number of names that the text lists; JSON has all.
const SHOWN_NAMES: usize = 12;
/// Scores of the stored evaluation in the text.
const MAIN_SCORES: [&str; 4] = ["pearson_delta", "r2_mean", "r2_mean_top20", "mse_delta"];

pub(super) fn inspected(path: &Path, context: &CommandContext) -> Result<Inspected> {
    let card = model_card::read(path)?;
    let mut value = card_value(&card)?;
    value["network"] = network_value(&tensors_of_file(&path.join(files::WEIGHTS))?);
    value["evaluation"] = stored_evaluation(path, &card.weights);
    let table = network_table(&value["network"])?;
    let mut text = text_of(&card, &value);
    text += &shown_rows(&table, "layer", context);
    Ok(Inspected { value, table, text })
}

fn card_value(card: &ModelCard) -> Result<Value> {
    let mut value = serde_json::to_value(card).map_err(|error| Error::Bug(error.to_string()))?;
    if let Some(map) = value.as_object_mut() {
        map.insert("kind".into(), "model".into());
        map.insert("preset".into(), card.config.preset.name().into());
        map.insert("cells".into(), card.vocabulary.combination_cells.iter().sum::<u64>().into());
        map.insert("genes".into(), card.genes.len().into());
        if let Some(selection) = map.get_mut("gene_selection") {
            selection["told"] = card.gene_selection.to_string().into();
        }
        map.insert("gene_names".into(), card.genes.clone().into());
    }
    Ok(value)
}

/// Verdict and means of the evaluation in a model's folder; null if there is none of these weights that can be read.
fn stored_evaluation(path: &Path, weights: &str) -> Value {
    let text = fs::read_to_string(path.join(files::EVALUATION)).unwrap_or_default();
    let stored: Value = serde_json::from_str(&text).unwrap_or_default();
    let evaluation = &stored["evaluation"];
    let is_of_another = stored["weights"].as_str().is_some_and(|own| own != weights);
    match evaluation["summary"].as_str().filter(|_| !is_of_another) {
        Some(summary) => json!({ "summary": summary, "scale": evaluation["scale"], "mean": evaluation["mean"] }),
        None => Value::Null,
    }
}

fn text_of(card: &ModelCard, value: &Value) -> String {
    let vocabulary = &card.vocabulary;
    let mut text = format!(
        "a model of {} ({})\npreset {}, trained for {} on {}, split `{}`, atlas {}\n",
        counted(card.genes.len() as u64, "gene"),
        card.gene_selection,
        card.config.preset.name(),
        counted(card.epochs.into(), "epoch"),
        counted(vocabulary.combination_cells.iter().sum(), "cell"),
        card.split,
        if card.atlas.is_empty() { "unknown" } else { &card.atlas },
    );
    if let Some(best) = &card.best {
        text += &format!("best epoch: {}, {} {:.4} on valid cells\n", best.epoch, best.monitor.name(), best.value);
    }
    let perturbations = vocabulary.perturbations.iter().map(String::as_str).filter(|name| *name != PADDING);
    text += &names_text("perturbations", perturbations.collect());
    text += &format!("combinations: {}\n", grouped(vocabulary.combinations.len() as u64));
    for covariate in &vocabulary.covariates {
        text += &names_text(&covariate.name, covariate.values.iter().map(String::as_str).collect());
    }
    let evaluation = &value["evaluation"];
    if let Some(summary) = evaluation["summary"].as_str() {
        let scores =
            MAIN_SCORES.iter().filter_map(|name| Some(format!("{name} {:.3}", evaluation["mean"][*name].as_f64()?)));
        text += &format!("evaluated: {summary}\n  {}\n", scores.collect::<Vec<_>>().join(", "));
    }
    text + &network_text(&value["network"])
}

fn names_text(what: &str, names: Vec<&str>) -> String {
    let mut shown = names[..names.len().min(SHOWN_NAMES)].join(", ");
    if names.len() > SHOWN_NAMES {
        shown += &format!(" and {} more", grouped((names.len() - SHOWN_NAMES) as u64));
    }
    format!("{what} ({}): {shown}\n", grouped(names.len() as u64))
}
