//! The scores of several predictions of the same cells, side by side.

use polars::prelude::{DataFrame, PolarsResult};

use super::{OF_MEANS, OF_RANGES, column, numbers};
use crate::{ChosenScores, Evaluation, MeanRange, PredictionScores};

/// The main mean scores, or those that were chosen: one row for each prediction, each baseline and the ceiling, and one column per score.
///
/// # Errors
/// This fails only through a bug: the columns have the same length and different names.
pub fn means(predictions: &[(&str, &Evaluation)], chosen: &ChosenScores) -> PolarsResult<DataFrame> {
    let mut rows: Vec<(&str, PredictionScores)> = predictions.iter().map(|(name, one)| (*name, one.mean)).collect();
    // Baselines and ceiling are the same for all predictions.
    if let Some((_, first)) = predictions.first() {
        rows.extend(first.baselines.named().map(|(name, scores)| (name, *scores)));
        rows.push(("ceiling", first.ceiling()));
    }
    let names: Vec<&str> = rows.iter().map(|(name, _)| *name).collect();
    let mut columns = vec![column("prediction", names)];
    let shown = if chosen.is_all() { &OF_MEANS[..] } else { chosen.names() };
    for score in shown {
        columns.push(numbers(score, rows.iter().map(|(_, scores)| scores.named(score))));
    }
    DataFrame::new_infer_height(columns)
}

/// Scores as shares of their ranges: one row per score with its negative and positive controls, and one column for each
/// prediction.
///
/// # Errors
/// As for [`means`].
pub fn shares(predictions: &[(&str, &Evaluation)], chosen: &ChosenScores) -> PolarsResult<DataFrame> {
    let Some((_, first)) = predictions.first() else { return Ok(DataFrame::empty()) };
    let shown = if chosen.is_all() { &OF_RANGES[..] } else { chosen.names() };
    let scores: Vec<&str> = shown.iter().copied().filter(|score| first.ranges.contains_key(*score)).collect();
    let of = |evaluation: &Evaluation, number: fn(&MeanRange) -> Option<f64>| -> Vec<Option<f64>> {
        scores.iter().map(|score| evaluation.ranges.get(*score).and_then(number)).collect()
    };
    let mut columns = vec![
        column("share of range", scores.clone()),
        numbers("negative", of(first, |range| Some(range.negative)).into_iter()),
        numbers("positive", of(first, |range| Some(range.positive)).into_iter()),
    ];
    for (name, evaluation) in predictions {
        columns.push(numbers(name, of(evaluation, |range| range.share).into_iter()));
    }
    DataFrame::new_infer_height(columns)
}
