//! Scores of one condition: compares predicted means and variances with its cells.

use statistics::{
    differential::{self, most_changed},
    metrics,
    moments::MeanProfile,
    ranks::spearman,
    rest::{gene_weights, rest_statistic, weighted_r2, weighted_squared_error},
};

use super::scores::PredictionScores;

/// Numbers of most changed genes that are scored separately, in ascending order.
pub const TOPS: [usize; 3] = [10, 20, 50];

/// Number of most changed training genes among which overlaps are computed.
pub const TRAIN_UNIVERSE: usize = 200;

/// A prediction for the cells of a condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicted {
    /// The mean of each gene.
    pub mean: Vec<f64>,
    /// The variance of each gene over cells, if it is predicted.
    pub variance: Option<Vec<f64>>,
}

/// Genes that are scored separately, and weights of genes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoredGenes {
    /// Genes that changed most in the evaluated cells, the most significant first.
    pub truth: Vec<usize>,
    /// Genes that changed most in the training cells, the most significant first; `None` without a training
    /// group.
    pub train: Option<Vec<usize>>,
    /// Genes that differ between the evaluated cells and their controls, the largest change first; `None` if the
    /// groups are too small.
    pub differential: Option<Vec<usize>>,
    /// The weight of each gene by how specific its change is to the condition; they sum to 1. `None` without cells of other
    /// conditions.
    pub weights: Option<Vec<f64>>,
}

/// The real cells of a condition, and the controls and genes for scoring a prediction of them.
///
/// The controls are divided into two disjoint halves: predictions start from one, and the real change is
/// measured against the other, so that the noise of a shared control mean can't make the two changes look
/// alike.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'a> {
    /// The real cells.
    pub truth: &'a MeanProfile,
    /// The control half against which the real change is measured.
    pub reference: &'a MeanProfile,
    /// The mean of the control half from which predictions start.
    pub source: &'a [f64],
    /// Genes that are scored separately.
    pub chosen: &'a ScoredGenes,
    /// The mean profile of the perturbed training conditions, as it would be with the controls of `source`; `None` without
    /// any.
    pub perturbed: Option<&'a [f64]>,
}

impl From<Vec<f64>> for Predicted {
    fn from(mean: Vec<f64>) -> Self {
        Self { mean, variance: None }
    }
}

impl ScoredGenes {
    /// Chooses the genes to score in these cells; `rest` are the cells of the context's other conditions, and `train` the
    /// [`TRAIN_UNIVERSE`] genes that changed most in training cells.
    #[must_use]
    pub fn choose(
        truth: &MeanProfile,
        reference: &MeanProfile,
        rest: Option<&MeanProfile>,
        train: Option<Vec<usize>>,
    ) -> Self {
        let change = metrics::difference(&truth.mean, &reference.mean);
        let differential =
            differential::differential_genes(truth, reference).map(|genes| most_changed(&change, genes, usize::MAX));
        let weights = rest.and_then(|rest| gene_weights(&rest_statistic(truth, rest)?));
        Self { truth: differential::top_genes(truth, reference, TOPS[2]), train, differential, weights }
    }

    /// The first `count` of the genes that changed most in the evaluated cells.
    #[must_use]
    pub fn top(&self, count: usize) -> &[usize] {
        &self.truth[..count.min(self.truth.len())]
    }

    /// The first `count` of the genes that changed most in the training cells.
    #[must_use]
    pub fn top_train(&self, count: usize) -> Option<&[usize]> {
        self.train.as_deref().map(|train| &train[..count.min(train.len())])
    }
}

impl Comparison<'_> {
    /// The real change of each gene.
    #[must_use]
    pub fn real_change(&self) -> Vec<f64> {
        metrics::difference(&self.truth.mean, &self.reference.mean)
    }

    /// The squared standard error of the real change, averaged over genes: what a prediction of the exact truth would still
    /// seem to err by. `None` if one of the groups has fewer than two cells.
    #[must_use]
    pub fn noise(&self) -> Option<f64> {
        let of = |profile: &MeanProfile| {
            let variance = profile.variance_unbiased()?;
            Some(variance.iter().sum::<f64>() / profile.cells as f64 / variance.len() as f64)
        };
        Some(of(self.truth)? + of(self.reference)?)
    }

    /// Scores a prediction by its means and variances; scores that need cells or other conditions stay undefined.
    #[must_use]
    pub fn score(&self, predicted: &Predicted) -> PredictionScores {
        let truth = &self.truth.mean;
        let real_change = self.real_change();
        let change = metrics::difference(&predicted.mean, self.source);
        let variances = self.truth.variance_unbiased().zip(predicted.variance.as_ref());
        let [r2_mean_top10, r2_mean_top20, r2_mean_top50] =
            TOPS.map(|count| metrics::r2_of(self.chosen.top(count), truth, &predicted.mean));
        let [r2_mean_top10_train, r2_mean_top20_train, r2_mean_top50_train] =
            TOPS.map(|count| metrics::r2_of(self.chosen.top_train(count)?, truth, &predicted.mean));
        let [r2_var_top10, r2_var_top20, r2_var_top50] = TOPS.map(|count| {
            variances.as_ref().and_then(|(real, predicted)| metrics::r2_of(self.chosen.top(count), real, predicted))
        });
        let overlap = |count| {
            let genes = self.chosen.differential.as_deref()?;
            differential::overlap(genes, &most_changed(&change, 0..change.len(), count), count, &change)
        };
        let overlap_train = |count| {
            let universe = self.chosen.top_train(TRAIN_UNIVERSE)?;
            let most = |change: &[f64]| most_changed(change, universe.iter().copied(), count);
            differential::overlap(&most(&real_change), &most(&change), count, &change)
        };
        let differential = self.chosen.differential.as_deref();
        let of_differential =
            |change: &[f64]| -> Vec<f64> { differential.into_iter().flatten().map(|gene| change[*gene]).collect() };
        let (real_log_changes, log_changes) = (of_differential(&real_change), of_differential(&change));
        let weights = self.chosen.weights.as_deref();
        let mse_delta = metrics::mean_squared_error(&real_change, &change);
        let from_perturbed = |mean: &[f64]| Some(metrics::difference(mean, self.perturbed?));
        let from_perturbed = from_perturbed(truth).zip(from_perturbed(&predicted.mean));
        let direction = |genes: Option<&[usize]>| differential::direction(genes?, &real_change, &change);
        PredictionScores {
            r2_mean: metrics::r2(truth, &predicted.mean),
            r2_var: variances.as_ref().and_then(|(real, predicted)| metrics::r2(real, predicted)),
            r2_mean_top10,
            r2_mean_top20,
            r2_mean_top50,
            r2_mean_top10_train,
            r2_mean_top20_train,
            r2_mean_top50_train,
            r2_var_top10,
            r2_var_top20,
            r2_var_top50,
            pearson_delta: metrics::pearson(&real_change, &change),
            mse_delta,
            de_overlap_top20: overlap(TOPS[1]),
            de_overlap_top50: overlap(TOPS[2]),
            de_overlap_top20_train: overlap_train(TOPS[1]),
            de_overlap_top50_train: overlap_train(TOPS[2]),
            de_direction: direction(differential),
            de_direction_train: direction(self.chosen.top_train(TOPS[2])),
            pearson_perturbed: from_perturbed.as_ref().and_then(|(real, predicted)| metrics::pearson(real, predicted)),
            mse_weighted: weights.and_then(|weights| weighted_squared_error(truth, &predicted.mean, weights)),
            r2_delta_weighted: from_perturbed
                .as_ref()
                .zip(weights)
                .and_then(|((real, predicted), weights)| weighted_r2(real, predicted, weights)),
            mse_beyond_noise: mse_delta.zip(self.noise()).map(|(error, noise)| error - noise),
            mae_delta: metrics::mean_absolute_error(&real_change, &change),
            de_overlap_n: differential.and_then(|genes| overlap(genes.len())),
            de_spearman_lfc: spearman(&real_log_changes, &log_changes),
            de_lfc_error: metrics::mean_absolute_error(&real_log_changes, &log_changes),
            ..PredictionScores::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(mean: &[f64]) -> MeanProfile {
        MeanProfile { cells: 10, mean: mean.into(), variance: vec![0.9, 1.8, 0.0] }
    }

    fn comparison<'a>(
        truth: &'a MeanProfile,
        reference: &'a MeanProfile,
        source: &'a [f64],
        chosen: &'a ScoredGenes,
    ) -> Comparison<'a> {
        Comparison { truth, reference, source, chosen, perturbed: None }
    }

    #[test]
    fn a_perfect_prediction_scores_one_and_errs_by_nothing() {
        let (truth, control, rest) = (group(&[1.0, 3.0, 0.5]), group(&[1.0, 1.0, 0.0]), group(&[0.5, 2.0, 0.5]));
        let chosen = ScoredGenes::choose(&truth, &control, Some(&rest), Some(vec![1, 2]));
        let variance = truth.variance_unbiased();
        let comparison =
            Comparison { perturbed: Some(&rest.mean), ..comparison(&truth, &control, &control.mean, &chosen) };
        let scores = comparison.score(&Predicted { mean: truth.mean.clone(), variance });
        // Scores by tests of cells come last.
        let of_means =
            PredictionScores::NAMES.into_iter().zip(scores.values()).take_while(|one| one.0 != "overlap_at_n");
        let wrong: Vec<(&str, Option<f64>)> = of_means.filter(|(_, score)| *score != Some(1.0)).collect();
        let expected = [
            ("mse_delta", Some(0.0)),
            ("e_distance", None),
            ("mmd", None),
            ("rank", None),
            ("centroid_accuracy", None),
            ("mse_weighted", Some(0.0)),
            ("mse_beyond_noise", comparison.noise().map(|noise| -noise)),
            ("mae_delta", Some(0.0)),
            ("discrimination_score_l1", None),
            ("discrimination_score_l2", None),
            ("discrimination_score_cosine", None),
            ("de_lfc_error", Some(0.0)),
        ];
        assert_eq!(wrong, expected);
    }

    #[test]
    fn each_change_is_taken_against_its_own_half_of_the_controls() {
        let (truth, reference) = (group(&[2.0, 3.0, 0.0]), group(&[1.0, 1.0, 0.0]));
        let source = [1.5, 1.0, 0.0];
        let chosen = ScoredGenes::choose(&truth, &reference, None, None);
        let scores = comparison(&truth, &reference, &source, &chosen).score(&vec![2.5, 3.0, 0.0].into());
        assert_eq!((scores.pearson_delta, scores.mse_delta), (Some(1.0), Some(0.0)));
        assert_eq!(scores.r2_mean, Some(1.0 - 0.25 / (14.0 / 3.0)));
    }

    #[test]
    fn a_prediction_of_no_change_has_neither_correlation_nor_largest_changes_nor_a_right_sign() {
        let (truth, control) = (group(&[2.0, 3.0, 0.0]), group(&[1.0, 1.0, 0.0]));
        let chosen = ScoredGenes::choose(&truth, &control, None, None);
        let scores = comparison(&truth, &control, &control.mean, &chosen).score(&control.mean.clone().into());
        assert_eq!((scores.pearson_delta, scores.de_overlap_top20), (None, None));
        assert_eq!((scores.mse_delta, scores.de_direction), (Some(5.0 / 3.0), Some(0.0)));
        assert_eq!((scores.r2_var, scores.r2_mean_top20_train, scores.de_direction_train), (None, None, None));
    }

    #[test]
    fn only_as_many_genes_count_as_a_score_names() {
        let genes = 60;
        let mean: Vec<f64> = (0..genes).map(|gene| f64::from(gene) + 1.0).collect();
        let profile = |mean: Vec<f64>| MeanProfile { cells: 10, variance: vec![1.0; mean.len()], mean };
        let (truth, control) = (profile(mean.clone()), profile(vec![0.0; 60]));
        let chosen = ScoredGenes::choose(&truth, &control, None, None);
        assert_eq!(chosen.top(10), (50..60).rev().collect::<Vec<_>>());
        // The prediction of the gene at index 11 is far off.
        let mut missed = mean;
        missed[49] = 0.0;
        let scores = comparison(&truth, &control, &control.mean, &chosen).score(&missed.into());
        assert_eq!(scores.r2_mean_top10, Some(1.0));
        assert!(scores.r2_mean_top20 < Some(1.0) && scores.r2_mean_top50 < Some(1.0));
        assert_eq!(scores.de_overlap_top20, Some(0.95));
    }
}
