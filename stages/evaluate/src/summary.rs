//! The result of an evaluation in one sentence.

use statistics::bootstrap::Interval;

use super::{
    condition_scores::{BEST, ConditionScores, Versus},
    scores::PredictionScores,
    versus::lead,
};

/// Largest difference between two correlations that counts as level.
pub(super) const LEVEL: f64 = 0.02;

/// Scores that are named in a summary.
const SCORES_SHOWN: [&str; 7] =
    ["pearson_delta", "mse_delta", "r2_mean", "r2_mean_top20", "r2_mean_top20_train", "e_distance", "rank"];

/// Said first if the evaluation is not strict.
const NOT_STRICT: &str = "not strict: the model was trained on controls that real changes are measured from, so scores of changes are too high (make a split with `perturbine split`, which sets reference controls apart); ";

/// How a model compares with the best baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaselineComparison {
    /// The model is better.
    Better,
    /// They are level.
    Level,
    /// The model is worse.
    Worse,
}

impl BaselineComparison {
    /// Better or worse if the lead exceeds [`LEVEL`] and the interval, if there is one, does not contain 0;
    /// otherwise level.
    pub(super) fn from_lead(lead: f64, interval: Option<Interval>) -> Self {
        let [low, _, high] = interval.unwrap_or([lead; 3]);
        match lead {
            lead if lead > LEVEL && low > 0.0 => Self::Better,
            lead if lead < -LEVEL && high < 0.0 => Self::Worse,
            _ => Self::Level,
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Better => "better than the best baseline",
            Self::Level => "level with the best baseline",
            Self::Worse => "worse than the best baseline",
        }
    }
}

/// The scores that a summary is of.
pub(super) struct SummarisedScores<'a> {
    /// The conditions that count.
    pub(super) judged: &'a [&'a ConditionScores],
    /// Whether they were held out.
    pub(super) holds_out: bool,
    /// Whether nothing learned from the reference controls.
    pub(super) strict: bool,
    /// The model's leads over all conditions.
    pub(super) versus: &'a Versus,
    /// The model's mean scores.
    pub(super) model: &'a PredictionScores,
    /// The mean scores of `additive`.
    pub(super) additive: &'a PredictionScores,
}

/// The model compared with the best baseline of each condition by the correlation of the change: on how many conditions
/// it is better, level or worse, and over all.
#[must_use]
pub(super) fn summary(scores: &SummarisedScores) -> String {
    let count = scores.judged.len();
    if count == 0 {
        return "no condition to evaluate".into();
    }
    let verdicts: Vec<Option<BaselineComparison>> = scores.judged.iter().map(|one| of_condition(one)).collect();
    let (held_out, caveat) =
        if scores.holds_out { ("held-out ", "") } else { ("", "; none of the evaluated cells were held out") };
    let conditions = if count == 1 { "condition" } else { "conditions" };
    let summarised = format!("{} of {count} {held_out}{conditions}", counted(&verdicts));
    let interval = scores.versus.get(BEST).and_then(|scores| *scores.get("pearson_delta")?);
    let overall = overall(interval).unwrap_or_default();
    let r2 = mean_r2(scores.model, scores.additive);
    let what = on_what(scores.judged);
    let strict = if scores.strict { "" } else { NOT_STRICT };
    format!(
        "{strict}{summarised} (Pearson correlation of the change; level is within {LEVEL}, or an interval around 0){overall}{r2}{what}{caveat}"
    )
}

/// The number of occurrences of each verdict; `None` is "not comparable".
pub(super) fn counted(verdicts: &[Option<BaselineComparison>]) -> String {
    let words = |verdict: Option<BaselineComparison>| verdict.map_or("not comparable", BaselineComparison::words);
    let kinds =
        [Some(BaselineComparison::Better), Some(BaselineComparison::Level), Some(BaselineComparison::Worse), None];
    let times = kinds.map(|kind| (words(kind), verdicts.iter().filter(|verdict| **verdict == kind).count()));
    let parts: Vec<String> =
        times.iter().filter(|(_, times)| *times > 0).map(|(words, times)| format!("{words} on {times}")).collect();
    parts.join(", ")
}

/// The overall verdict, if there are enough conditions for an interval.
pub(super) fn overall(interval: Option<Interval>) -> Option<String> {
    let [low, lead, high] = interval?;
    let verdict = BaselineComparison::from_lead(lead, interval).words();
    Some(format!("; overall {verdict}: {lead:+.3} (95% interval {low:+.3} to {high:+.3})"))
}

/// The mean R² of the model, and that of `additive` if it is defined.
pub(super) fn mean_r2(model: &PredictionScores, additive: &PredictionScores) -> String {
    match (model.r2_mean, additive.r2_mean) {
        (Some(model), Some(additive)) => format!("; mean R² {model:.3}, additive's {additive:.3}"),
        (Some(model), None) => format!("; mean R² {model:.3}"),
        _ => String::new(),
    }
}

/// The scores in which the model is ahead of `additive`, and those in which it is behind: by its mean lead
/// over conditions where both are defined.
pub(super) fn on_what(conditions: &[&ConditionScores]) -> String {
    let mean_lead = |score: &str| {
        let score_of = |scores: &PredictionScores| scores.named(score);
        let leads =
            conditions.iter().filter_map(|one| lead(score, score_of(&one.scores), score_of(&one.baselines.additive)));
        leads.sum::<f64>()
    };
    let sentence = |words: &str, holds: &dyn Fn(f64) -> bool| {
        let scores: Vec<&str> = SCORES_SHOWN.into_iter().filter(|&score| holds(mean_lead(score))).collect();
        if scores.is_empty() { String::new() } else { format!("; {words} {}", scores.join(", ")) }
    };
    sentence("ahead of additive in", &|lead| lead > 0.0) + &sentence("behind additive in", &|lead| lead < 0.0)
}

/// How the model compares on one condition; `None` if one of the two is undefined.
pub(super) fn of_condition(condition: &ConditionScores) -> Option<BaselineComparison> {
    Some(BaselineComparison::from_lead(lead_over_best(condition)?, interval_of(condition)))
}

/// The difference between the correlations of the change of the model and of the best baseline.
pub(super) fn lead_over_best(condition: &ConditionScores) -> Option<f64> {
    let best = condition.baselines.get(condition.best_baseline()?);
    lead("pearson_delta", condition.scores.pearson_delta, best.pearson_delta)
}

/// The interval of that lead over resampled cells.
pub(super) fn interval_of(condition: &ConditionScores) -> Option<Interval> {
    *condition.versus.get(BEST)?.get("pearson_delta")?
}

#[cfg(test)]
mod tests {
    use statistics::scale::Scale;

    use super::{
        super::{
            baselines::Baseline,
            table::{Evaluation, tests::condition},
        },
        *,
    };

    #[test]
    fn the_summary_counts_wins_draws_and_losses_against_the_best_baseline() {
        let conditions = vec![
            condition("ood", Some(0.95), Some(0.90)),
            condition("ood", Some(0.91), Some(0.90)),
            condition("ood", Some(0.80), Some(0.90)),
            condition("ood", Some(0.80), None),
        ];
        let summary = Evaluation::new(Scale::Log1p, true, conditions).summary;
        let (start, end) = summary.split_once("; overall ").expect("three conditions have an interval");
        assert_eq!(
            start,
            "better than the best baseline on 1, level with the best baseline on 1, worse than the best baseline on 1, not comparable on 1 \
             of 4 held-out conditions (Pearson correlation of the change; level is within 0.02, or an interval around 0)",
        );
        assert!(end.starts_with("level with the best baseline: -0.013 (95% interval -0.100 to +0.050)"), "{end}");
        assert!(end.ends_with("; mean R² 0.500, additive's 0.500; behind additive in pearson_delta"), "{end}");
    }

    #[test]
    fn the_verdict_is_against_the_best_baseline_of_a_condition() {
        let mut scores = condition("ood", Some(0.5), Some(0.3));
        assert_eq!((scores.best_baseline(), lead_over_best(&scores)), (Some(Baseline::Additive), Some(0.2)));
        scores.baselines.linear.pearson_delta = Some(0.75);
        assert_eq!((scores.best_baseline(), lead_over_best(&scores)), (Some(Baseline::Linear), Some(-0.25)));
        let summary = Evaluation::new(Scale::Log1p, false, vec![scores]).summary;
        assert!(summary.starts_with("not strict: "), "{summary}");
        assert!(summary.contains("worse than the best baseline on 1 of 1 held-out condition"), "{summary}");
    }

    #[test]
    fn a_lead_that_may_be_chance_is_level() {
        assert_eq!(BaselineComparison::from_lead(0.3, Some([0.1, 0.3, 0.5])), BaselineComparison::Better);
        assert_eq!(BaselineComparison::from_lead(0.3, Some([-0.1, 0.3, 0.5])), BaselineComparison::Level);
        assert_eq!(BaselineComparison::from_lead(-0.3, Some([-0.5, -0.3, -0.1])), BaselineComparison::Worse);
        assert_eq!(BaselineComparison::from_lead(-0.3, Some([-0.5, -0.3, 0.1])), BaselineComparison::Level);
        assert_eq!(BaselineComparison::from_lead(0.01, Some([0.005, 0.01, 0.015])), BaselineComparison::Level);
        assert_eq!(BaselineComparison::from_lead(0.3, None), BaselineComparison::Better);
    }

    #[test]
    fn where_nothing_was_held_out_the_summary_says_so() {
        let evaluation = Evaluation::new(Scale::Values, true, vec![condition("valid", Some(0.9), Some(0.5))]);
        assert!(evaluation.summary.ends_with("none of the evaluated cells were held out"), "{}", evaluation.summary);
        assert_eq!(Evaluation::new(Scale::Values, true, Vec::new()).summary, "no condition to evaluate");
    }
}
