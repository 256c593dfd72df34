//! The page about several predictions of the same cells.

use evaluate::{Baseline, ConditionScores, Evaluation, PredictionScores, Scatter};

use super::{
    charts::scatter,
    page::{charts, document, rows_of_cells, section},
    svg::escape,
};

/// A prediction on the page.
#[derive(Clone, Copy, Debug)]
pub struct PredictionOnPage<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its scores.
    pub evaluation: &'a Evaluation,
    /// Predicted against real means, one chart each.
    pub scatters: &'a [Scatter],
}

/// The whole page, as HTML; all predictions are of the same conditions.
#[must_use]
pub fn judged_page(title: &str, predictions: &[PredictionOnPage<'_>]) -> String {
    let Some(first) = predictions.first() else { return document(title, "Nothing was compared.", "") };
    let verdicts: String = predictions
        .iter()
        .map(|one| format!("<li><b>{}</b>: {}</li>", escape(one.name), escape(&one.evaluation.summary)))
        .collect();
    let scale = format!(
        "Scale: {}. The ceiling is half of the real cells evaluated against the other half; a number that is not defined is shown as –.",
        first.evaluation.scale
    );
    let pictures = predictions.iter().map(|one| {
        let drawn: String = one.scatters.iter().filter_map(scatter).collect();
        section(
            &format!("Predicted against real means: {}", escape(one.name)),
            "Each dot is a gene. The genes that changed most are marked, and named if there is room; a line leads to each from the position of its control.",
            &charts("charts pairs", &drawn),
        )
    });
    let sections = [
        section("Verdicts", "", &format!("<ul>{verdicts}</ul>")),
        section("Mean scores", &scale, &mean_scores(predictions)),
        section(
            "Scores as shares of their range",
            "0 is the negative control, the better of no change and the mean response; 1 is the positive control, an interpolated duplicate of the real cells. A score without a range shows nothing.",
            &shares(predictions),
        ),
        section("Pearson correlation of the change, by condition", "", &by_condition(predictions, "pearson_delta")),
        section("Mean squared error of the change, by condition", "", &by_condition(predictions, "mse_delta")),
    ];
    let body: String = sections.into_iter().chain(pictures).collect();
    document(title, "Predictions compared with real cells and with simple baselines.", &body)
}

/// One row per score: each prediction, each baseline, the ceiling.
fn mean_scores(predictions: &[PredictionOnPage<'_>]) -> String {
    let Some(first) = predictions.first().map(|one| one.evaluation) else { return String::new() };
    let ceiling = first.ceiling();
    let mut all: Vec<(&str, &PredictionScores)> =
        predictions.iter().map(|one| (one.name, &one.evaluation.mean)).collect();
    all.extend(Baseline::ALL.map(|baseline| (baseline.name(), first.baselines.get(baseline))));
    all.push(("ceiling", &ceiling));
    let mut header = vec![("", "score")];
    header.extend(all.iter().map(|(name, _)| ("number", *name)));
    let rows = PredictionScores::NAMES.iter().map(|score| {
        let mut cells = vec![("", (*score).to_owned())];
        cells.extend(all.iter().map(|(_, scores)| ("number", shown(scores.named(score)))));
        cells
    });
    rows_of_cells(&header, rows)
}

/// One row per score: its controls, and the share of each prediction.
fn shares(predictions: &[PredictionOnPage<'_>]) -> String {
    let Some(first) = predictions.first().map(|one| one.evaluation) else { return String::new() };
    let mut header = vec![("", "score"), ("number", "negative control"), ("number", "positive control")];
    header.extend(predictions.iter().map(|one| ("number", one.name)));
    let rows = first.ranges.iter().map(|(score, range)| {
        let mut cells =
            vec![("", score.clone()), ("number", shown(Some(range.negative))), ("number", shown(Some(range.positive)))];
        let share = |one: &PredictionOnPage<'_>| one.evaluation.ranges.get(score).and_then(|range| range.share);
        cells.extend(predictions.iter().map(|one| ("number", shown(share(one)))));
        cells
    });
    rows_of_cells(&header, rows)
}

/// One row per condition: the score of each prediction, each baseline and the ceiling.
fn by_condition(predictions: &[PredictionOnPage<'_>], score: &str) -> String {
    let Some(first) = predictions.first().map(|one| one.evaluation) else { return String::new() };
    let mut header = vec![("", "condition"), ("", "dose"), ("", "covariates"), ("number", "cells")];
    header.extend(predictions.iter().map(|one| ("number", one.name)));
    header.extend(Baseline::ALL.map(|baseline| ("number", baseline.name())));
    header.push(("number", "ceiling"));
    let rows = first.conditions.iter().enumerate().map(|(at, condition)| {
        let number = |scores: &PredictionScores| ("number", shown(scores.named(score)));
        let mut cells = vec![
            ("", condition.condition.clone()),
            ("", condition.dose.clone()),
            ("", ConditionScores::covariate_label(condition)),
            ("number", condition.cells.to_string()),
        ];
        let of = |one: &PredictionOnPage<'_>| one.evaluation.conditions.get(at).map(|found| number(&found.scores));
        cells.extend(predictions.iter().map(|one| of(one).unwrap_or(("number", shown(None)))));
        cells.extend(Baseline::ALL.map(|baseline| number(condition.baselines.get(baseline))));
        cells.push(number(&condition.ceiling));
        cells
    });
    rows_of_cells(&header, rows)
}

fn shown(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.3}"))
}
