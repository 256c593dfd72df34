//! Scores as shares of their range, from a negative to a positive control.
//!
//! The negative control is the better of two predictions that show nothing of a condition: no change, and the mean
//! response. The positive control is a duplicate of the real cells, as good as a second experiment would be: the mean of
//! one half of them, drawn towards the mean response in each gene as far as the half does not differ from the rest. A
//! score that does not separate the two shows nothing about a model either.
//!
//! Model and controls are scored by the other half of the real cells, so that all three see the same noise.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::scores::PredictionScores;

/// A score, and its range for one condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScoreRange {
    /// The model's score by the half of the real cells that is not in the positive control; `None` if it is undefined.
    pub score: Option<f64>,
    /// The score of the negative control.
    pub negative: f64,
    /// The score of the positive control.
    pub positive: f64,
    /// (score − negative) / (positive − negative), limited to −1 and 1; `None` if the positive control is not better.
    pub share: Option<f64>,
}

/// The range of every score for one condition; in JSON, an entry for each score with two defined controls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "BTreeMap<String, ScoreRange>", from = "BTreeMap<String, ScoreRange>")]
pub struct ScoreRanges {
    model: PredictionScores,
    negative: PredictionScores,
    positive: PredictionScores,
}

/// A score's range over conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MeanRange {
    /// Number of conditions with a range, be it nothing or not.
    pub conditions: usize,
    /// Number of these in which the positive control is not better than the negative one.
    pub without_range: usize,
    /// The model's mean score over all of them, by one half of the real cells.
    pub score: Option<f64>,
    /// The mean of the negative control.
    pub negative: f64,
    /// The mean of the positive control.
    pub positive: f64,
    /// The mean share, over the conditions that have one.
    pub share: Option<f64>,
}

impl ScoreRanges {
    /// The ranges of a condition: the scores of the model, of the predictions that may be the negative control, and of the
    /// positive control.
    #[must_use]
    pub fn new(model: &PredictionScores, negatives: &[PredictionScores], positive: &PredictionScores) -> Self {
        let worst_first = |name: &str, value: f64| if PredictionScores::is_an_error(name) { -value } else { value };
        // If a score is undefined for every prediction, nothing can be compared; else a correlation or an overlap that is
        // undefined is one of a prediction in which nothing changes.
        let of_nothing = |name: &str| {
            let is_defined = negatives.iter().chain([model, positive]).any(|scores| scores.named(name).is_some());
            (is_zero_for_nothing(name) && is_defined).then_some(0.0)
        };
        let negative = PredictionScores::from_fn(|name| {
            let defined = negatives.iter().filter_map(|scores| scores.named(name)).chain(of_nothing(name));
            defined.max_by(|a, b| worst_first(name, *a).total_cmp(&worst_first(name, *b)))
        });
        let positive = PredictionScores::from_fn(|name| positive.named(name).or_else(|| of_nothing(name)));
        let known = |scores: &PredictionScores| {
            PredictionScores::from_fn(|name| {
                scores.named(name).filter(|_| negative.named(name).is_some() && positive.named(name).is_some())
            })
        };
        Self { model: known(model), negative: known(&negative), positive: known(&positive) }
    }

    /// The range of a score, if both controls are defined.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<ScoreRange> {
        let (score, negative, positive) =
            (self.model.named(name), self.negative.named(name)?, self.positive.named(name)?);
        let sign = if PredictionScores::is_an_error(name) { -1.0 } else { 1.0 };
        let width = sign * (positive - negative);
        let share = score.filter(|_| width > 0.0).map(|score| (sign * (score - negative) / width).clamp(-1.0, 1.0));
        Some(ScoreRange { score, negative, positive, share })
    }

    /// The share of every score.
    #[must_use]
    pub fn shares(&self) -> PredictionScores {
        PredictionScores::from_fn(|name| self.get(name)?.share)
    }

    /// The ranges over conditions, by score; a score without any range has no entry.
    #[must_use]
    pub fn mean<'a>(conditions: impl IntoIterator<Item = &'a Self>) -> BTreeMap<String, MeanRange> {
        let conditions: Vec<&Self> = conditions.into_iter().collect();
        let of_score = |name: &'static str| {
            let ranges: Vec<ScoreRange> = conditions.iter().filter_map(|one| one.get(name)).collect();
            let range = MeanRange {
                conditions: ranges.len(),
                without_range: ranges.iter().filter(|range| !range.is_range(name)).count(),
                score: mean(ranges.iter().filter_map(|range| range.score)),
                negative: mean(ranges.iter().map(|range| range.negative))?,
                positive: mean(ranges.iter().map(|range| range.positive))?,
                share: mean(ranges.iter().filter_map(|range| range.share)),
            };
            Some((name.to_owned(), range))
        };
        PredictionScores::NAMES.into_iter().filter_map(of_score).collect()
    }
}

impl ScoreRange {
    /// Whether the positive control is better than the negative one.
    fn is_range(&self, name: &str) -> bool {
        if PredictionScores::is_an_error(name) { self.positive < self.negative } else { self.positive > self.negative }
    }
}

impl From<ScoreRanges> for BTreeMap<String, ScoreRange> {
    fn from(ranges: ScoreRanges) -> Self {
        PredictionScores::NAMES.into_iter().filter_map(|name| Some((name.to_owned(), ranges.get(name)?))).collect()
    }
}

impl From<BTreeMap<String, ScoreRange>> for ScoreRanges {
    fn from(ranges: BTreeMap<String, ScoreRange>) -> Self {
        Self {
            model: PredictionScores::from_fn(|name| ranges.get(name)?.score),
            negative: PredictionScores::from_fn(|name| Some(ranges.get(name)?.negative)),
            positive: PredictionScores::from_fn(|name| Some(ranges.get(name)?.positive)),
        }
    }
}

/// Whether a score of a prediction in which nothing changes is 0 rather than undefined: correlations and overlaps.
fn is_zero_for_nothing(name: &str) -> bool {
    let is_overlap =
        name.starts_with("de_overlap_") || name.starts_with("overlap_at_") || name.starts_with("precision_at_");
    is_overlap || name.starts_with("pearson_") || name.starts_with("de_spearman_lfc")
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    fn scores(mse_delta: f64, rank: f64, pearson_delta: Option<f64>) -> PredictionScores {
        PredictionScores { mse_delta: Some(mse_delta), rank: Some(rank), pearson_delta, ..PredictionScores::default() }
    }

    /// The range of a condition whose model is halfway in its errors.
    pub(crate) fn ranges() -> ScoreRanges {
        let negatives = [scores(1.0, 0.5, None), scores(2.0, 0.6, Some(-0.2))];
        ScoreRanges::new(&scores(0.6, 0.4, Some(0.25)), &negatives, &scores(0.2, 0.6, Some(0.5)))
    }

    #[test]
    fn a_share_is_the_part_of_the_way_from_the_better_negative_control() {
        let of = |name| ranges().get(name).expect("both controls are defined");
        assert_eq!((of("mse_delta").negative, of("mse_delta").share), (1.0, Some(0.5)));
        assert_eq!((of("rank").negative, of("rank").share), (0.6, None), "both controls have the same rank");
        assert_eq!((of("pearson_delta").negative, of("pearson_delta").share), (0.0, Some(0.5)), "no change has 0");
        assert_eq!(ranges().get("r2_mean"), None);
        assert_eq!(ranges().shares().mse_delta, Some(0.5));
    }

    #[test]
    fn a_duplicate_that_shows_nothing_of_its_own_has_no_range() {
        let of = |model| ScoreRanges::new(&scores(1.0, 0.5, model), &[scores(1.0, 0.5, None)], &scores(1.0, 0.5, None));
        let range = of(Some(0.3)).get("pearson_delta").expect("the truth has a change");
        assert_eq!((range.negative, range.positive, range.share), (0.0, 0.0, None));
        assert_eq!(of(None).get("pearson_delta"), None);
    }

    #[test]
    fn a_share_is_limited_so_that_no_small_range_decides_a_mean() {
        let of =
            |model| ScoreRanges::new(&scores(model, 0.0, None), &[scores(1.0, 0.0, None)], &scores(0.9, 0.0, None));
        assert_eq!(of(9.0).get("mse_delta").and_then(|range| range.share), Some(-1.0));
        assert_eq!(of(0.0).get("mse_delta").and_then(|range| range.share), Some(1.0));
    }

    #[test]
    fn conditions_without_a_range_are_counted_and_have_no_share() {
        let nothing = ScoreRanges::new(&scores(0.5, 0.9, None), &[scores(0.1, 0.9, None)], &scores(0.3, 1.0, None));
        let mean = ScoreRanges::mean([&ranges(), &nothing]);
        let of = mean["mse_delta"];
        assert_eq!((of.conditions, of.without_range, of.share), (2, 1, Some(0.5)));
        assert_eq!((of.score, of.negative, of.positive), (Some(0.55), 0.55, 0.25));
        assert_eq!((mean["rank"].without_range, mean["pearson_delta"].conditions), (1, 1));
        assert!(!mean.contains_key("mmd"));
    }

    #[test]
    fn ranges_are_read_back_as_they_were_written() {
        let json = serde_json::to_value(ranges()).expect("ranges are JSON");
        assert_eq!(json["rank"], json!({"score": 0.4, "negative": 0.6, "positive": 0.6, "share": null}));
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(3));
        assert_eq!(serde_json::from_value::<ScoreRanges>(json).expect("it reads"), ranges());
    }
}
