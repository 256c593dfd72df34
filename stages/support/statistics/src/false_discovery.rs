//! Many tests at once: p-values adjusted by Benjamini and Hochberg's procedure.

/// The smallest false discovery rate at which each test is a discovery: min over j ≥ i of n p₍ⱼ₎ / j for the i-th smallest
/// of n p-values, at most 1. The same as SciPy's `false_discovery_control`.
///
/// `p_values` has one number per test, in any order; a NaN counts as 1.
#[must_use]
pub fn adjusted(p_values: &[f64]) -> Vec<f64> {
    let known = |p: f64| if p.is_nan() { 1.0 } else { p };
    let mut order: Vec<(f64, usize)> = p_values.iter().map(|p| known(*p)).zip(0..).collect();
    // Equal p-values get the rate of the last of them, in whatever order they are.
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let count = p_values.len() as f64;
    let mut rates = vec![1.0; p_values.len()];
    let mut smallest = 1.0_f64;
    for (rank, (p, at)) in order.into_iter().enumerate().rev() {
        smallest = smallest.min(p * count / (rank as f64 + 1.0));
        rates[at] = smallest;
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are those of SciPy's `false_discovery_control`.
    #[test]
    fn adjusted_p_values_agree_with_scipy() {
        let found = adjusted(&[0.2, 0.039, 0.001, 0.038, 0.02]);
        let expected = [0.2, 0.048_75, 0.005, 0.048_75, 0.048_75];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{found:?}");
    }

    #[test]
    fn a_test_without_a_result_is_no_discovery() {
        assert_eq!(adjusted(&[f64::NAN, 0.01]), [1.0, 0.02]);
        assert!(adjusted(&[]).is_empty());
    }
}
