//! One held-out condition, judged: how near a prediction comes to its cells.

use serde::{Deserialize, Serialize};

use super::{differential, metrics, moments::Group};

/// How many of the most changed genes are judged by themselves.
pub const TOP_GENES: usize = 20;

/// The judgement on one prediction; what is undefined is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// R² of the predicted means, over all genes.
    pub r2_mean: Option<f64>,
    /// R² of the predicted variances, over all genes; undefined for what predicts no variance.
    pub r2_var: Option<f64>,
    /// R² of the predicted means over the genes that changed most in the held-out cells.
    pub r2_mean_top20: Option<f64>,
    /// R² of the predicted means over the genes that changed most in the training cells.
    pub r2_mean_top20_train: Option<f64>,
    /// Pearson's correlation of the predicted change with the real one, over all genes.
    pub pearson_delta: Option<f64>,
    /// The mean squared error of the predicted change, over all genes.
    pub mse_delta: Option<f64>,
}

/// What is said of the cells of a condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicted {
    /// The mean of each gene.
    pub mean: Vec<f64>,
    /// The variance of each gene over cells, where it is predicted.
    pub variance: Option<Vec<f64>>,
}

/// The real cells of a condition, and what a prediction of them is measured against.
///
/// The controls are in two disjoint halves: predictions start from one and the real change is taken against the other,
/// so that the noise of one control mean can't make both changes look alike.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'a> {
    /// The real cells.
    pub truth: &'a Group,
    /// The control half that the real change is taken against.
    pub reference: &'a Group,
    /// The mean of the control half that predictions start from.
    pub source: &'a [f64],
    /// The genes that changed most in the training cells, where there is a training group to tell.
    pub top_train: Option<&'a [usize]>,
}

impl From<Vec<f64>> for Predicted {
    fn from(mean: Vec<f64>) -> Self {
        Self { mean, variance: None }
    }
}

impl Comparison<'_> {
    /// Judges one prediction.
    #[must_use]
    pub fn score(&self, predicted: &Predicted) -> Scores {
        let truth = &self.truth.mean;
        let top = differential::top_genes(self.truth, self.reference, TOP_GENES);
        let real_change = metrics::difference(truth, &self.reference.mean);
        let change = metrics::difference(&predicted.mean, self.source);
        let variances = self.truth.variance_unbiased().zip(predicted.variance.as_ref());
        Scores {
            r2_mean: metrics::r2(truth, &predicted.mean),
            r2_var: variances.and_then(|(real, predicted)| metrics::r2(&real, predicted)),
            r2_mean_top20: metrics::r2_of(&top, truth, &predicted.mean),
            r2_mean_top20_train: self.top_train.and_then(|top| metrics::r2_of(top, truth, &predicted.mean)),
            pearson_delta: metrics::pearson(&real_change, &change),
            mse_delta: metrics::mean_squared_error(&real_change, &change),
        }
    }
}

impl Scores {
    /// The names of the scores, as in JSON, in the order of [`Scores::values`].
    pub const NAMES: [&'static str; 6] =
        ["r2_mean", "r2_var", "r2_mean_top20", "r2_mean_top20_train", "pearson_delta", "mse_delta"];

    /// All the scores.
    #[must_use]
    pub fn values(&self) -> [Option<f64>; 6] {
        let Self { r2_mean, r2_var, r2_mean_top20, r2_mean_top20_train, pearson_delta, mse_delta } = *self;
        [r2_mean, r2_var, r2_mean_top20, r2_mean_top20_train, pearson_delta, mse_delta]
    }

    /// The mean of each score over those for which it is defined.
    #[must_use]
    pub fn mean<'a>(scores: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::summarise(scores, |values| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// The median of each score over those for which it is defined; between the two in the middle of an even number.
    #[must_use]
    pub fn median<'a>(scores: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::summarise(scores, |values| {
            values.sort_by(f64::total_cmp);
            let middle = values.len() / 2;
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
        })
    }

    fn summarise<'a>(scores: impl IntoIterator<Item = &'a Self>, summary: impl Fn(&mut [f64]) -> f64) -> Self {
        let all: Vec<[Option<f64>; 6]> = scores.into_iter().map(Self::values).collect();
        let [r2_mean, r2_var, r2_mean_top20, r2_mean_top20_train, pearson_delta, mse_delta] =
            std::array::from_fn(|score| {
                let mut defined: Vec<f64> = all.iter().filter_map(|values| values[score]).collect();
                (!defined.is_empty()).then(|| summary(&mut defined))
            });
        Self { r2_mean, r2_var, r2_mean_top20, r2_mean_top20_train, pearson_delta, mse_delta }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(mean: &[f64]) -> Group {
        Group { cells: 10, mean: mean.into(), variance: vec![0.9, 1.8, 0.0] }
    }

    #[test]
    fn a_perfect_prediction_scores_one_and_errs_by_nothing() {
        let (truth, control) = (group(&[1.0, 3.0, 0.5]), group(&[1.0, 1.0, 0.0]));
        let comparison =
            Comparison { truth: &truth, reference: &control, source: &control.mean, top_train: Some(&[1, 2]) };
        let variance = truth.variance_unbiased();
        let scores = comparison.score(&Predicted { mean: truth.mean.clone(), variance });
        assert_eq!(scores.values(), [Some(1.0), Some(1.0), Some(1.0), Some(1.0), Some(1.0), Some(0.0)]);
    }

    #[test]
    fn each_change_is_taken_against_its_own_half_of_the_controls() {
        let (truth, reference) = (group(&[2.0, 3.0, 0.0]), group(&[1.0, 1.0, 0.0]));
        let source = [1.5, 1.0, 0.0];
        let comparison = Comparison { truth: &truth, reference: &reference, source: &source, top_train: None };
        let scores = comparison.score(&vec![2.5, 3.0, 0.0].into());
        assert_eq!((scores.pearson_delta, scores.mse_delta), (Some(1.0), Some(0.0)));
        assert_eq!(scores.r2_mean, Some(1.0 - 0.25 / (14.0 / 3.0)));
    }

    #[test]
    fn a_prediction_of_no_change_has_no_correlation_with_the_change() {
        let (truth, control) = (group(&[2.0, 3.0, 0.0]), group(&[1.0, 1.0, 0.0]));
        let comparison = Comparison { truth: &truth, reference: &control, source: &control.mean, top_train: None };
        let scores = comparison.score(&control.mean.clone().into());
        assert_eq!(scores.pearson_delta, None);
        assert_eq!(scores.mse_delta, Some(5.0 / 3.0));
        assert_eq!((scores.r2_var, scores.r2_mean_top20_train), (None, None));
    }

    #[test]
    fn what_is_undefined_counts_neither_in_a_mean_nor_in_a_median() {
        let score = |r2_mean| Scores { r2_mean, ..Scores::default() };
        let scores = [score(Some(1.0)), score(None), score(Some(4.0)), score(Some(2.0)), score(Some(9.0))];
        assert_eq!(Scores::mean(&scores), score(Some(4.0)));
        assert_eq!(Scores::median(&scores), score(Some(3.0)));
        assert_eq!(Scores::mean(&[]), Scores::default());
    }
}
