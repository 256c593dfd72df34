//! Scores of predicted differential expression, from tests of real and of predicted cells.
//!
//! They are those of cell-eval 0.8.2, of which each item's documentation gives the name. One thing differs: where cell-eval
//! returns 0 or 1 because nothing can be compared, a score is undefined here.

use serde::{Deserialize, Serialize};

use super::{
    differential::most_changed,
    false_discovery::adjusted,
    gene_tests::GeneTests,
    ranks::{mid_ranks, spearman},
};

/// The false discovery rate below which a gene is differential.
pub const SIGNIFICANT: f64 = 0.05;

/// The tests of all genes of one condition against its controls, as pdex makes them; each list has one number per gene.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TestedGenes {
    /// The logarithm of the change, to base 2; it may be infinite.
    pub log2_fold_change: Vec<f64>,
    /// U of the condition's cells in the [test](super::mann_whitney) of Mann and Whitney.
    pub statistic: Vec<f64>,
    /// Its two-sided p-value.
    pub p_value: Vec<f64>,
    /// The p-value [`adjusted`] for the number of genes.
    pub false_discovery_rate: Vec<f64>,
}

/// The differential genes of one condition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DifferentialGenes {
    /// Those below [`SIGNIFICANT`], the largest change first; of equal changes the earlier gene comes first.
    genes: Vec<usize>,
    /// The logarithm of the change of each of them.
    log2_fold_change: Vec<f64>,
}

/// Numbers of differential genes of one condition (cell-eval's `de_nsig_counts`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignificantCounts {
    /// In real cells.
    pub real: usize,
    /// In predicted cells.
    pub predicted: usize,
}

/// The differential genes of real cells, and the tests of predicted ones.
#[derive(Clone, Debug)]
pub struct DifferentialComparison<'a> {
    real: &'a DifferentialGenes,
    predicted: &'a TestedGenes,
    found: DifferentialGenes,
    /// Whether each gene is differential in real cells.
    labels: Vec<bool>,
}

impl From<GeneTests> for TestedGenes {
    fn from(GeneTests { log2_fold_change, statistic, p_value }: GeneTests) -> Self {
        Self { false_discovery_rate: adjusted(&p_value), log2_fold_change, statistic, p_value }
    }
}

impl TestedGenes {
    /// The tests of a prediction in which nothing changes.
    #[must_use]
    pub fn of_nothing(genes: usize) -> Self {
        let (zeros, ones) = (vec![0.0; genes], vec![1.0; genes]);
        Self { log2_fold_change: zeros.clone(), statistic: zeros, p_value: ones.clone(), false_discovery_rate: ones }
    }

    fn is_found(&self, gene: usize) -> bool {
        self.false_discovery_rate[gene] < SIGNIFICANT
    }
}

impl From<&TestedGenes> for DifferentialGenes {
    fn from(tested: &TestedGenes) -> Self {
        let found = (0..tested.false_discovery_rate.len()).filter(|gene| tested.is_found(*gene));
        let genes = most_changed(&tested.log2_fold_change, found, usize::MAX);
        let log2_fold_change = genes.iter().map(|gene| tested.log2_fold_change[*gene]).collect();
        Self { genes, log2_fold_change }
    }
}

impl<'a> DifferentialComparison<'a> {
    /// Compares predicted cells with real ones, over the same genes in the same order.
    ///
    /// # Panics
    /// If a real gene is beyond the last predicted one.
    #[must_use]
    pub fn new(real: &'a DifferentialGenes, predicted: &'a TestedGenes) -> Self {
        let mut labels = vec![false; predicted.false_discovery_rate.len()];
        real.genes.iter().for_each(|gene| labels[*gene] = true);
        Self { real, predicted, found: DifferentialGenes::from(predicted), labels }
    }

    /// The share of the first `count` real differential genes that are among the first `count` predicted ones, or of all
    /// N real ones among the first N if there is no `count` or there are fewer: `overlap_at_N`, `overlap_at_50`, ….
    ///
    /// Undefined without real differential genes.
    #[must_use]
    pub fn overlap_at(&self, count: Option<usize>) -> Option<f64> {
        let (real, predicted) = (&self.real.genes, &self.found.genes);
        shared(real, predicted, count.unwrap_or(usize::MAX).min(real.len()))
    }

    /// The share of the first `count` predicted differential genes, or of all N, that are among the first `count`, or N,
    /// real ones: `precision_at_N`, `precision_at_50`, ….
    ///
    /// It is 0 if only the real cells have differential genes, and undefined if neither do.
    #[must_use]
    pub fn precision_at(&self, count: Option<usize>) -> Option<f64> {
        let (real, predicted) = (&self.real.genes, &self.found.genes);
        if predicted.is_empty() && !real.is_empty() {
            return Some(0.0);
        }
        shared(predicted, real, count.unwrap_or(usize::MAX).min(predicted.len()))
    }

    /// The share of the real differential genes whose predicted change has the same sign, where 0 is a sign of its own:
    /// `de_direction_match`. Undefined without real differential genes, and if a predicted change is NaN.
    #[must_use]
    pub fn direction_match(&self) -> Option<f64> {
        let (real, predicted) = self.changes_of_significant()?;
        let sign = |change: f64| if change == 0.0 { 0.0 } else { change.signum() };
        let same = real.iter().zip(&predicted).filter(|(real, predicted)| sign(**real) == sign(**predicted)).count();
        Some(same as f64 / real.len() as f64)
    }

    /// The share of the real differential genes that are also differential in predicted cells: `de_sig_genes_recall`.
    /// Undefined without real ones.
    #[must_use]
    pub fn recall(&self) -> Option<f64> {
        let real = &self.real.genes;
        let found = real.iter().filter(|gene| self.predicted.is_found(**gene)).count();
        (!real.is_empty()).then(|| found as f64 / real.len() as f64)
    }

    /// How many genes are differential: `de_nsig_counts`.
    #[must_use]
    pub fn counts(&self) -> SignificantCounts {
        SignificantCounts { real: self.real.genes.len(), predicted: self.found.genes.len() }
    }

    /// Spearman's correlation of the changes of the real differential genes: `de_spearman_lfc_sig`. Undefined where there
    /// are fewer than two, or their changes do not vary.
    #[must_use]
    pub fn change_correlation(&self) -> Option<f64> {
        let (real, predicted) = self.changes_of_significant()?;
        spearman(real, &predicted)
    }

    /// The area under the curve of precision against recall, where a gene is the more likely to be differential the smaller
    /// its predicted false discovery rate: `pr_auc`, which is scikit-learn's `average_precision_score`.
    ///
    /// Undefined if no or every real gene is differential.
    #[must_use]
    pub fn precision_recall_area(&self) -> Option<f64> {
        let (scores, positives) = self.ranked()?;
        let mut ranked: Vec<(f64, bool)> = scores.into_iter().zip(self.labels.iter().copied()).collect();
        ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let (mut seen, mut right, mut area) = (0.0, 0.0, 0.0);
        for tied in ranked.chunk_by(|a, b| a.0 == b.0) {
            let new = tied.iter().filter(|(_, label)| *label).count() as f64;
            (seen, right) = (seen + tied.len() as f64, right + new);
            area += new / positives * (right / seen);
        }
        Some(area)
    }

    /// The area under the receiver operating characteristic, with the same order of genes: `roc_auc`. One half is chance.
    ///
    /// Undefined if no or every real gene is differential.
    #[must_use]
    pub fn receiver_operating_area(&self) -> Option<f64> {
        let (scores, positives) = self.ranked()?;
        let ranks = mid_ranks(&scores)?;
        let sum: f64 = ranks.iter().zip(&self.labels).filter(|(_, label)| **label).map(|(rank, _)| rank).sum();
        Some((sum - positives * (positives + 1.0) / 2.0) / (positives * (self.labels.len() as f64 - positives)))
    }

    /// The change of each real differential gene, in real and in predicted cells; `None` without any, or with a NaN.
    fn changes_of_significant(&self) -> Option<(&[f64], Vec<f64>)> {
        let genes = &self.real.genes;
        let predicted: Vec<f64> = genes.iter().map(|gene| self.predicted.log2_fold_change[*gene]).collect();
        let is_known = !genes.is_empty() && !predicted.iter().any(|change| change.is_nan());
        is_known.then_some((&self.real.log2_fold_change, predicted))
    }

    /// A score for each gene, and how many are differential in real cells; `None` if no or every one is.
    fn ranked(&self) -> Option<(Vec<f64>, f64)> {
        // Below 10⁻¹⁰ and without a rate, genes are equal, as in cell-eval.
        let known = |rate: &f64| if rate.is_nan() { 1.0 } else { rate.clamp(1e-10, 1.0) };
        let scores: Vec<f64> = self.predicted.false_discovery_rate.iter().map(|rate| -known(rate)).collect();
        let positives = self.real.genes.len();
        (positives > 0 && positives < scores.len()).then_some((scores, positives as f64))
    }
}

/// Spearman's correlation over conditions between the real and the predicted number of differential genes, over the
/// conditions that have real ones: `de_spearman_sig`. Undefined if fewer than two have any, or a number does not vary.
#[must_use]
pub fn counts_correlation(conditions: &[SignificantCounts]) -> Option<f64> {
    let with_any = || conditions.iter().filter(|counts| counts.real > 0);
    let real: Vec<f64> = with_any().map(|counts| counts.real as f64).collect();
    let predicted: Vec<f64> = with_any().map(|counts| counts.predicted as f64).collect();
    spearman(&real, &predicted)
}

/// The share of the first `count` genes of one list that are among the first `count` of another; `None` for 0.
fn shared(of: &[usize], among: &[usize], count: usize) -> Option<f64> {
    let mut among = among[..count.min(among.len())].to_vec();
    among.sort_unstable();
    let found = of[..count].iter().filter(|gene| among.binary_search(gene).is_ok()).count();
    (count > 0).then(|| found as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tested(log2_fold_change: [f64; 5], false_discovery_rate: [f64; 5]) -> TestedGenes {
        let (log2_fold_change, false_discovery_rate) = (log2_fold_change.into(), false_discovery_rate.into());
        TestedGenes { log2_fold_change, false_discovery_rate, ..TestedGenes::default() }
    }

    fn real() -> TestedGenes {
        tested([2.0, -1.0, 0.1, 0.5, 0.0], [0.01, 0.02, 0.9, 0.04, 0.05])
    }

    fn predicted() -> TestedGenes {
        tested([1.0, 0.2, 3.0, 0.5, 0.0], [0.001, 0.5, 0.02, 0.5, 1.0])
    }

    #[test]
    fn a_small_case_by_hand() {
        let (real, predicted) = (DifferentialGenes::from(&real()), predicted());
        let compared = DifferentialComparison::new(&real, &predicted);
        assert_eq!((&*real.genes, &*compared.found.genes), (&[0, 1, 3][..], &[2, 0][..]));
        assert_eq!((compared.overlap_at(None), compared.overlap_at(Some(1))), (Some(1.0 / 3.0), Some(0.0)));
        assert_eq!((compared.precision_at(None), compared.precision_at(Some(50))), (Some(0.5), Some(0.5)));
        assert_eq!((compared.recall(), compared.direction_match()), (Some(1.0 / 3.0), Some(2.0 / 3.0)));
        assert_eq!(compared.counts(), SignificantCounts { real: 3, predicted: 2 });
        assert_eq!(compared.change_correlation(), Some(1.0));
        // In the order of predicted rates: a hit; a miss; two hits at once; a miss.
        let area = compared.precision_recall_area();
        assert!(area.is_some_and(|area| (area - (1.0 / 3.0 + 2.0 / 3.0 * 0.75)).abs() < 1e-12), "{area:?}");
        assert_eq!(compared.receiver_operating_area(), Some(4.0 / 6.0));
    }

    #[test]
    fn the_real_table_is_a_perfect_prediction_of_itself() {
        let (genes, tests) = (DifferentialGenes::from(&real()), real());
        let compared = DifferentialComparison::new(&genes, &tests);
        let scores = [
            compared.overlap_at(None),
            compared.precision_at(None),
            compared.recall(),
            compared.direction_match(),
            compared.change_correlation(),
            compared.precision_recall_area(),
            compared.receiver_operating_area(),
        ];
        assert_eq!(scores, [Some(1.0); 7]);
    }

    #[test]
    fn where_nothing_is_differential_nothing_is_scored() {
        let nothing = TestedGenes::of_nothing(5);
        let (none, some, tests) = (DifferentialGenes::from(&nothing), DifferentialGenes::from(&real()), real());
        let compared = DifferentialComparison::new(&none, &tests);
        assert_eq!((compared.overlap_at(None), compared.recall(), compared.direction_match()), (None, None, None));
        assert_eq!((compared.precision_recall_area(), compared.receiver_operating_area()), (None, None));
        assert_eq!(compared.precision_at(None), Some(0.0), "all that is predicted is wrong");
        let compared = DifferentialComparison::new(&some, &nothing);
        assert_eq!((compared.overlap_at(None), compared.precision_at(None)), (Some(0.0), Some(0.0)));
        assert_eq!((compared.receiver_operating_area(), compared.change_correlation()), (Some(0.5), None));
        assert_eq!(DifferentialComparison::new(&none, &nothing).precision_at(None), None);
    }

    #[test]
    fn counts_correlate_over_the_conditions_that_have_any() {
        let counts = |real, predicted| SignificantCounts { real, predicted };
        let conditions = [counts(3, 1), counts(0, 9), counts(5, 4), counts(9, 8)];
        assert_eq!(counts_correlation(&conditions), Some(1.0));
        assert_eq!(counts_correlation(&conditions[..2]), None);
    }
}
