//! Which genes a perturbation changed, and by how much.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{metrics, moments::Group};

/// Keeps a gene that varies in neither group from a division by zero; small beside any real variance of a mean.
const VARIANCE_FLOOR: f64 = 1e-9;

/// The expected share of false finds among the differential genes.
const FALSE_DISCOVERY_RATE: f64 = 0.05;

/// How surely a gene changed: |Δ mean| / √(var_t / n_t + var_c / n_c + 1e-9), with population variances.
#[must_use]
pub fn score(perturbed: &Group, control: &Group, gene: usize) -> f64 {
    let (cells, control_cells) = (perturbed.cells as f64, control.cells as f64);
    let error = perturbed.variance[gene] / cells + control.variance[gene] / control_cells + VARIANCE_FLOOR;
    (perturbed.mean[gene] - control.mean[gene]).abs() / error.sqrt()
}

/// The `count` genes with the largest [`score`], the largest first; of equals the earlier gene comes first.
#[must_use]
pub fn top_genes(perturbed: &Group, control: &Group, count: usize) -> Vec<usize> {
    // What is not a number ranks last, so that one bad gene can't push out the others.
    let mut ranked: Vec<(f64, usize)> = (0..perturbed.mean.len())
        .map(|gene| (score(perturbed, control, gene), gene))
        .filter(|(score, _)| !score.is_nan())
        .collect();
    let by_score = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if count < ranked.len() {
        ranked.select_nth_unstable_by(count, by_score);
        ranked.truncate(count);
    }
    ranked.sort_by(by_score);
    ranked.into_iter().map(|(_, gene)| gene).collect()
}

/// How many genes differ between the two groups: Welch's t-test on each, Benjamini and Hochberg's procedure at 0.05.
///
/// Undefined if one of the groups has fewer than two cells.
#[must_use]
pub fn differential_genes(perturbed: &Group, control: &Group) -> Option<usize> {
    let (variance, control_variance) = (perturbed.variance_unbiased()?, control.variance_unbiased()?);
    let (cells, control_cells) = (perturbed.cells as f64, control.cells as f64);
    let p_values = (0..perturbed.mean.len()).map(|gene| {
        let change = perturbed.mean[gene] - control.mean[gene];
        welch(change, variance[gene] / cells, cells, control_variance[gene] / control_cells, control_cells)
    });
    Some(discoveries(p_values.collect()))
}

/// The Euclidean length of the change of the means.
#[must_use]
pub fn effect_size(perturbed: &Group, control: &Group) -> Option<f64> {
    metrics::distance(&perturbed.mean, &control.mean)
}

/// The two-sided p-value of Welch's t-test, from the change and the squared standard error of each mean.
fn welch(change: f64, error_a: f64, cells_a: f64, error_b: f64, cells_b: f64) -> f64 {
    let error = error_a + error_b;
    if error == 0.0 {
        return if change == 0.0 { 1.0 } else { 0.0 };
    }
    let freedom = error.powi(2) / (error_a.powi(2) / (cells_a - 1.0) + error_b.powi(2) / (cells_b - 1.0));
    let statistic = change.abs() / error.sqrt();
    // The distribution exists for every positive number of degrees of freedom; anything else came from a NaN.
    StudentsT::new(0.0, 1.0, freedom).map_or(1.0, |distribution| 2.0 * distribution.sf(statistic))
}

/// How many hypotheses Benjamini and Hochberg's procedure rejects.
fn discoveries(mut p_values: Vec<f64>) -> usize {
    p_values.sort_by(f64::total_cmp);
    let step = FALSE_DISCOVERY_RATE / p_values.len() as f64;
    p_values.iter().enumerate().rposition(|(rank, p)| *p <= step * (rank as f64 + 1.0)).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(cells: u64, mean: &[f64], variance: &[f64]) -> Group {
        Group { cells, mean: mean.into(), variance: variance.into() }
    }

    #[test]
    fn a_small_sure_change_ranks_before_a_large_doubtful_one() {
        let perturbed = group(100, &[1.0, 3.0, 0.0, 2.0], &[0.01, 400.0, 0.0, 1.0]);
        let control = group(50, &[0.5, 1.0, 0.0, 1.0], &[0.01, 400.0, 0.0, 1.0]);
        assert_eq!(top_genes(&perturbed, &control, 3), [0, 3, 1]);
    }

    #[test]
    fn of_equal_changes_the_earlier_gene_comes_first_and_a_nan_not_at_all() {
        let perturbed = group(10, &[1.0, f64::NAN, 1.0, 1.0], &[1.0; 4]);
        let control = group(10, &[0.0; 4], &[1.0; 4]);
        assert_eq!(top_genes(&perturbed, &control, 2), [0, 2]);
        assert_eq!(top_genes(&perturbed, &control, 9), [0, 2, 3]);
    }

    /// The p-values are those of SciPy's `ttest_ind_from_stats(..., equal_var=False)`.
    #[test]
    fn the_t_test_agrees_with_scipy() {
        let cases = [
            (0.3, (0.5, 40.0), (0.2, 25.0), 0.040_171_968_240_399_3),
            (1.5, (2.0, 3.0), (0.1, 200.0), 0.207_515_291_533_191_12),
            (0.05, (1.0, 500.0), (1.2, 800.0), 0.398_203_485_224_742_25),
        ];
        for (change, (variance_a, cells_a), (variance_b, cells_b), expected) in cases {
            let found = welch(change, variance_a / cells_a, cells_a, variance_b / cells_b, cells_b);
            assert!((found - expected).abs() < 1e-10, "{found} is not {expected}");
        }
    }

    /// The count is that of SciPy's `false_discovery_control` (Benjamini-Hochberg) at 0.05.
    #[test]
    fn a_p_value_counts_if_a_later_one_passes() {
        assert_eq!(discoveries(vec![0.2, 0.039, 0.001, 0.038, 0.02]), 4);
        assert_eq!(discoveries(vec![0.2, 0.06]), 0);
        assert_eq!(discoveries(Vec::new()), 0);
    }

    #[test]
    fn a_gene_that_varies_nowhere_differs_only_if_its_mean_does() {
        let perturbed = group(5, &[1.0, 2.0], &[0.0, 0.0]);
        let control = group(5, &[1.0, 1.0], &[0.0, 0.0]);
        assert_eq!(differential_genes(&perturbed, &control), Some(1));
    }

    #[test]
    fn one_cell_tells_nothing_of_differential_genes() {
        let (one, many) = (group(1, &[1.0], &[0.0]), group(9, &[0.0], &[1.0]));
        assert_eq!(differential_genes(&one, &many), None);
        assert_eq!(effect_size(&one, &many), Some(1.0));
    }
}
