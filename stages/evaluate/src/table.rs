//! All conditions of an evaluation, as output by `evaluate --json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use statistics::{
    differential_table::{SignificantCounts, counts_correlation},
    ranks::spearman,
    scale::{Anchor, Scale},
};

use super::{
    condition_scores::{BaselineScores, ConditionScores, Versus},
    range::{MeanRange, ScoreRanges},
    scores::PredictionScores,
    strata::{Stratum, strata},
    summary::{SummarisedScores, summary},
    versus::{LeadDraws, over_conditions},
};

/// The split whose cells were not used for training, model selection or early stopping.
const HELD_OUT: &str = "ood";

/// A complete evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The scale of the profiles.
    pub scale: Scale,
    /// How predictions were interpreted.
    #[serde(default)]
    pub readout: Anchor,
    /// Whether nothing learned from the controls that real changes are measured from. If it did, the noise of their mean
    /// is in the predictions too, and scores of changes are too high.
    #[serde(default)]
    pub strict: bool,
    /// The result, in one sentence.
    pub summary: String,
    /// Every condition.
    pub conditions: Vec<ConditionScores>,
    /// The model's mean scores over the [judged](Evaluation::judged) conditions.
    pub mean: PredictionScores,
    /// The model's median scores over the evaluated conditions.
    pub median: PredictionScores,
    /// The baselines' mean scores over the evaluated conditions.
    pub baselines: BaselineScores,
    /// For a baseline and a score: lower end, middle and upper end of the model's mean lead, over resampled
    /// evaluated conditions.
    #[serde(default)]
    pub versus: Versus,
    /// The range of each score over the evaluated conditions.
    #[serde(default)]
    pub ranges: BTreeMap<String, MeanRange>,
    /// Groups of evaluated conditions that are alike in how much there is to predict.
    #[serde(default)]
    pub strata: Vec<Stratum>,
    /// The rank correlation over evaluated conditions between the distance of predictions from the training data
    /// and their `mse_beyond_noise`.
    #[serde(default)]
    pub calibration: Option<f64>,
    /// The rank correlation over evaluated conditions between the real and the predicted number of genes that tests of cells
    /// find, over those with any real one.
    #[serde(default)]
    pub de_spearman_sig: Option<f64>,
}

/// Spearman's correlation between distances and errors, if at least three pairs are known and neither is
/// constant.
pub(super) fn calibration(pairs: impl Iterator<Item = (Option<f64>, Option<f64>)>) -> Option<f64> {
    let known: Vec<(f64, f64)> = pairs.filter_map(|(distance, error)| distance.zip(error)).collect();
    if known.len() < 3 {
        return None;
    }
    let (distances, errors): (Vec<f64>, Vec<f64>) = known.into_iter().unzip();
    spearman(&distances, &errors)
}

impl Evaluation {
    /// Summarises conditions whose cells were not resampled, of predictions read [`anchored`](Anchor::Anchored).
    #[must_use]
    pub fn new(scale: Scale, strict: bool, conditions: Vec<ConditionScores>) -> Self {
        Self::with_draws(scale, strict, conditions, &[])
    }

    /// Summarises conditions, with the draws of the cells of each of them.
    #[must_use]
    pub fn with_draws(scale: Scale, strict: bool, conditions: Vec<ConditionScores>, draws: &[LeadDraws]) -> Self {
        let mut evaluation = Self {
            scale,
            readout: Anchor::default(),
            strict,
            summary: String::new(),
            conditions,
            mean: PredictionScores::default(),
            median: PredictionScores::default(),
            baselines: BaselineScores::default(),
            versus: Versus::new(),
            ranges: BTreeMap::new(),
            strata: Vec::new(),
            calibration: None,
            de_spearman_sig: None,
        };
        let judged: Vec<&ConditionScores> = evaluation.judged().collect();
        let scores = || judged.iter().map(|condition| &condition.scores);
        let (mean, median) = (PredictionScores::mean(scores()), PredictionScores::median(scores()));
        let baselines = BaselineScores::mean(judged.iter().map(|condition| &condition.baselines));
        let draws: Vec<&LeadDraws> = match draws.len() == evaluation.conditions.len() {
            true => draws
                .iter()
                .zip(&evaluation.conditions)
                .filter(|(_, one)| evaluation.counts(one))
                .map(|(draws, _)| draws)
                .collect(),
            false => Vec::new(),
        };
        let versus = over_conditions(&judged, &draws);
        let calibration =
            calibration(judged.iter().map(|condition| (condition.distance, condition.scores.mse_beyond_noise)));
        let ranges = ScoreRanges::mean(judged.iter().map(|condition| &condition.ranges));
        let strata = strata(&judged);
        let counts: Vec<SignificantCounts> = judged.iter().filter_map(|condition| condition.de_nsig_counts).collect();
        let de_spearman_sig = counts_correlation(&counts);
        evaluation =
            Self { mean, median, baselines, versus, ranges, strata, calibration, de_spearman_sig, ..evaluation };
        let judged: Vec<&ConditionScores> = evaluation.judged().collect();
        evaluation.summary = summary(&SummarisedScores {
            judged: &judged,
            holds_out: evaluation.holds_out(),
            strict,
            versus: &evaluation.versus,
            model: &evaluation.mean,
            additive: &evaluation.baselines.additive,
        });
        evaluation
    }

    /// The same evaluation, for predictions with this readout.
    #[must_use]
    pub fn read_as(self, readout: Anchor) -> Self {
        Self { readout, ..self }
    }

    /// The conditions that count: the held-out ones, or all of them if none were held out.
    pub fn judged(&self) -> impl Iterator<Item = &ConditionScores> {
        self.conditions.iter().filter(|condition| self.counts(condition))
    }

    /// Whether a condition is among those that count.
    fn counts(&self, condition: &ConditionScores) -> bool {
        condition.split == HELD_OUT || !self.holds_out()
    }

    /// The mean of the ceilings over the evaluated conditions.
    #[must_use]
    pub fn ceiling(&self) -> PredictionScores {
        PredictionScores::mean(self.judged().map(|condition| &condition.ceiling))
    }

    /// Whether any condition was held out.
    pub(super) fn holds_out(&self) -> bool {
        self.conditions.iter().any(|condition| condition.split == HELD_OUT)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::{super::baselines::Baseline, *};

    pub(crate) fn condition(split: &str, model: Option<f64>, additive: Option<f64>) -> ConditionScores {
        let scores =
            |pearson_delta| PredictionScores { r2_mean: Some(0.5), pearson_delta, ..PredictionScores::default() };
        ConditionScores {
            condition: "A+B".into(),
            dose: "1+1".into(),
            covariates: BTreeMap::from([("cell_type".into(), "K562".into())]),
            split: split.into(),
            cells: 7,
            scores: scores(model),
            n_de: Some(3),
            effect_size: Some(1.5),
            de_nsig_counts: None,
            distance: None,
            beyond_additive: None,
            ceiling: PredictionScores::default(),
            ranges: ScoreRanges::default(),
            baselines: BaselineScores { additive: scores(additive), ..BaselineScores::default() },
            versus: Versus::new(),
        }
    }

    fn keys(value: &Value) -> Vec<&str> {
        let mut keys: Vec<&str> =
            value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn json_has_the_keys_of_the_interface_and_null_for_what_is_undefined() {
        let evaluation = Evaluation::new(Scale::Log1p, true, vec![condition("ood", Some(0.9), None)]);
        let json = serde_json::to_value(&evaluation).expect("an evaluation is JSON");
        assert_eq!(
            keys(&json),
            [
                "baselines",
                "calibration",
                "conditions",
                "de_spearman_sig",
                "mean",
                "median",
                "ranges",
                "readout",
                "scale",
                "strata",
                "strict",
                "summary",
                "versus"
            ]
        );
        assert_eq!((&json["scale"], &json["readout"]), (&json!("log1p"), &json!("anchored")));
        assert_eq!(json["versus"]["additive"]["pearson_delta"], Value::Null, "one condition has no interval");
        let mut expected = PredictionScores::NAMES.to_vec();
        expected.extend(["condition", "dose", "covariates", "split", "cells", "n_de", "effect_size", "de_nsig_counts"]);
        expected.extend(["ceiling", "ranges", "baselines", "versus", "distance", "beyond_additive"]);
        expected.sort_unstable();
        let first = &json["conditions"][0];
        assert_eq!(keys(first), expected);
        assert_eq!(first["covariates"], json!({"cell_type": "K562"}));
        assert_eq!((&first["pearson_delta"], &first["r2_var"]), (&json!(0.9), &Value::Null));
        assert_eq!(first["versus"], json!({}));
        let mut baselines = Baseline::ALL.map(Baseline::name);
        baselines.sort_unstable();
        assert_eq!(keys(&first["baselines"]), baselines);
        assert_eq!(keys(&json["baselines"]), baselines);
        let back: Evaluation = serde_json::from_value(json).expect("it reads back");
        assert_eq!(back, evaluation);
    }

    #[test]
    fn a_distance_is_worth_something_if_errors_grow_with_it() {
        let pairs = |errors: [f64; 4]| [1.0, 2.0, 5.0, 5.0].map(Some).into_iter().zip(errors.map(Some));
        let rising = calibration(pairs([0.1, 0.2, 0.4, 0.4]));
        assert!(rising.is_some_and(|rank| (rank - 1.0).abs() < 1e-12), "{rising:?}");
        let falling = calibration(pairs([0.4, 0.2, 0.1, 0.1]));
        assert!(falling.is_some_and(|rank| (rank + 1.0).abs() < 1e-12), "{falling:?}");
        assert_eq!(calibration(pairs([0.1; 4])), None);
        assert_eq!(calibration([(Some(1.0), Some(2.0)), (None, Some(3.0))].into_iter()), None);
    }

    #[test]
    fn a_calibration_is_of_the_error_beyond_noise() {
        // The noisiest condition has the largest error, and the most certain prediction.
        let distant = |(distance, error, beyond_noise): (f64, f64, f64)| {
            let mut judged = condition("ood", None, None);
            judged.distance = Some(distance);
            (judged.scores.mse_delta, judged.scores.mse_beyond_noise) = (Some(error), Some(beyond_noise));
            judged
        };
        let conditions = [(0.1, 1.0, 0.02), (0.2, 0.2, 0.1), (0.3, 0.3, 0.2)].map(distant);
        let calibration = Evaluation::new(Scale::Log1p, true, conditions.into()).calibration;
        assert!(calibration.is_some_and(|rank| (rank - 1.0).abs() < 1e-12), "{calibration:?}");
    }

    #[test]
    fn only_held_out_conditions_count_where_there_are_any() {
        let held_out = condition("ood", Some(0.5), Some(0.5));
        let scores = condition("valid", Some(0.9), Some(0.5));
        let evaluation = Evaluation::new(Scale::Values, true, vec![held_out, scores.clone()]);
        assert_eq!(evaluation.mean.pearson_delta, Some(0.5));
        let evaluation = Evaluation::new(Scale::Values, true, vec![scores]);
        assert_eq!(evaluation.mean.pearson_delta, Some(0.9));
    }
}
