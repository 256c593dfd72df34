//! A group of cells against the rest: how specific each gene's change is, and scores that weight genes by it.

use super::{differential::welch, false_discovery::adjusted, moments::MeanProfile};

/// The t statistic of each gene between a group and the rest, in which the rest counts as no more cells than the group:
/// t = (ȳ − r̄) / √((s²_y + s²_r) / n_y), or 0 if the gene is the same everywhere. This overestimates the noise, which is what scanpy's
/// `rank_genes_groups(method="t-test_overestim_var", reference="rest")` does too.
///
/// Undefined if one of the two has fewer than two cells.
#[must_use]
pub fn rest_statistic(group: &MeanProfile, rest: &MeanProfile) -> Option<Vec<f64>> {
    let (variance, rest_variance) = (group.variance_unbiased()?, rest.variance_unbiased()?);
    let cells = group.cells as f64;
    let statistic = |gene: usize| {
        let change = group.mean[gene] - rest.mean[gene];
        if change == 0.0 { 0.0 } else { change / ((variance[gene] + rest_variance[gene]) / cells).sqrt() }
    };
    Some((0..group.mean.len()).map(statistic).collect())
}

/// The two-sided p-values of these statistics by Welch's t-test, [`adjusted`] for the number of genes.
///
/// Undefined if one of the two has fewer than two cells.
#[must_use]
pub fn rest_p_values(group: &MeanProfile, rest: &MeanProfile) -> Option<Vec<f64>> {
    let (variance, rest_variance) = (group.variance_unbiased()?, rest.variance_unbiased()?);
    let cells = group.cells as f64;
    let p_value = |gene: usize| {
        let change = group.mean[gene] - rest.mean[gene];
        welch(change, variance[gene] / cells, cells, rest_variance[gene] / cells, cells)
    };
    Some(adjusted(&(0..group.mean.len()).map(p_value).collect::<Vec<f64>>()))
}

/// Weights of genes by how specific their change is: w = ((|t| − min |t|) / (max |t| − min |t|))², divided by their sum
/// (Mejia et al., arXiv 2506.22641).
///
/// Undefined if |t| is the same for every gene, or one is NaN.
#[must_use]
pub fn gene_weights(statistic: &[f64]) -> Option<Vec<f64>> {
    let sizes: Vec<f64> = statistic.iter().map(|t| t.abs()).collect();
    let largest = sizes.iter().copied().fold(0.0, f64::max);
    let smallest = sizes.iter().copied().fold(f64::INFINITY, f64::min);
    let weight = |size: f64| match largest.is_finite() {
        true => ((size - smallest) / (largest - smallest)).powi(2),
        // Genes that vary in neither group: beside them, no other gene counts.
        false => f64::from(u8::from(size == largest)),
    };
    let weights: Vec<f64> = sizes.iter().map(|size| weight(*size)).collect();
    let total: f64 = weights.iter().sum();
    (total.is_finite() && total > 0.0).then(|| weights.iter().map(|weight| weight / total).collect())
}

/// The weighted mean squared difference, Σ w (truth − prediction)², for weights that sum to 1.
#[must_use]
pub fn weighted_squared_error(truth: &[f64], prediction: &[f64], weights: &[f64]) -> Option<f64> {
    let errors = truth.iter().zip(prediction).map(|(truth, prediction)| (truth - prediction).powi(2));
    let sum: f64 = errors.zip(weights).map(|(error, weight)| error * weight).sum();
    (sum.is_finite() && !truth.is_empty()).then_some(sum)
}

/// The weighted coefficient of determination, 1 − Σ w (truth − prediction)² / Σ w (truth − its weighted mean)², for
/// weights that sum to 1: scikit-learn's `r2_score(sample_weight=…)`.
///
/// Undefined if the truth is the same for every gene that has a weight.
#[must_use]
pub fn weighted_r2(truth: &[f64], prediction: &[f64], weights: &[f64]) -> Option<f64> {
    let mut weighted = truth.iter().zip(weights).filter(|(_, weight)| **weight > 0.0).map(|(truth, _)| truth);
    let first = weighted.next()?;
    if weighted.all(|truth| truth == first) {
        return None;
    }
    let mean: f64 = truth.iter().zip(weights).map(|(truth, weight)| truth * weight).sum();
    let total: f64 = truth.iter().zip(weights).map(|(truth, weight)| weight * (truth - mean).powi(2)).sum();
    Some(1.0 - weighted_squared_error(truth, prediction, weights)? / total).filter(|r2| r2.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(cells: u64, mean: &[f64], variance: &[f64]) -> MeanProfile {
        MeanProfile { cells, mean: mean.into(), variance: variance.into() }
    }

    #[test]
    fn the_rest_counts_as_no_more_cells_than_the_group() {
        // Unbiased variances: 1, 1 and 0 of the group; 3, 0 and 0 of the rest.
        let of_group = group(4, &[3.0, 1.0, 0.5], &[0.75, 0.75, 0.0]);
        let rest = group(101, &[1.0, 1.0, 0.5], &[3.0 * 100.0 / 101.0, 0.0, 0.0]);
        let statistic = rest_statistic(&of_group, &rest).expect("both have cells");
        assert!((statistic[0] - 2.0).abs() < 1e-12, "{statistic:?}");
        assert_eq!(statistic[1..], [0.0, 0.0]);
        assert_eq!(rest_p_values(&of_group, &rest).map(|p_values| p_values[2]), Some(1.0));
        let cell = group(1, &[1.0], &[0.0]);
        assert_eq!((rest_statistic(&cell, &rest), rest_p_values(&cell, &rest)), (None, None));
    }

    #[test]
    fn a_gene_counts_by_the_square_of_its_statistic() {
        assert_eq!(gene_weights(&[-3.0, 1.0, 2.0]), Some(vec![0.8, 0.0, 0.2]));
        assert_eq!(gene_weights(&[2.0, -2.0]), None);
        assert_eq!((gene_weights(&[f64::NAN, f64::NAN]), gene_weights(&[])), (None, None));
        assert_eq!(gene_weights(&[f64::INFINITY, 1.0]), Some(vec![1.0, 0.0]));
    }

    #[test]
    fn genes_without_weight_have_no_say() {
        let (truth, weights) = ([1.0, 3.0, 9.0], [0.5, 0.5, 0.0]);
        assert_eq!(weighted_squared_error(&truth, &[2.0, 3.0, 0.0], &weights), Some(0.5));
        assert_eq!(weighted_r2(&truth, &[2.0, 3.0, 0.0], &weights), Some(0.5));
        assert_eq!(weighted_r2(&truth, &truth, &weights), Some(1.0));
        assert_eq!(weighted_r2(&[1.0, 1.0, 2.0], &truth, &weights), None);
        assert_eq!(weighted_squared_error(&truth, &[f64::NAN, 0.0, 0.0], &weights), None);
    }
}
