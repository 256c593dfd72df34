//! Groups of conditions that are alike in how much there is to predict.
//!
//! A mean over all conditions hides that a model may be good only where everything is: strata show it.

use serde::{Deserialize, Serialize};

use super::{condition_scores::ConditionScores, scores::PredictionScores};

/// A baseline is at the ceiling if its `pearson_delta` is at least this share of the ceiling's.
const SATURATED: f64 = 0.95;

/// Some conditions, and the mean scores over them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stratum {
    /// The property that divides conditions: `n_de`, `effect_size` or `saturated`.
    pub by: String,
    /// Which of them these are.
    pub name: String,
    /// Number of conditions.
    pub conditions: usize,
    /// The model's mean scores.
    pub mean: PredictionScores,
    /// The mean scores of the best baseline of each condition, by `pearson_delta`.
    pub best: PredictionScores,
    /// The mean scores of the ceiling.
    pub ceiling: PredictionScores,
    /// The model's mean shares of the scores' [ranges](super::range).
    pub share: PredictionScores,
}

/// The strata that have conditions: by number of differential genes, by thirds of effect size, and by whether the best
/// baseline is within 5% of the ceiling. A condition is in no stratum of a kind if the number that decides is undefined.
#[must_use]
pub fn strata(conditions: &[&ConditionScores]) -> Vec<Stratum> {
    let mut by_size: Vec<&ConditionScores> =
        conditions.iter().copied().filter(|one| one.effect_size.is_some()).collect();
    by_size.sort_by(|a, b| a.effect_size.unwrap_or(0.0).total_cmp(&b.effect_size.unwrap_or(0.0)));
    let third = |at: usize| by_size[at * by_size.len() / 3..(at + 1) * by_size.len() / 3].to_vec();
    let with = |holds: &dyn Fn(&ConditionScores) -> Option<bool>| -> Vec<&ConditionScores> {
        conditions.iter().copied().filter(|one| holds(one) == Some(true)).collect()
    };
    let with_genes = |least: usize, most: usize| with(&|one| Some((least..=most).contains(&one.n_de?)));
    let divided = [
        ("n_de", "0", with_genes(0, 0)),
        ("n_de", "1–10", with_genes(1, 10)),
        ("n_de", "11–100", with_genes(11, 100)),
        ("n_de", "> 100", with_genes(101, usize::MAX)),
        ("effect_size", "small", third(0)),
        ("effect_size", "medium", third(1)),
        ("effect_size", "large", third(2)),
        ("saturated", "yes", with(&is_saturated)),
        ("saturated", "no", with(&|one| Some(!is_saturated(one)?))),
    ];
    divided
        .into_iter()
        .filter(|(.., members)| !members.is_empty())
        .map(|(by, name, members)| stratum(by, name, &members))
        .collect()
}

/// Whether the best baseline is at the ceiling already, so that a model can't show more.
fn is_saturated(condition: &ConditionScores) -> Option<bool> {
    let best = condition.baselines.get(condition.best_baseline()?).pearson_delta?;
    Some(best >= SATURATED * condition.ceiling.pearson_delta?)
}

fn stratum(by: &str, name: &str, members: &[&ConditionScores]) -> Stratum {
    let best = members.iter().filter_map(|one| Some(one.baselines.get(one.best_baseline()?)));
    let shares: Vec<PredictionScores> = members.iter().map(|one| one.ranges.shares()).collect();
    Stratum {
        by: by.into(),
        name: name.into(),
        conditions: members.len(),
        mean: PredictionScores::mean(members.iter().map(|one| &one.scores)),
        best: PredictionScores::mean(best),
        ceiling: PredictionScores::mean(members.iter().map(|one| &one.ceiling)),
        share: PredictionScores::mean(&shares),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{range, table::tests::condition},
        *,
    };

    fn judged(n_de: Option<usize>, effect_size: f64, ceiling: Option<f64>) -> ConditionScores {
        let mut one = condition("ood", Some(effect_size / 10.0), Some(0.5));
        (one.n_de, one.effect_size, one.ceiling.pearson_delta) = (n_de, Some(effect_size), ceiling);
        one.ranges = range::tests::ranges();
        one
    }

    #[test]
    fn conditions_are_divided_by_genes_by_effect_and_by_what_is_left_to_show() {
        let conditions = [
            judged(Some(0), 1.0, None),
            judged(Some(10), 4.0, Some(0.52)),
            judged(Some(11), 2.0, Some(0.9)),
            judged(None, 3.0, Some(-0.1)),
        ];
        let strata = strata(&conditions.iter().collect::<Vec<_>>());
        let sizes: Vec<(&str, &str, usize)> =
            strata.iter().map(|one| (one.by.as_str(), one.name.as_str(), one.conditions)).collect();
        let expected = [
            ("n_de", "0", 1),
            ("n_de", "1–10", 1),
            ("n_de", "11–100", 1),
            ("effect_size", "small", 1),
            ("effect_size", "medium", 1),
            ("effect_size", "large", 2),
            ("saturated", "yes", 2),
            ("saturated", "no", 1),
        ];
        assert_eq!(sizes, expected);
        assert!(strata[5].mean.pearson_delta.is_some_and(|mean| (mean - 0.35).abs() < 1e-12));
        assert_eq!((strata[5].best.pearson_delta, strata[5].share.mse_delta), (Some(0.5), Some(0.5)));
        assert!(super::strata(&[]).is_empty());
    }
}
