//! The Mann–Whitney U test (Wilcoxon's rank-sum test) of one gene between two groups of cells.

use statrs::distribution::{ContinuousCDF, Normal};

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannWhitney {
    /// U of the first group: the number of pairs of cells in which its value is the larger one, where equal ones count half.
    pub statistic: f64,
    /// The two-sided p-value.
    pub p_value: f64,
}

/// The ranks of two groups of cells, as far as a test needs them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RankSum {
    /// U of the first group.
    pub statistic: f64,
    /// Σ (t³ − t) over the values of both groups, where t cells have the same one.
    pub ties: f64,
    /// Number of cells of each group.
    pub cells: [usize; 2],
}

impl RankSum {
    /// Tests whether values of the first group tend to be larger or smaller than those of the second.
    ///
    /// The p-value is asymptotic, with corrections for ties and for continuity: with U the larger of both groups' statistics,
    /// z = (U − n₁n₂/2 − 1/2) / √(n₁n₂/12 · (n + 1 − Σ (t³ − t) / (n (n − 1)))). This is SciPy's
    /// `mannwhitneyu(method="asymptotic")` and the test of pdex.
    ///
    /// Undefined if a group has no cells, or the statistic is NaN.
    #[must_use]
    pub fn test(self) -> Option<MannWhitney> {
        let Self { statistic, ties, cells } = self;
        if cells.contains(&0) || statistic.is_nan() {
            return None;
        }
        let [first, second] = cells.map(|count| count as f64);
        let (all, pairs) = (first + second, first * second);
        let deviation = (pairs / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)))).sqrt();
        let beyond = statistic.max(pairs - statistic) - pairs / 2.0 - 0.5;
        // Equal values have a deviation of 0, and nothing differs.
        let p_value = if deviation > 0.0 { (2.0 * Normal::standard().sf(beyond / deviation)).min(1.0) } else { 1.0 };
        Some(MannWhitney { statistic, p_value })
    }
}

/// The change of a gene as pdex reports it with ε = 0, as cell-eval asks for it: log₂ (perturbed / control), for means in units of
/// counts; 0 if both are 0, and infinite if one is.
#[must_use]
pub fn log2_fold_change(perturbed: f64, control: f64) -> f64 {
    // The sum of no numbers is −0.
    let change = (perturbed.abs() / control.abs()).log2();
    if change.is_nan() { 0.0 } else { change }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are those of SciPy's `mannwhitneyu(method="asymptotic")` of 3, 1, 4, 1.5, 0 and 1, −2, 0, 0, 0.
    #[test]
    fn the_test_agrees_with_scipy() {
        let ties = 60.0 + 6.0;
        let found = RankSum { statistic: 22.0, ties, cells: [5, 5] }.test().expect("both groups have cells");
        assert!((found.p_value - 0.051_651_746_319_216_596).abs() < 1e-9, "{found:?}");
        assert_eq!(RankSum { statistic: 3.0, ties, cells: [5, 5] }.test().map(|one| one.p_value), Some(found.p_value));
    }

    #[test]
    fn equal_groups_do_not_differ_and_a_group_without_cells_or_a_nan_has_no_test() {
        let of = |statistic, ties, cells| RankSum { statistic, ties, cells }.test();
        assert_eq!(of(12.5, 990.0, [5, 5]), Some(MannWhitney { statistic: 12.5, p_value: 1.0 }));
        assert_eq!((of(0.0, 6.0, [0, 2]), of(f64::NAN, 0.0, [2, 2])), (None, None));
    }

    #[test]
    fn a_gene_that_neither_group_expresses_does_not_change() {
        assert_eq!(log2_fold_change(0.0, 0.0), 0.0);
        assert_eq!(log2_fold_change(4.0, 1.0), 2.0);
        assert_eq!([0.0, -0.0].map(|none| log2_fold_change(1.0, none)), [f64::INFINITY; 2]);
        assert_eq!([0.0, -0.0].map(|none| log2_fold_change(none, 1.0)), [f64::NEG_INFINITY; 2]);
    }
}
