//! Which genes a perturbation changed, and by how much.

use statrs::{
    distribution::{ContinuousCDF, StudentsT},
    function::erf::erfc,
};

use super::{metrics, moments::MeanProfile};

/// Avoids a division by zero for a gene that varies in neither group; small compared with any real variance of a mean.
const VARIANCE_FLOOR: f64 = 1e-9;

/// The accepted share of false discoveries among the differential genes.
const FALSE_DISCOVERY_RATE: f64 = 0.05;

/// A statistic of Student's t up to which the two-sided p-value is above [`FALSE_DISCOVERY_RATE`], however many degrees of freedom
/// it has: no such test is a discovery.
const NO_DISCOVERY: f64 = 1.95;

/// How significantly a gene changed: |Δ mean| / √(var_t / n_t + var_c / n_c + 1e-9), with population
/// variances.
#[must_use]
pub fn score(perturbed: &MeanProfile, control: &MeanProfile, gene: usize) -> f64 {
    let (cells, control_cells) = (perturbed.cells as f64, control.cells as f64);
    let error = perturbed.variance[gene] / cells + control.variance[gene] / control_cells + VARIANCE_FLOOR;
    (perturbed.mean[gene] - control.mean[gene]).abs() / error.sqrt()
}

/// The two-sided p-value of a standard normal number.
#[must_use]
pub fn two_sided_p(z: f64) -> f64 {
    erfc(z.abs() / std::f64::consts::SQRT_2)
}

/// The `count` genes with the largest [`score`], in descending order; among equals, the earlier gene comes
/// first.
#[must_use]
pub fn top_genes(perturbed: &MeanProfile, control: &MeanProfile, count: usize) -> Vec<usize> {
    largest((0..perturbed.mean.len()).map(|gene| (score(perturbed, control, gene), gene)).collect(), count)
}

/// The genes of the `count` largest numbers, in descending order; among equals, the earlier gene comes first.
/// NaNs are left out, so that one bad gene can't displace the others.
#[must_use]
pub fn largest(mut ranked: Vec<(f64, usize)>, count: usize) -> Vec<usize> {
    ranked.retain(|(score, _)| !score.is_nan());
    let by_score = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if count < ranked.len() {
        ranked.select_nth_unstable_by(count, by_score);
        ranked.truncate(count);
    }
    ranked.sort_by(by_score);
    ranked.into_iter().map(|(_, gene)| gene).collect()
}

/// The genes that differ between the two groups, in gene order: Welch's t-test on each, with Benjamini and
/// Hochberg's procedure at 0.05.
///
/// Undefined if one of the groups has fewer than two cells.
#[must_use]
pub fn differential_genes(perturbed: &MeanProfile, control: &MeanProfile) -> Option<Vec<usize>> {
    let p_values = welch_where(perturbed, control, |statistic| statistic > NO_DISCOVERY)?;
    let Some(largest) = largest_discovery(&p_values) else { return Some(Vec::new()) };
    Some((0..p_values.len()).filter(|gene| p_values[*gene] <= largest).collect())
}

/// The two-sided p-value of Welch's t-test between the two groups, for each gene.
///
/// Undefined if one of the groups has fewer than two cells.
#[must_use]
pub fn welch_p_values(perturbed: &MeanProfile, control: &MeanProfile) -> Option<Vec<f64>> {
    welch_where(perturbed, control, |_| true)
}

/// The same where this holds of the statistic |t|, and 1 elsewhere.
fn welch_where(perturbed: &MeanProfile, control: &MeanProfile, is_wanted: impl Fn(f64) -> bool) -> Option<Vec<f64>> {
    let (variance, control_variance) = (perturbed.variance_unbiased()?, control.variance_unbiased()?);
    let (cells, control_cells) = (perturbed.cells as f64, control.cells as f64);
    let p_value = |gene: usize| {
        let change = perturbed.mean[gene] - control.mean[gene];
        let (error, control_error) = (variance[gene] / cells, control_variance[gene] / control_cells);
        match is_wanted(change.abs() / (error + control_error).sqrt()) {
            true => welch(change, error, cells, control_error, control_cells),
            false => 1.0,
        }
    };
    Some((0..perturbed.mean.len()).map(p_value).collect())
}

/// The `count` of these genes with the largest absolute change, in descending order; among equals, the
/// earlier gene comes first.
#[must_use]
pub fn most_changed(change: &[f64], genes: impl IntoIterator<Item = usize>, count: usize) -> Vec<usize> {
    largest(genes.into_iter().map(|gene| (change[gene].abs(), gene)).collect(), count)
}

/// The share of the first `count` real genes that are among the first `count` predicted ones, like
/// cell-eval's `overlap_at_N`: if there are fewer real genes than `count`, all of them are compared with as
/// many predicted ones.
///
/// Undefined without real genes, and for a prediction without any change or with values that are not finite.
#[must_use]
pub fn overlap(real: &[usize], predicted: &[usize], count: usize, predicted_change: &[f64]) -> Option<f64> {
    let count = count.min(real.len());
    let nothing_changes = predicted_change.iter().all(|change| *change == 0.0);
    if count == 0 || nothing_changes || predicted_change.iter().any(|change| !change.is_finite()) {
        return None;
    }
    let mut predicted = predicted[..count.min(predicted.len())].to_vec();
    predicted.sort_unstable();
    let shared = real[..count].iter().filter(|gene| predicted.binary_search(gene).is_ok()).count();
    Some(shared as f64 / count as f64)
}

/// The share of these genes whose real and predicted change have the same sign; a change of zero has none.
///
/// Undefined without genes, and for a prediction that is not finite.
#[must_use]
pub fn direction(genes: &[usize], real_change: &[f64], predicted_change: &[f64]) -> Option<f64> {
    if genes.is_empty() || genes.iter().any(|gene| !predicted_change[*gene].is_finite()) {
        return None;
    }
    let agreed = genes.iter().filter(|gene| agrees(real_change[**gene], predicted_change[**gene])).count();
    Some(agreed as f64 / genes.len() as f64)
}

/// Whether two changes have the same sign.
#[must_use]
pub fn agrees(real: f64, predicted: f64) -> bool {
    (real > 0.0 && predicted > 0.0) || (real < 0.0 && predicted < 0.0)
}

/// The Euclidean length of the change of the means.
#[must_use]
pub fn effect_size(perturbed: &MeanProfile, control: &MeanProfile) -> Option<f64> {
    metrics::distance(&perturbed.mean, &control.mean)
}

/// The two-sided p-value of Welch's t-test, given the change and the squared standard error of each mean.
pub(crate) fn welch(change: f64, error_a: f64, cells_a: f64, error_b: f64, cells_b: f64) -> f64 {
    let error = error_a + error_b;
    if error == 0.0 {
        return if change == 0.0 { 1.0 } else { 0.0 };
    }
    let freedom = error.powi(2) / (error_a.powi(2) / (cells_a - 1.0) + error_b.powi(2) / (cells_b - 1.0));
    let statistic = change.abs() / error.sqrt();
    // The distribution exists for every positive number of degrees of freedom; any other number came from a NaN.
    StudentsT::new(0.0, 1.0, freedom).map_or(1.0, |distribution| 2.0 * distribution.sf(statistic))
}

/// The largest p-value that Benjamini and Hochberg's procedure rejects; `None` if it rejects nothing.
fn largest_discovery(p_values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = p_values.iter().copied().filter(|p| *p <= FALSE_DISCOVERY_RATE).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let step = FALSE_DISCOVERY_RATE / p_values.len() as f64;
    let last = sorted.iter().enumerate().rposition(|(rank, p)| *p <= step * (rank as f64 + 1.0))?;
    Some(sorted[last])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(cells: u64, mean: &[f64], variance: &[f64]) -> MeanProfile {
        MeanProfile { cells, mean: mean.into(), variance: variance.into() }
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

    /// The p-values are equal to those of SciPy's `ttest_ind_from_stats(..., equal_var=False)`.
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

    /// Rejections agree with SciPy's `false_discovery_control` (Benjamini-Hochberg) at 0.05.
    #[test]
    fn a_p_value_counts_if_a_later_one_passes() {
        assert_eq!(largest_discovery(&[0.2, 0.039, 0.001, 0.038, 0.02]), Some(0.039));
        assert_eq!(largest_discovery(&[0.2, 0.06]), None);
        assert_eq!(largest_discovery(&[]), None);
    }

    #[test]
    fn genes_whose_statistic_is_small_need_no_p_value() {
        assert!(welch(NO_DISCOVERY, 0.5, 1e9, 0.5, 1e9) > FALSE_DISCOVERY_RATE);
        let mean: Vec<f64> = (0..300).map(|gene| f64::from(gene % 17) / 20.0).collect();
        let (perturbed, control) = (group(40, &mean, &[1.0; 300]), group(60, &[0.1; 300], &[0.8; 300]));
        let p_values = welch_p_values(&perturbed, &control).expect("many cells");
        let largest = largest_discovery(&p_values).expect("some genes differ");
        let expected: Vec<usize> = (0..300).filter(|gene| p_values[*gene] <= largest).collect();
        assert_eq!(differential_genes(&perturbed, &control), Some(expected));
    }

    #[test]
    fn a_gene_that_varies_nowhere_differs_only_if_its_mean_does() {
        let perturbed = group(5, &[1.0, 2.0], &[0.0, 0.0]);
        let control = group(5, &[1.0, 1.0], &[0.0, 0.0]);
        assert_eq!(differential_genes(&perturbed, &control), Some(vec![1]));
    }

    #[test]
    fn one_cell_tells_nothing_of_differential_genes() {
        let (one, many) = (group(1, &[1.0], &[0.0]), group(9, &[0.0], &[1.0]));
        assert_eq!(differential_genes(&one, &many), None);
        assert_eq!(effect_size(&one, &many), Some(1.0));
    }
}
