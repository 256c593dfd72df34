//! The Mann–Whitney U test (Wilcoxon's rank-sum test) of one gene between two groups of cells.

use statrs::distribution::{ContinuousCDF, Normal};

/// A gene's values in a group of cells: those that are stored; the gene is 0 in all other cells.
#[derive(Clone, Copy, Debug)]
pub struct SparseValues<'a> {
    /// The stored values, in any order; they may be negative or 0.
    pub stored: &'a [f64],
    /// Number of cells, with those that store no value.
    pub cells: usize,
}

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannWhitney {
    /// U of the first group: the number of pairs of cells in which its value is the larger one, where equal ones count half.
    pub statistic: f64,
    /// The two-sided p-value.
    pub p_value: f64,
}

/// Tests whether values of the first group tend to be larger or smaller than those of the second.
///
/// The p-value is asymptotic, with corrections for ties and for continuity: with U the larger of both groups' statistics,
/// z = (U − n₁n₂/2 − 1/2) / √(n₁n₂/12 · (n + 1 − Σ (t³ − t) / (n (n − 1)))), where t counts the cells with one value. This
/// is SciPy's `mannwhitneyu(method="asymptotic")` and the test of pdex.
///
/// Undefined if a group has no cells or fewer than it stores values, or a value is NaN.
#[must_use]
pub fn mann_whitney(first: SparseValues<'_>, second: SparseValues<'_>) -> Option<MannWhitney> {
    let mut values: Vec<(f64, bool)> = Vec::with_capacity(first.stored.len() + second.stored.len());
    let stored = |group: SparseValues<'_>, is_first: bool| {
        let kept = group.stored.iter().filter(|value| **value != 0.0);
        kept.map(move |value| (*value, is_first)).collect::<Vec<_>>()
    };
    values.extend(stored(first, true));
    let first_zeros = first.cells.checked_sub(values.len())?;
    values.extend(stored(second, false));
    let zeros = (first.cells + second.cells).checked_sub(values.len())?;
    if first.cells == 0 || second.cells == 0 || zeros < first_zeros || values.iter().any(|(value, _)| value.is_nan()) {
        return None;
    }
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));

    let mut sums = TiedRanks::default();
    let negative = values.partition_point(|(value, _)| *value < 0.0);
    let (negative, positive) = values.split_at(negative);
    let add_all = |sums: &mut TiedRanks, values: &[(f64, bool)]| {
        for tied in values.chunk_by(|a, b| a.0 == b.0) {
            sums.add(tied.len(), tied.iter().filter(|(_, is_first)| *is_first).count());
        }
    };
    add_all(&mut sums, negative);
    sums.add(zeros, first_zeros);
    add_all(&mut sums, positive);

    let (n_first, n_second) = (first.cells as f64, second.cells as f64);
    let (all, pairs) = (n_first + n_second, n_first * n_second);
    let statistic = sums.first_ranks - n_first * (n_first + 1.0) / 2.0;
    let deviation = (pairs / 12.0 * (all + 1.0 - sums.ties / (all * (all - 1.0)))).sqrt();
    let beyond = statistic.max(pairs - statistic) - pairs / 2.0 - 0.5;
    // Where all values are equal, there is no deviation, and nothing differs.
    let p_value = if deviation > 0.0 { (2.0 * Normal::standard().sf(beyond / deviation)).min(1.0) } else { 1.0 };
    Some(MannWhitney { statistic, p_value })
}

/// Sums over values in ascending order.
#[derive(Default)]
struct TiedRanks {
    below: usize,
    /// The sum of the ranks of the first group.
    first_ranks: f64,
    /// Σ (t³ − t).
    ties: f64,
}

impl TiedRanks {
    /// Adds `count` cells with the next larger value, of which some are of the first group.
    fn add(&mut self, count: usize, of_first: usize) {
        let tied = count as f64;
        self.first_ranks += of_first as f64 * (self.below as f64 + (tied + 1.0) / 2.0);
        self.ties += tied.powi(3) - tied;
        self.below += count;
    }
}

/// The change of a gene as pdex reports it: log₂ ((perturbed + ε) / (control + ε)), for means in units of counts; 0 if
/// both are 0, and infinite if one is 0 and ε too.
///
/// cell-eval 0.8.2 sets ε to 0, pdex 10⁻⁹.
#[must_use]
pub fn log2_fold_change(perturbed: f64, control: f64, epsilon: f64) -> f64 {
    let change = ((perturbed + epsilon) / (control + epsilon)).log2();
    if change.is_nan() { 0.0 } else { change }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn test(first: &[f64], second: &[f64]) -> Option<MannWhitney> {
        let group = |stored| SparseValues { stored, cells: 5 };
        mann_whitney(group(first), group(second))
    }

    /// The expected values are those of SciPy's `mannwhitneyu(method="asymptotic")`.
    #[test]
    fn the_test_agrees_with_scipy() {
        let found = test(&[3.0, 1.0, 4.0, 1.5], &[1.0, -2.0]).expect("both groups have cells");
        assert_eq!(found.statistic, 22.0);
        assert!((found.p_value - 0.051_651_746_319_216_596).abs() < 1e-9, "{found:?}");
        let swapped = test(&[1.0, -2.0], &[3.0, 1.0, 4.0, 1.5]).expect("both groups have cells");
        assert_eq!((swapped.statistic, swapped.p_value), (3.0, found.p_value));
    }

    #[test]
    fn equal_groups_do_not_differ() {
        assert_eq!(test(&[], &[]), Some(MannWhitney { statistic: 12.5, p_value: 1.0 }));
        assert_eq!(test(&[2.0], &[2.0]).map(|found| found.p_value), Some(1.0));
    }

    #[test]
    fn a_group_without_cells_or_with_a_nan_has_no_test() {
        let none = SparseValues { stored: &[], cells: 0 };
        let some = SparseValues { stored: &[1.0], cells: 2 };
        assert_eq!(mann_whitney(none, some), None);
        assert_eq!(mann_whitney(SparseValues { stored: &[1.0, 2.0], cells: 1 }, some), None);
        assert_eq!(mann_whitney(some, SparseValues { stored: &[1.0, 2.0, 3.0], cells: 2 }), None);
        assert_eq!(test(&[f64::NAN], &[1.0]), None);
    }

    #[test]
    fn a_gene_that_neither_group_expresses_does_not_change() {
        assert_eq!(log2_fold_change(0.0, 0.0, 0.0), 0.0);
        assert_eq!(log2_fold_change(4.0, 1.0, 0.0), 2.0);
        assert_eq!(log2_fold_change(1.0, 0.0, 0.0), f64::INFINITY);
    }

    proptest! {
        #[test]
        fn zeros_may_be_stored_or_left_out(
            first in prop::collection::vec(0_u8..4, 1..30),
            second in prop::collection::vec(0_u8..4, 1..30),
        ) {
            let dense = |values: &[u8]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
            let sparse = |values: &[f64]| values.iter().copied().filter(|value| *value > 0.0).collect::<Vec<_>>();
            let (first, second) = (dense(&first), dense(&second));
            let with_zeros = mann_whitney(
                SparseValues { stored: &first, cells: first.len() },
                SparseValues { stored: &second, cells: second.len() },
            );
            let without = mann_whitney(
                SparseValues { stored: &sparse(&first), cells: first.len() },
                SparseValues { stored: &sparse(&second), cells: second.len() },
            );
            prop_assert_eq!(with_zeros, without);
            prop_assert!(with_zeros.is_some_and(|found| (0.0..=1.0).contains(&found.p_value)));
        }
    }
}
