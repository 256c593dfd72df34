//! The scores of a prediction, and their means over conditions.

use serde::{Deserialize, Serialize};

/// Number of scores.
const COUNT: usize = 51;

/// Declares every score once: as a field, as a name, and as an index among the values.
macro_rules! scores {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The scores of one prediction; undefined ones are `None`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct PredictionScores {
            $($(#[$doc])* pub $name: Option<f64>,)*
        }

        impl PredictionScores {
            /// The names of the scores, as in JSON, in the order of [`PredictionScores::values`].
            pub const NAMES: [&'static str; COUNT] = [$(stringify!($name)),*];

            /// All the scores.
            #[must_use]
            pub fn values(&self) -> [Option<f64>; COUNT] {
                [$(self.$name),*]
            }

            /// Scores in the order of [`PredictionScores::NAMES`].
            #[must_use]
            pub fn from_values(values: [Option<f64>; COUNT]) -> Self {
                let [$($name),*] = values;
                Self { $($name),* }
            }
        }
    };
}

scores! {
    /// R² of the predicted means, over all genes.
    r2_mean,
    /// R² of the predicted variances, over all genes; undefined if no variance is predicted.
    r2_var,
    /// R² of the predicted means over the 20 genes that changed most in the evaluated cells.
    r2_mean_top20,
    /// R² of the predicted means over the 20 genes that changed most in the training cells.
    r2_mean_top20_train,
    /// Pearson's correlation of the predicted change with the real one, over all genes.
    pearson_delta,
    /// The mean squared error of the predicted change, over all genes.
    mse_delta,
    /// R² of the predicted means over the 10 genes that changed most in the evaluated cells.
    r2_mean_top10,
    /// R² of the predicted means over the 50 genes that changed most in the evaluated cells.
    r2_mean_top50,
    /// R² of the predicted means over the 10 genes that changed most in the training cells.
    r2_mean_top10_train,
    /// R² of the predicted means over the 50 genes that changed most in the training cells.
    r2_mean_top50_train,
    /// R² of the predicted variances over the 10 genes that changed most in the evaluated cells.
    r2_var_top10,
    /// R² of the predicted variances over the 20 genes that changed most in the evaluated cells.
    r2_var_top20,
    /// R² of the predicted variances over the 50 genes that changed most in the evaluated cells.
    r2_var_top50,
    /// The energy distance between predicted and evaluated cells, on principal components.
    e_distance,
    /// The maximum mean discrepancy between predicted and evaluated cells, on principal components.
    mmd,
    /// The share of other conditions that are farther from the prediction than its own: 1 if all are, one half by chance.
    rank,
    /// The share of the 20 differential genes with the largest change that are also among the 20 with the largest
    /// predicted change.
    de_overlap_top20,
    /// The same, for 50 genes.
    de_overlap_top50,
    /// The same, for 20 genes among the 200 that changed most in the training cells.
    de_overlap_top20_train,
    /// The same, for 50 genes among the 200 that changed most in the training cells.
    de_overlap_top50_train,
    /// The share of the differential genes whose change has the predicted sign.
    de_direction,
    /// The share of the 50 genes that changed most in the training cells whose change has the predicted sign.
    de_direction_train,
    /// Pearson's correlation of the predicted with the real change, both from the mean of the perturbed training conditions.
    pearson_perturbed,
    /// The share of other conditions whose real profile is farther from the predicted one than the condition's own.
    centroid_accuracy,
    /// The mean squared error of the predicted means, weighted by how specific each gene's real change is.
    mse_weighted,
    /// R² of the change from the mean of the perturbed training conditions, with the same weights.
    r2_delta_weighted,
    /// The mean squared error of the predicted change, less the noise of the real means; below 0 by chance.
    mse_beyond_noise,
    /// The mean absolute error of the predicted change, over all genes.
    mae_delta,
    /// cell-eval's share of conditions that are not nearer to the prediction than its own, by the sum of absolute
    /// differences.
    discrimination_score_l1,
    /// The same, by the Euclidean distance.
    discrimination_score_l2,
    /// The same, by the cosine distance.
    discrimination_score_cosine,
    /// The share of all N differential genes that are among the N with the largest predicted change.
    de_overlap_n,
    /// Spearman's correlation of the predicted with the real change of the differential genes.
    de_spearman_lfc,
    /// The mean absolute error of the predicted change of the differential genes.
    de_lfc_error,
    /// The share of all N genes that the tests of real cells find that are among the first N that those of predicted cells
    /// find: this and the following ones, up to `roc_auc`, are cell-eval's.
    overlap_at_n,
    /// The same, for the first 50 genes of both.
    overlap_at_50,
    /// The same, for 100.
    overlap_at_100,
    /// The same, for 200.
    overlap_at_200,
    /// The same, for 500.
    overlap_at_500,
    /// The share of all N genes that the tests of predicted cells find that are among the first N of real cells.
    precision_at_n,
    /// The same, for the first 50 genes of both.
    precision_at_50,
    /// The same, for 100.
    precision_at_100,
    /// The same, for 200.
    precision_at_200,
    /// The same, for 500.
    precision_at_500,
    /// The share of the real genes found that are found in predicted cells too.
    de_sig_genes_recall,
    /// The share of the real genes found whose fold change has the same sign in predicted cells.
    de_direction_match,
    /// Spearman's correlation of the fold changes of the real genes found.
    de_spearman_lfc_sig,
    /// The area under the curve of precision against recall, genes being ordered by their tests in predicted cells.
    pr_auc,
    /// The area under the receiver operating characteristic, with the same order.
    roc_auc,
    /// Pearson's correlation, over pairs of genes, of their correlation in predicted with that in real cells.
    gene_dependence,
    /// The root mean square difference between these correlations.
    gene_dependence_error,
}

impl PredictionScores {
    /// The mean of each score over the predictions for which it is defined.
    #[must_use]
    pub fn mean<'a>(scores: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::summarise(scores, 1, |values| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// The standard deviation of each score over the predictions for which it is defined (divided by n − 1);
    /// undefined for fewer than two.
    #[must_use]
    pub fn deviation<'a>(scores: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::summarise(scores, 2, |values| {
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt()
        })
    }

    /// The median of each score over the predictions for which it is defined; for an even number, the mean of the
    /// middle two.
    #[must_use]
    pub fn median<'a>(scores: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::summarise(scores, 1, |values| {
            values.sort_by(f64::total_cmp);
            let middle = values.len() / 2;
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
        })
    }

    /// A score by its name; `None` if it is undefined, or no score has the name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<f64> {
        Self::NAMES.iter().position(|other| *other == name).and_then(|at| self.values()[at])
    }

    /// These scores, and of those that are undefined the others'.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        let (values, others) = (self.values(), others.values());
        Self::from_values(std::array::from_fn(|at| values[at].or(others[at])))
    }

    /// Computes each score from its name.
    #[must_use]
    pub fn from_fn(mut score: impl FnMut(&'static str) -> Option<f64>) -> Self {
        Self::from_values(Self::NAMES.map(&mut score))
    }

    /// Whether smaller values of this score are better.
    #[must_use]
    pub fn is_an_error(name: &str) -> bool {
        matches!(
            name,
            "mse_delta"
                | "mse_weighted"
                | "mse_beyond_noise"
                | "mae_delta"
                | "e_distance"
                | "mmd"
                | "de_lfc_error"
                | "gene_dependence_error"
        )
    }

    /// Summarises each score that is defined for at least this many predictions.
    fn summarise<'a>(
        scores: impl IntoIterator<Item = &'a Self>,
        least: usize,
        summary: impl Fn(&mut [f64]) -> f64,
    ) -> Self {
        let all: Vec<_> = scores.into_iter().map(Self::values).collect();
        Self::from_values(std::array::from_fn(|score| {
            let mut defined: Vec<f64> = all.iter().filter_map(|values| values[score]).collect();
            (least <= defined.len()).then(|| summary(&mut defined))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_undefined_counts_neither_in_a_mean_nor_in_a_median() {
        let score = |r2_mean| PredictionScores { r2_mean, ..PredictionScores::default() };
        let scores = [score(Some(1.0)), score(None), score(Some(4.0)), score(Some(2.0)), score(Some(9.0))];
        assert_eq!(PredictionScores::mean(&scores), score(Some(4.0)));
        assert_eq!(PredictionScores::median(&scores), score(Some(3.0)));
        assert_eq!(PredictionScores::mean(&[]), PredictionScores::default());
        assert_eq!(PredictionScores::deviation(&scores[..3]), score(Some(4.5_f64.sqrt())));
        assert_eq!(PredictionScores::deviation(&scores[..2]), PredictionScores::default(), "one number does not vary");
    }

    #[test]
    fn a_score_stands_where_its_name_does() {
        let scores = PredictionScores { mmd: Some(2.0), ..PredictionScores::default() };
        assert_eq!((scores.named("mmd"), scores.named("rank"), scores.named("no score")), (Some(2.0), None, None));
        assert_eq!(PredictionScores::from_values(scores.values()), scores);
        let json = serde_json::to_value(scores).expect("scores are JSON");
        assert_eq!((&json["mmd"], &json["rank"]), (&serde_json::json!(2.0), &serde_json::Value::Null));
    }

    #[test]
    fn scores_that_an_older_evaluation_lacks_are_undefined() {
        let scores: PredictionScores = serde_json::from_str(r#"{"r2_mean": 0.5}"#).expect("it reads");
        assert_eq!(scores, PredictionScores { r2_mean: Some(0.5), ..PredictionScores::default() });
    }
}
