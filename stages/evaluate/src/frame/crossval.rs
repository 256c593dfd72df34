//! A cross-validation as tables.

use polars::prelude::{DataFrame, PolarsResult};

use super::{OF_MEANS, column, numbers};
use crate::{Baseline, CrossEvaluation, PredictionScores, crossval::FoldSummary};

/// The main mean scores over folds and seeds: one row each for the model, its standard deviation between
/// folds and between seeds, the baselines and the ceiling, and one column per score.
///
/// # Errors
/// This fails only through a bug: the columns have the same length and different names.
pub fn means(crossed: &CrossEvaluation) -> PolarsResult<DataFrame> {
    let mut rows: Vec<(&str, &PredictionScores)> =
        vec![("model", &crossed.mean), ("± folds", &crossed.sd_folds), ("± seeds", &crossed.sd_seeds)];
    rows.extend(crossed.baselines.named());
    rows.push(("ceiling", &crossed.ceiling));
    let mut columns = vec![column("prediction", rows.iter().map(|(name, _)| *name).collect::<Vec<_>>())];
    for score in OF_MEANS {
        columns.push(numbers(score, rows.iter().map(|(_, scores)| scores.named(score))));
    }
    DataFrame::new_infer_height(columns)
}

/// One row per fold: the correlation of the change for the model, with its standard deviation between seeds,
/// for each baseline and for the ceiling.
///
/// # Errors
/// This fails only through a bug: the columns have the same length and different names.
pub fn folds(crossed: &CrossEvaluation) -> PolarsResult<DataFrame> {
    let rows = crossed.by_fold();
    let pearson_delta =
        |scores: fn(&FoldSummary) -> &PredictionScores| rows.iter().map(move |row| scores(row).pearson_delta);
    let mut columns = vec![
        column("fold", rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>()),
        column("conditions", rows.iter().map(|row| row.conditions as u64).collect::<Vec<_>>()),
        numbers("pearson_delta", pearson_delta(|row| &row.mean)),
        numbers("± seeds", pearson_delta(|row| &row.sd_seeds)),
    ];
    for baseline in Baseline::ALL.into_iter().filter(|baseline| *baseline != Baseline::Control) {
        columns.push(numbers(baseline.name(), rows.iter().map(|row| row.baselines.get(baseline).pearson_delta)));
    }
    columns.push(numbers("ceiling", pearson_delta(|row| &row.ceiling)));
    columns.push(column("verdict", rows.iter().map(|row| row.verdict).collect::<Vec<_>>()));
    DataFrame::new_infer_height(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crossval::tests::crossed, frame::draw};

    #[test]
    fn the_tables_have_a_row_a_prediction_and_a_row_a_fold() {
        let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
        let text = draw(&means(&crossed()).expect("the columns fit"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 10, "{text}");
        assert_eq!(words(lines[1])[..6], ["model", "0.500", "–", "–", "–", "0.525"]);
        assert_eq!(words(lines[2])[..7], ["±", "folds", "0.000", "–", "–", "–", "0.389"]);
        let text = draw(&folds(&crossed()).expect("the columns fit"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        let first =
            ["B", "1", "0.800", "0.141", "–", "0.500", "–", "–", "–", "better", "than", "the", "best", "baseline"];
        assert_eq!(words(lines[1]), first);
    }
}
