//! The Mann–Whitney U test (Wilcoxon's rank-sum test) of one gene between two groups of cells.

use statrs::distribution::{ContinuousCDF, Normal};

use super::cell_rows::SortedValues;

/// Values that are compared at once.
const BLOCK: usize = 16;

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
/// is SciPy's `mannwhitneyu(method="asymptotic")` and the test of pdex. The values of the second group, which may be many
/// more, are walked through block by block.
///
/// Undefined if a group has no cells or fewer than values, or a value is NaN.
#[must_use]
pub fn mann_whitney(first: SortedValues<'_>, second: SortedValues<'_>) -> Option<MannWhitney> {
    let zeros = |group: SortedValues<'_>| group.cells.checked_sub(group.values.len());
    let (zeros_first, zeros_second) = (zeros(first)?, zeros(second)?);
    // Sorted by `total_cmp`, a NaN is at one of the ends.
    let has_nan = |group: SortedValues<'_>| {
        [group.values.first(), group.values.last()].into_iter().flatten().any(|value| value.is_nan())
    };
    if first.cells == 0 || second.cells == 0 || has_nan(first) || has_nan(second) {
        return None;
    }
    let cubed = |count: usize| (count as f64).powi(3) - count as f64;
    let negative = second.values.partition_point(|value| *value < 0.0);
    let mut statistic = zeros_first as f64 * (negative as f64 + zeros_second as f64 / 2.0);
    let mut ties = second.ties + cubed(zeros_first + zeros_second);
    let mut block = 0;
    for run in first.values.chunk_by(|a, b| a == b) {
        while second.values.get(block + BLOCK - 1).is_some_and(|last| *last < run[0]) {
            block += BLOCK;
        }
        let within = &second.values[block..second.values.len().min(block + BLOCK)];
        let below = block + within.iter().map(|value| usize::from(*value < run[0])).sum::<usize>();
        let equal = match second.values.get(below) {
            Some(value) if *value == run[0] => second.values[below..].partition_point(|value| *value <= run[0]),
            _ => 0,
        };
        let with_zeros = if run[0] > 0.0 { below + zeros_second } else { below };
        statistic += run.len() as f64 * (with_zeros as f64 + equal as f64 / 2.0);
        ties += cubed(run.len() + equal) - cubed(equal);
    }
    let (n_first, n_second) = (first.cells as f64, second.cells as f64);
    let (all, pairs) = (n_first + n_second, n_first * n_second);
    let deviation = (pairs / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)))).sqrt();
    let beyond = statistic.max(pairs - statistic) - pairs / 2.0 - 0.5;
    // Where all values are equal, there is no deviation, and nothing differs.
    let p_value = if deviation > 0.0 { (2.0 * Normal::standard().sf(beyond / deviation)).min(1.0) } else { 1.0 };
    Some(MannWhitney { statistic, p_value })
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
    use proptest::prelude::*;

    use super::*;
    use crate::{
        cell_rows::{CellRows, GeneColumns},
        ranks::mid_ranks,
    };

    /// A column of these values and as many zeros as make up this number of cells.
    fn columns(values: &[f32], cells: usize) -> GeneColumns {
        let mut rows = CellRows::default();
        values.iter().for_each(|value| rows.push(&[0], [*value]));
        (values.len()..cells).for_each(|_| rows.push(&[], []));
        GeneColumns::new(1, &[&rows])
    }

    fn test(first: &[f32], second: &[f32]) -> Option<MannWhitney> {
        mann_whitney(columns(first, 5).gene(0), columns(second, 5).gene(0))
    }

    /// U and Σ (t³ − t) by ranking all cells.
    fn ranked(first: &[f32], second: &[f32]) -> (f64, f64) {
        let all: Vec<f64> = first.iter().chain(second).map(|value| f64::from(*value)).collect();
        let ranks = mid_ranks(&all).expect("no value is NaN");
        let count = first.len() as f64;
        let mut sorted = all;
        sorted.sort_by(f64::total_cmp);
        let cubed = |run: &[f64]| (run.len() as f64).powi(3) - run.len() as f64;
        let ties = sorted.chunk_by(|a, b| a == b).map(cubed).sum();
        (ranks[..first.len()].iter().sum::<f64>() - count * (count + 1.0) / 2.0, ties)
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
        let some = columns(&[1.0], 2);
        assert_eq!(mann_whitney(columns(&[], 0).gene(0), some.gene(0)), None);
        assert_eq!(mann_whitney(SortedValues { values: &[1.0, 2.0], cells: 1, ties: 0.0 }, some.gene(0)), None);
        assert_eq!(test(&[f32::NAN], &[1.0]), None);
        assert_eq!(test(&[1.0], &[-f32::NAN, 1.0]), None);
    }

    #[test]
    fn a_gene_that_neither_group_expresses_does_not_change() {
        assert_eq!(log2_fold_change(0.0, 0.0), 0.0);
        assert_eq!(log2_fold_change(4.0, 1.0), 2.0);
        assert_eq!([0.0, -0.0].map(|none| log2_fold_change(1.0, none)), [f64::INFINITY; 2]);
        assert_eq!([0.0, -0.0].map(|none| log2_fold_change(none, 1.0)), [f64::NEG_INFINITY; 2]);
    }

    proptest! {
        #[test]
        fn the_statistic_is_that_of_all_ranks(
            first in prop::collection::vec(-2_i8..4, 1..30),
            second in prop::collection::vec(-2_i8..4, 1..30),
        ) {
            let wide = |values: &[i8]| values.iter().map(|value| f32::from(*value)).collect::<Vec<_>>();
            let (first, second) = (wide(&first), wide(&second));
            let (of_first, of_second) = (columns(&first, first.len()), columns(&second, second.len()));
            let found = mann_whitney(of_first.gene(0), of_second.gene(0)).expect("both groups have cells");
            let (statistic, ties) = ranked(&first, &second);
            prop_assert_eq!(found.statistic, statistic);
            let (n, m) = (first.len() as f64, second.len() as f64);
            let deviation = (n * m / 12.0 * (n + m + 1.0 - ties / ((n + m) * (n + m - 1.0)))).sqrt();
            let beyond = statistic.max(n * m - statistic) - n * m / 2.0 - 0.5;
            let p_value = if deviation > 0.0 { (2.0 * Normal::standard().sf(beyond / deviation)).min(1.0) } else { 1.0 };
            prop_assert!((found.p_value - p_value).abs() < 1e-12);
        }
    }
}
