//! Ranks, and the correlation of ranks.

use super::metrics::pearson;

/// The rank of each value, from 1; equal values share the mean of their ranks.
///
/// `None` if a value is NaN.
#[must_use]
pub fn mid_ranks(values: &[f64]) -> Option<Vec<f64>> {
    if values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    // 0 and −0 are equal, so equality decides what is tied, not the order of the sort.
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = below as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|at| ranks[*at] = rank);
        below += tied.len();
    }
    Some(ranks)
}

/// Spearman's correlation: Pearson's of the [`mid_ranks`], as in SciPy's `spearmanr`.
///
/// Undefined if one of the two is constant or holds a NaN.
#[must_use]
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    pearson(&mid_ranks(a)?, &mid_ranks(b)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_the_mean_of_their_ranks() {
        assert_eq!(mid_ranks(&[3.0, 1.0, 3.0, 2.0]), Some(vec![3.5, 1.0, 3.5, 2.0]));
        assert_eq!(mid_ranks(&[0.0, -0.0]), Some(vec![1.5, 1.5]));
        assert_eq!(mid_ranks(&[f64::NAN, 1.0]), None);
        assert_eq!(mid_ranks(&[]), Some(Vec::new()));
    }

    /// The expected value is that of SciPy's `spearmanr`.
    #[test]
    fn the_correlation_of_ranks_agrees_with_scipy() {
        let found = spearman(&[1.0, 2.0, 2.0, 5.0, 4.0], &[0.3, 0.1, 0.7, 0.9, 0.7]);
        assert!(found.is_some_and(|found| (found - 0.763_157_894_736_842_1).abs() < 1e-12), "{found:?}");
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
    }
}
