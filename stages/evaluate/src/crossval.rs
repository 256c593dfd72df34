//! Evaluations of several folds and seeds, as output by `crossval --json`.
//!
//! The scores of a fold are means over its conditions and then over its seeds; the mean over folds weights
//! every fold equally.

use serde::{Deserialize, Serialize};
use statistics::bootstrap::{Interval, interval_of_mean};

use super::{
    baselines::Baseline,
    condition_scores::{BEST, BaselineScores, ConditionScores},
    scores::PredictionScores,
    summary::{BaselineComparison, LEVEL, counted, lead_over_best, mean_r2, on_what, overall},
    table::{Evaluation, calibration},
};

/// The evaluation of one model, trained with one seed on the cells that one fold does not hold out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoldEvaluation {
    /// The fold's name.
    pub name: String,
    /// The seed of order, weights and dropout.
    pub seed: u64,
    /// The evaluation on the cells that the fold holds out.
    pub evaluation: Evaluation,
}

/// All folds and seeds of a cross-validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrossEvaluation {
    /// Every fold with every seed.
    pub folds: Vec<FoldEvaluation>,
    /// The model's mean scores over folds and seeds.
    pub mean: PredictionScores,
    /// The standard deviation between folds of the model's mean over seeds; undefined for one fold.
    pub sd_folds: PredictionScores,
    /// The standard deviation between seeds of the model's mean over folds; undefined for one seed.
    pub sd_seeds: PredictionScores,
    /// The baselines' mean scores over folds and seeds.
    pub baselines: BaselineScores,
    /// The ceiling's mean scores over folds and seeds.
    pub ceiling: PredictionScores,
    /// The result, in one sentence.
    pub summary: String,
    /// The rank correlation between the distance of predictions from the training data and their `mse_beyond_noise`,
    /// over the evaluated conditions of all folds and with means over seeds.
    #[serde(default)]
    pub calibration: Option<f64>,
}

/// One fold, summarised over all its seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldSummary {
    /// The fold's name.
    pub name: String,
    /// The largest number of evaluated conditions over the seeds.
    pub conditions: usize,
    /// The model's mean scores.
    pub mean: PredictionScores,
    /// The standard deviation of the model's scores between seeds; undefined for one seed.
    pub sd_seeds: PredictionScores,
    /// The baselines' mean scores.
    pub baselines: BaselineScores,
    /// The ceiling's mean scores.
    pub ceiling: PredictionScores,
    /// `better than the best baseline`, `level with the best baseline`, `worse than the best baseline` or `not comparable`.
    pub verdict: &'static str,
}

/// A scored prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScoredPrediction {
    Model,
    Baseline(Baseline),
    Offset,
    Ceiling,
}

impl ScoredPrediction {
    fn scores(self, evaluation: &Evaluation) -> PredictionScores {
        match self {
            Self::Model => evaluation.mean,
            Self::Baseline(baseline) => *evaluation.baselines.get(baseline),
            Self::Offset => evaluation.baselines.offset.unwrap_or_default(),
            Self::Ceiling => evaluation.ceiling(),
        }
    }
}

impl FoldEvaluation {
    /// The mean scores of the model, of each baseline and of the ceiling, with their names.
    #[must_use]
    pub fn predictions(&self) -> Vec<(&'static str, PredictionScores)> {
        let mut all = vec![("model", ScoredPrediction::Model)];
        all.extend(Baseline::ALL.map(|baseline| (baseline.name(), ScoredPrediction::Baseline(baseline))));
        if self.evaluation.baselines.offset.is_some() {
            all.push(("offset", ScoredPrediction::Offset));
        }
        all.push(("ceiling", ScoredPrediction::Ceiling));
        all.into_iter().map(|(name, prediction)| (name, prediction.scores(&self.evaluation))).collect()
    }
}

impl CrossEvaluation {
    /// Summarises evaluations.
    #[must_use]
    pub fn new(folds: Vec<FoldEvaluation>) -> Self {
        let by_fold = by_fold(&folds);
        let over_folds = |prediction| PredictionScores::mean(&means_of(&by_fold, prediction));
        let mut seeds: Vec<u64> = folds.iter().map(|fold| fold.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let of_seed = |seed: &u64| {
            PredictionScores::mean(folds.iter().filter(|fold| fold.seed == *seed).map(|fold| &fold.evaluation.mean))
        };
        let of_seeds: Vec<PredictionScores> = seeds.iter().map(of_seed).collect();
        let (mean, sd_folds) = (
            over_folds(ScoredPrediction::Model),
            PredictionScores::deviation(&means_of(&by_fold, ScoredPrediction::Model)),
        );
        let has_offset = folds.iter().any(|fold| fold.evaluation.baselines.offset.is_some());
        let offset = has_offset.then(|| over_folds(ScoredPrediction::Offset));
        let baselines = BaselineScores {
            offset,
            ..BaselineScores::from_fn(|baseline| over_folds(ScoredPrediction::Baseline(baseline)))
        };
        let ceiling = over_folds(ScoredPrediction::Ceiling);
        let summary = summary(&by_fold, &mean, &baselines.additive);
        let calibration = calibration(by_fold.iter().flat_map(conditions_of));
        Self {
            calibration,
            sd_seeds: PredictionScores::deviation(&of_seeds),
            mean,
            sd_folds,
            baselines,
            ceiling,
            summary,
            folds,
        }
    }

    /// A summary of each fold over its seeds, in the order of the folds.
    #[must_use]
    pub fn by_fold(&self) -> Vec<FoldSummary> {
        let of_fold = |fold: &FoldSeeds<'_>| {
            let evaluations = || fold.iter().map(|one| &one.evaluation);
            let conditions = evaluations().map(|evaluation| evaluation.judged().count()).max().unwrap_or(0);
            FoldSummary {
                name: fold.first().map(|one| one.name.clone()).unwrap_or_default(),
                conditions,
                mean: mean_of(fold, ScoredPrediction::Model),
                sd_seeds: PredictionScores::deviation(evaluations().map(|evaluation| &evaluation.mean)),
                baselines: BaselineScores::from_fn(|baseline| mean_of(fold, ScoredPrediction::Baseline(baseline))),
                ceiling: mean_of(fold, ScoredPrediction::Ceiling),
                verdict: verdict(fold).map_or("not comparable", BaselineComparison::words),
            }
        };
        by_fold(&self.folds).iter().map(of_fold).collect()
    }
}

/// The evaluations of one fold.
type FoldSeeds<'a> = Vec<&'a FoldEvaluation>;

/// The evaluations of each fold, in the order of the folds.
fn by_fold(folds: &[FoldEvaluation]) -> Vec<FoldSeeds<'_>> {
    let mut all: Vec<FoldSeeds<'_>> = Vec::new();
    for fold in folds {
        match all.iter_mut().find(|seeds| seeds[0].name == fold.name) {
            Some(seeds) => seeds.push(fold),
            None => all.push(vec![fold]),
        }
    }
    all
}

fn mean_of(fold: &FoldSeeds<'_>, prediction: ScoredPrediction) -> PredictionScores {
    let scores: Vec<PredictionScores> = fold.iter().map(|one| prediction.scores(&one.evaluation)).collect();
    PredictionScores::mean(&scores)
}

/// Distance and error of each condition of a fold, as means over its seeds.
fn conditions_of(fold: &FoldSeeds<'_>) -> Vec<(Option<f64>, Option<f64>)> {
    let Some(first) = fold.first() else { return Vec::new() };
    let same = |a: &ConditionScores, b: &ConditionScores| {
        (&a.condition, &a.dose, &a.covariates) == (&b.condition, &b.dose, &b.covariates)
    };
    let size_and_error = |condition: &ConditionScores| {
        let again = || fold.iter().flat_map(|one| one.evaluation.judged()).filter(|other| same(condition, other));
        let distance = mean(again().filter_map(|condition| condition.distance));
        (distance, mean(again().filter_map(|condition| condition.scores.mse_beyond_noise)))
    };
    first.evaluation.judged().map(size_and_error).collect()
}

fn means_of(by_fold: &[FoldSeeds<'_>], prediction: ScoredPrediction) -> Vec<PredictionScores> {
    by_fold.iter().map(|fold| mean_of(fold, prediction)).collect()
}

/// The model compared with the best baseline of each condition by the correlation of the change: on how many folds it is better, level
/// or worse, and over all.
fn summary(by_fold: &[FoldSeeds<'_>], mean: &PredictionScores, additive: &PredictionScores) -> String {
    let count = by_fold.len();
    let verdicts: Vec<Option<BaselineComparison>> = by_fold.iter().map(verdict).collect();
    let leads: Vec<f64> = by_fold.iter().filter_map(lead_of).collect();
    let overall = overall(interval_of_mean(&leads)).unwrap_or_default();
    format!(
        "{} of {count} folds (Pearson correlation of the change; level is within {LEVEL}, or an interval around 0){overall}{}{}",
        counted(&verdicts),
        mean_r2(mean, additive),
        on_what(&by_fold.iter().flatten().flat_map(|one| one.evaluation.judged()).collect::<Vec<_>>())
    )
}

fn verdict(fold: &FoldSeeds<'_>) -> Option<BaselineComparison> {
    Some(BaselineComparison::from_lead(lead_of(fold)?, interval_over_seeds(fold)))
}

/// The mean lead over the best baseline: over the conditions for which both are defined, then over seeds.
fn lead_of(fold: &FoldSeeds<'_>) -> Option<f64> {
    let of_seed = |one: &&FoldEvaluation| mean(one.evaluation.judged().filter_map(lead_over_best));
    mean(fold.iter().filter_map(of_seed))
}

/// The mean over seeds of the interval around the lead; undefined if it is undefined for one of the seeds.
fn interval_over_seeds(fold: &FoldSeeds<'_>) -> Option<Interval> {
    let intervals = fold.iter().map(|one| interval_of_seed(&one.evaluation)).collect::<Option<Vec<Interval>>>()?;
    let end = |at: usize| mean(intervals.iter().map(|interval| interval[at]));
    Some([end(0)?, end(1)?, end(2)?])
}

/// The interval around the mean lead over conditions.
fn interval_of_seed(evaluation: &Evaluation) -> Option<Interval> {
    *evaluation.versus.get(BEST)?.get("pearson_delta")?
}

fn mean(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = numbers.fold((0.0, 0.0), |(sum, count), number| (sum + number, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
pub(super) mod tests {
    use statistics::scale::Scale;

    use super::*;
    use crate::table::tests::condition;

    /// Two folds with two seeds; the second fold has a condition for which `additive` is undefined.
    pub(crate) fn crossed() -> CrossEvaluation {
        let one = |name: &str, seed, conditions: &[(f64, Option<f64>)]| FoldEvaluation {
            name: name.into(),
            seed,
            evaluation: Evaluation::new(
                Scale::Log1p,
                true,
                conditions.iter().map(|(model, additive)| condition("ood", Some(*model), *additive)).collect(),
            ),
        };
        CrossEvaluation::new(vec![
            one("B", 0, &[(0.9, Some(0.5))]),
            one("B", 1, &[(0.7, Some(0.5))]),
            one("NK", 0, &[(0.4, Some(0.6)), (0.2, None)]),
            one("NK", 1, &[(0.4, Some(0.6)), (0.0, None)]),
        ])
    }

    fn near(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|found| (found - expected).abs() < 1e-12)
    }

    #[test]
    fn the_mean_is_that_of_folds_which_are_those_of_their_seeds() {
        let crossed = crossed();
        let folds = crossed.by_fold();
        assert_eq!(folds.iter().map(|fold| fold.name.as_str()).collect::<Vec<_>>(), ["B", "NK"]);
        assert!(near(folds[0].mean.pearson_delta, 0.8) && near(folds[1].mean.pearson_delta, 0.25));
        assert!(near(crossed.mean.pearson_delta, 0.525));
        assert!(near(crossed.baselines.additive.pearson_delta, 0.55));
        assert_eq!((folds[0].conditions, folds[1].conditions), (1, 2));
        assert_eq!(crossed.mean.mmd, None, "what is undefined stays so");
    }

    #[test]
    fn folds_vary_among_themselves_and_seeds_among_themselves() {
        let crossed = crossed();
        assert!(near(crossed.sd_folds.pearson_delta, 0.55 / 2.0_f64.sqrt()));
        // Seed 0: (0.9 + 0.3) / 2; seed 1: (0.7 + 0.2) / 2.
        assert!(near(crossed.sd_seeds.pearson_delta, 0.15 / 2.0_f64.sqrt()));
        assert!(near(crossed.by_fold()[0].sd_seeds.pearson_delta, 0.2 / 2.0_f64.sqrt()));
        let one = CrossEvaluation::new(crossed.folds[..1].to_vec());
        assert_eq!((one.sd_folds, one.sd_seeds), (PredictionScores::default(), PredictionScores::default()));
    }

    #[test]
    fn the_summary_compares_with_the_best_baseline_where_both_are_defined() {
        let crossed = crossed();
        let start = "better than the best baseline on 1, worse than the best baseline on 1 of 2 folds (Pearson";
        assert!(crossed.summary.starts_with(start), "{}", crossed.summary);
        assert!(crossed.summary.contains("overall level with the best baseline: +0.050"), "{}", crossed.summary);
        assert_eq!(crossed.by_fold()[1].verdict, "worse than the best baseline");
        let none = CrossEvaluation::new(vec![FoldEvaluation {
            name: "1".into(),
            seed: 0,
            evaluation: Evaluation::new(Scale::Log1p, true, Vec::new()),
        }]);
        assert!(none.summary.starts_with("not comparable on 1 of 1 folds"), "{}", none.summary);
    }

    #[test]
    fn it_reads_back_from_json() {
        let crossed = crossed();
        let json = serde_json::to_value(&crossed).expect("it is JSON");
        assert_eq!(json["mean"]["mmd"], serde_json::Value::Null);
        assert_eq!(serde_json::from_value::<CrossEvaluation>(json).expect("it reads"), crossed);
    }
}
