//! How a model compares with the best baselines, as numbers: what the summary says in words.

use statistics::bootstrap::Interval;

use super::{
    baselines::Baseline,
    condition_scores::{BEST, ConditionScores},
    summary::{BaselineComparison, LEVEL, lead_over_best, of_condition},
    table::Evaluation,
};

/// The comparison of a model with the best baseline of each condition, by the correlation of the change.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Over all conditions; `None` if no condition can be compared.
    pub overall: Option<BaselineComparison>,
    /// The model's mean lead, over conditions where both are defined.
    pub lead: Option<f64>,
    /// The interval of that lead.
    pub interval: Option<Interval>,
    /// The model's mean correlation over these conditions.
    pub model: Option<f64>,
    /// The mean of the best baseline of each of them.
    pub best: Option<f64>,
    /// The baseline that is most often the best.
    pub usual_best: Option<Baseline>,
    /// Number of conditions on which the model is better.
    pub better: usize,
    /// Number of conditions on which both are level.
    pub level: usize,
    /// Number of conditions on which the model is worse.
    pub worse: usize,
    /// Number of conditions where one of them is undefined.
    pub not_comparable: usize,
    /// Whether the conditions were held out.
    pub held_out: bool,
    /// Whether nothing learned from the controls that real changes are measured from.
    pub strict: bool,
}

impl Verdict {
    /// Largest difference that counts as level.
    pub const LEVEL: f64 = LEVEL;

    /// Number of evaluated conditions.
    #[must_use]
    pub fn conditions(&self) -> usize {
        self.better + self.level + self.worse + self.not_comparable
    }
}

impl Evaluation {
    /// How the model compares with the best baseline of each condition.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let judged: Vec<&ConditionScores> = self.judged().collect();
        let comparable: Vec<&ConditionScores> =
            judged.iter().copied().filter(|one| lead_over_best(one).is_some()).collect();
        let mean = |of: &dyn Fn(&ConditionScores) -> Option<f64>| {
            let values: Vec<f64> = comparable.iter().filter_map(|one| of(one)).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let times = |verdict: Option<BaselineComparison>| {
            judged.iter().filter(|condition| of_condition(condition) == verdict).count()
        };
        let interval = self.versus.get(BEST).and_then(|scores| *scores.get("pearson_delta")?);
        let lead = mean(&lead_over_best);
        let is_best =
            |baseline: Baseline| comparable.iter().filter(|one| one.best_baseline() == Some(baseline)).count();
        Verdict {
            overall: lead.map(|lead| BaselineComparison::from_lead(lead, interval)),
            lead,
            interval,
            model: mean(&|one| one.scores.pearson_delta),
            best: mean(&|one| one.baselines.get(one.best_baseline()?).pearson_delta),
            usual_best: Baseline::ALL.into_iter().rev().max_by_key(|one| is_best(*one)).filter(|one| is_best(*one) > 0),
            better: times(Some(BaselineComparison::Better)),
            level: times(Some(BaselineComparison::Level)),
            worse: times(Some(BaselineComparison::Worse)),
            not_comparable: times(None),
            held_out: self.holds_out(),
            strict: self.strict,
        }
    }
}

#[cfg(test)]
mod tests {
    use statistics::scale::Scale;

    use super::{super::table::tests::condition, *};

    #[test]
    fn a_verdict_has_the_numbers_of_the_summary() {
        let conditions = vec![
            condition("ood", Some(0.95), Some(0.90)),
            condition("ood", Some(0.91), Some(0.90)),
            condition("ood", Some(0.80), Some(0.90)),
            condition("ood", Some(0.80), None),
        ];
        let verdict = Evaluation::new(Scale::Log1p, false, conditions).verdict();
        assert_eq!((verdict.better, verdict.level, verdict.worse, verdict.not_comparable), (1, 1, 1, 1));
        assert_eq!((verdict.conditions(), verdict.held_out, verdict.strict), (4, true, false));
        assert_eq!((verdict.overall, verdict.usual_best), (Some(BaselineComparison::Level), Some(Baseline::Additive)));
        let near = |found: Option<f64>, expected: f64| found.is_some_and(|found| (found - expected).abs() < 1e-12);
        assert!(near(verdict.best, 0.9) && near(verdict.model, 2.66 / 3.0) && near(verdict.lead, -0.04 / 3.0));
    }

    #[test]
    fn nothing_to_compare_is_no_verdict() {
        let verdict = Evaluation::new(Scale::Values, true, vec![condition("valid", Some(0.9), None)]).verdict();
        assert_eq!((verdict.overall, verdict.usual_best, verdict.not_comparable), (None, None, 1));
        assert!(!verdict.held_out);
    }
}
