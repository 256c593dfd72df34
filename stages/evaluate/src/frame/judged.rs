//! The scores of several predictions of the same cells, side by side.

use polars::prelude::{DataFrame, PolarsResult};

use super::{OF_MEANS, column, numbers};
use crate::{Evaluation, PredictionScores};

/// The main mean scores: one row for each prediction, each baseline and the ceiling, and one column per score.
///
/// # Errors
/// This fails only through a bug: the columns have the same length and different names.
pub fn means(predictions: &[(&str, &Evaluation)]) -> PolarsResult<DataFrame> {
    let mut rows: Vec<(&str, PredictionScores)> = predictions.iter().map(|(name, one)| (*name, one.mean)).collect();
    // Baselines and ceiling are the same for all predictions.
    if let Some((_, first)) = predictions.first() {
        rows.extend(first.baselines.named().map(|(name, scores)| (name, *scores)));
        rows.push(("ceiling", first.ceiling()));
    }
    let names: Vec<&str> = rows.iter().map(|(name, _)| *name).collect();
    let mut columns = vec![column("prediction", names)];
    for score in OF_MEANS {
        columns.push(numbers(score, rows.iter().map(|(_, scores)| scores.named(score))));
    }
    DataFrame::new_infer_height(columns)
}
