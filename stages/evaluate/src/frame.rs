//! An evaluation as tables, for computing and for printing.

pub mod crossval;
mod drawing;
pub mod judged;

use polars::prelude::{Column, DataFrame, IntoColumn, NamedFrom, PolarsResult, Series};

pub use self::drawing::{DrawnTable, draw, draw_within};
use super::{
    baselines::Baseline, chosen_scores::ChosenScores, condition_scores::ConditionScores, range::MeanRange,
    strata::Stratum, table::Evaluation,
};

/// Scores in the table of means; JSON has all scores.
const OF_MEANS: [&str; 10] = [
    "r2_mean",
    "r2_var",
    "r2_mean_top20",
    "r2_mean_top20_train",
    "pearson_delta",
    "mse_delta",
    "e_distance",
    "mmd",
    "rank",
    "de_direction",
];

/// The model's scores in the table of conditions.
const OF_CONDITIONS: [&str; 8] = [
    "r2_mean",
    "r2_mean_top20",
    "r2_mean_top20_train",
    "pearson_delta",
    "mse_delta",
    "e_distance",
    "rank",
    "de_direction",
];

/// Scores in the table of ranges.
const OF_RANGES: [&str; 20] = [
    "pearson_delta",
    "pearson_perturbed",
    "mse_delta",
    "mse_beyond_noise",
    "mse_weighted",
    "r2_delta_weighted",
    "mae_delta",
    "r2_mean",
    "rank",
    "centroid_accuracy",
    "discrimination_score_cosine",
    "de_overlap_n",
    "de_direction",
    "de_spearman_lfc",
    "overlap_at_n",
    "precision_at_n",
    "pr_auc",
    "gene_dependence",
    "e_distance",
    "mmd",
];

/// The main mean scores: one row for the model, each baseline and the ceiling, and one column per score.
///
/// # Errors
/// This fails only through a bug: the columns have the same length and different names.
pub fn means(evaluation: &Evaluation) -> PolarsResult<DataFrame> {
    judged::means(&[("model", evaluation)], &ChosenScores::default())
}

/// One row per condition: its description, the model's main scores, and each baseline's correlation of the
/// change.
///
/// # Errors
/// This fails only through a bug: the columns have the same length and different names.
pub fn conditions(evaluation: &Evaluation) -> PolarsResult<DataFrame> {
    let rows = &evaluation.conditions;
    let text = |name, cell: fn(&ConditionScores) -> String| column(name, rows.iter().map(cell).collect::<Vec<_>>());
    let mut columns = vec![
        text("condition", |row| row.condition.clone()),
        text("dose", |row| row.dose.clone()),
        text("covariates", ConditionScores::covariate_label),
        text("split", |row| row.split.clone()),
        column("cells", rows.iter().map(|row| row.cells).collect::<Vec<_>>()),
    ];
    for score in OF_CONDITIONS {
        columns.push(numbers(score, rows.iter().map(|row| row.scores.named(score))));
    }
    for baseline in Baseline::ALL.into_iter().filter(|baseline| *baseline != Baseline::Control) {
        let correlation = rows.iter().map(|row| row.baselines.get(baseline).pearson_delta);
        columns.push(numbers(&format!("pearson_delta:{}", baseline.name()), correlation));
    }
    columns.push(numbers("pearson_delta:ceiling", rows.iter().map(|row| row.ceiling.pearson_delta)));
    columns.push(numbers("effect_size", rows.iter().map(|row| row.effect_size)));
    DataFrame::new_infer_height(columns)
}

/// One row per score: the means over conditions of its negative and positive control, and of the model's share of the way
/// from one to the other; and in how many of the conditions the positive control is not better.
///
/// # Errors
/// This fails only through a bug: the columns have the same length and different names.
pub fn ranges(evaluation: &Evaluation) -> PolarsResult<DataFrame> {
    let rows: Vec<(&str, &MeanRange)> =
        OF_RANGES.into_iter().filter_map(|score| Some((score, evaluation.ranges.get(score)?))).collect();
    let count = |of: fn(&MeanRange) -> usize| rows.iter().map(|(_, range)| of(range) as u64).collect::<Vec<_>>();
    let number = |name, of: fn(&MeanRange) -> Option<f64>| numbers(name, rows.iter().map(|(_, range)| of(range)));
    DataFrame::new_infer_height(vec![
        column("score", rows.iter().map(|(score, _)| *score).collect::<Vec<_>>()),
        number("negative", |range| Some(range.negative)),
        number("model", |range| range.score),
        number("positive", |range| Some(range.positive)),
        number("share", |range| range.share),
        column("conditions", count(|range| range.conditions)),
        column("without range", count(|range| range.without_range)),
    ])
}

/// One row per stratum: the correlation of the change for the model, the best baseline of each condition and the ceiling,
/// and the model's share of the ranges of that correlation and of the error.
///
/// # Errors
/// This fails only through a bug: the columns have the same length and different names.
pub fn strata(evaluation: &Evaluation) -> PolarsResult<DataFrame> {
    let rows = &evaluation.strata;
    let number = |name, of: fn(&Stratum) -> Option<f64>| numbers(name, rows.iter().map(of));
    DataFrame::new_infer_height(vec![
        column("by", rows.iter().map(|row| row.by.clone()).collect::<Vec<_>>()),
        column("stratum", rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>()),
        column("conditions", rows.iter().map(|row| row.conditions as u64).collect::<Vec<_>>()),
        number("pearson_delta", |row| row.mean.pearson_delta),
        number("pearson_delta:best", |row| row.best.pearson_delta),
        number("pearson_delta:ceiling", |row| row.ceiling.pearson_delta),
        number("share:pearson_delta", |row| row.share.pearson_delta),
        number("share:mse_delta", |row| row.share.mse_delta),
    ])
}

impl ConditionScores {
    /// The covariates as text: `cell_type=B, donor=101`.
    #[must_use]
    pub fn covariate_label(&self) -> String {
        let pairs: Vec<String> = self.covariates.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join(", ")
    }
}

fn column<T>(name: &str, values: Vec<T>) -> Column
where
    Series: NamedFrom<Vec<T>, [T]>,
{
    Series::new(name.into(), values).into_column()
}

fn numbers(name: &str, values: impl Iterator<Item = Option<f64>>) -> Column {
    Series::new(name.into(), values.collect::<Vec<Option<f64>>>()).into_column()
}

#[cfg(test)]
mod tests {
    use statistics::scale::Scale;

    use super::*;
    use crate::{range, table::tests::condition};

    fn evaluation() -> Evaluation {
        Evaluation::new(Scale::Log1p, true, vec![condition("ood", Some(0.9), Some(0.8)), condition("ood", None, None)])
    }

    #[test]
    fn the_means_have_a_row_for_the_model_each_baseline_and_the_ceiling() {
        let frame = means(&evaluation()).expect("the columns fit");
        assert_eq!((frame.height(), frame.width()), (7, 11));
        let text = draw(&frame);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("prediction") && lines[0].ends_with("de_direction"), "{text}");
        let numbers = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
        assert_eq!(numbers(lines[1]), ["model", "0.500", "–", "–", "–", "0.900", "–", "–", "–", "–", "–"]);
        assert_eq!(numbers(lines[4]), ["additive", "0.500", "–", "–", "–", "0.800", "–", "–", "–", "–", "–"]);
        assert_eq!(numbers(lines[7]), ["ceiling", "–", "–", "–", "–", "–", "–", "–", "–", "–", "–"]);
    }

    #[test]
    fn ranges_and_strata_have_a_row_each() {
        let mut judged = condition("ood", Some(0.9), Some(0.8));
        judged.ranges = range::tests::ranges();
        let evaluation = Evaluation::new(Scale::Log1p, true, vec![judged]);
        let rows = |frame: &DataFrame| -> Vec<Vec<String>> {
            draw(frame).lines().map(|line| line.split_whitespace().map(String::from).collect()).collect()
        };
        let ranges = rows(&ranges(&evaluation).expect("the columns fit"));
        assert_eq!(ranges.len(), 4);
        assert_eq!(ranges[2], ["mse_delta", "1.000", "0.600", "0.200", "0.500", "1", "0"]);
        assert_eq!(ranges[3], ["rank", "0.600", "0.400", "0.600", "–", "1", "1"]);
        let strata = rows(&strata(&evaluation).expect("the columns fit"));
        assert_eq!(strata[1], ["n_de", "1–10", "1", "0.900", "0.800", "–", "0.500", "0.500"]);
        assert_eq!(strata[2][..3], ["effect_size", "large", "1"]);
        assert_eq!(strata.len(), 3);
    }

    #[test]
    fn no_condition_is_left_out_of_the_drawing() {
        let conditions_of =
            |count| Evaluation::new(Scale::Log1p, true, vec![condition("ood", Some(0.9), Some(0.8)); count]);
        let text = draw(&conditions(&conditions_of(30)).expect("the columns fit"));
        assert_eq!(text.lines().count(), 31);
        assert_eq!(text.matches("cell_type=K562").count(), 30);
        let ends: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert!(ends.iter().all(|end| *end == ends[0]), "the last column is aligned to the right:\n{text}");
    }
}
