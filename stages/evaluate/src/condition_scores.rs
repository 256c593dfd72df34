//! The scores of one condition: the model's, the baselines', and how they compare.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use statistics::{bootstrap::Interval, differential_table::SignificantCounts};

use super::{baselines::Baseline, range::ScoreRanges, scores::PredictionScores};

/// The intervals of the model's lead, by baseline and score; [`BEST`] is the best baseline of each condition.
pub type Versus = BTreeMap<String, BTreeMap<String, Option<Interval>>>;

/// The name of the best baseline of each condition.
pub const BEST: &str = "best";

/// The scores of every baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BaselineScores {
    /// No change.
    pub control: PredictionScores,
    /// The mean of the perturbed training profiles.
    pub perturbed_mean: PredictionScores,
    /// The sum of the single shifts.
    pub additive: PredictionScores,
    /// The sum of the single shifts, weighted by the similarity of the controls.
    pub additive_similar: PredictionScores,
    /// Ridge regression.
    pub linear: PredictionScores,
    /// The scores of the model's own offset, without its network; `None` for a model without one. It does not count as a
    /// baseline that the model is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<PredictionScores>,
}

/// The evaluation of one condition in one combination of covariate values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConditionScores {
    /// Its name, as first seen.
    pub condition: String,
    /// Its doses, in the order of the name.
    pub dose: String,
    /// The covariate values, by covariate name.
    pub covariates: BTreeMap<String, String>,
    /// The evaluated part of the split: `train`, `valid` or `ood`.
    pub split: String,
    /// Number of evaluated cells.
    pub cells: u64,
    /// The model's scores.
    #[serde(flatten)]
    pub scores: PredictionScores,
    /// Number of genes that differ between the real cells and their controls.
    pub n_de: Option<usize>,
    /// The Euclidean length of the real change.
    pub effect_size: Option<f64>,
    /// Numbers of genes that tests of cells find, if cells are predicted.
    #[serde(default)]
    pub de_nsig_counts: Option<SignificantCounts>,
    /// The distance of the prediction from the training data, as reported by the predictor; `None` if it reports
    /// none.
    #[serde(default)]
    pub distance: Option<f64>,
    /// Pearson's correlation between the predicted and the real change, after subtracting the change predicted by
    /// `additive` from both.
    #[serde(default)]
    pub beyond_additive: Option<f64>,
    /// The scores of half of the real cells as a prediction of the other half.
    pub ceiling: PredictionScores,
    /// The range of each score, from a negative to a positive control.
    #[serde(default)]
    pub ranges: ScoreRanges,
    /// The baselines' scores.
    pub baselines: BaselineScores,
    /// For a baseline and a score: lower end, middle and upper end of the model's lead, over resampled genes.
    pub versus: Versus,
}

impl BaselineScores {
    /// Computes scores for each baseline.
    #[must_use]
    pub fn from_fn(mut score: impl FnMut(Baseline) -> PredictionScores) -> Self {
        Self {
            control: score(Baseline::Control),
            perturbed_mean: score(Baseline::PerturbedMean),
            additive: score(Baseline::Additive),
            additive_similar: score(Baseline::AdditiveSimilar),
            linear: score(Baseline::Linear),
            offset: None,
        }
    }

    /// The mean of each score of each baseline, over those for which it is defined.
    #[must_use]
    pub fn mean<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let all: Vec<&Self> = all.into_iter().collect();
        let offsets: Vec<&PredictionScores> = all.iter().filter_map(|one| one.offset.as_ref()).collect();
        let offset = (!offsets.is_empty()).then(|| PredictionScores::mean(offsets));
        let baseline = |baseline| PredictionScores::mean(all.iter().map(|one| one.get(baseline)));
        Self { offset, ..Self::from_fn(baseline) }
    }

    /// Each baseline with its name, in the order of a table; last comes the model's own offset, if it has one.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &PredictionScores)> {
        let baselines = Baseline::ALL.map(|baseline| (baseline.name(), self.get(baseline)));
        baselines.into_iter().chain(self.offset.iter().map(|offset| ("offset", offset)))
    }

    /// The scores of one baseline.
    #[must_use]
    pub fn get(&self, baseline: Baseline) -> &PredictionScores {
        match baseline {
            Baseline::Control => &self.control,
            Baseline::PerturbedMean => &self.perturbed_mean,
            Baseline::Additive => &self.additive,
            Baseline::AdditiveSimilar => &self.additive_similar,
            Baseline::Linear => &self.linear,
        }
    }
}

impl ConditionScores {
    /// The baseline with the largest correlation of the change.
    #[must_use]
    pub fn best_baseline(&self) -> Option<Baseline> {
        let correlation = |baseline: &Baseline| self.baselines.get(*baseline).pearson_delta;
        let defined = Baseline::ALL.into_iter().filter_map(|baseline| Some((correlation(&baseline)?, baseline)));
        defined.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, baseline)| baseline)
    }
}
