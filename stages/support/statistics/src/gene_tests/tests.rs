//! Groups that are tested together have the tests that each would have alone.

use proptest::prelude::*;

use super::*;
use crate::{mann_whitney::MannWhitney, ranks::mid_ranks};

fn rows(values: &[Vec<f32>]) -> CellRows {
    let mut rows = CellRows::default();
    for cell in values {
        let kept = || (0_u32..).zip(cell).filter(|(_, value)| **value != 0.0);
        rows.push(&kept().map(|(gene, _)| gene).collect::<Vec<_>>(), kept().map(|(_, value)| *value));
    }
    rows
}

fn controls(genes: usize, values: &[Vec<f32>]) -> GeneColumns {
    GeneColumns::new(genes, &[&rows(values)])
}

/// The test by ranking all cells of both groups.
fn ranked(first: &[f32], second: &[f32]) -> MannWhitney {
    let all: Vec<f64> = first.iter().chain(second).map(|value| f64::from(*value)).collect();
    let ranks = mid_ranks(&all).expect("no value is NaN");
    let count = first.len() as f64;
    let mut sorted = all;
    sorted.sort_by(f64::total_cmp);
    let ties = sorted.chunk_by(|a, b| a == b).map(|run| cubed(run.len())).sum();
    let statistic = ranks[..first.len()].iter().sum::<f64>() - count * (count + 1.0) / 2.0;
    RankSum { statistic, ties, cells: [first.len(), second.len()] }.test().expect("both have cells")
}

fn cells() -> impl Strategy<Value = Vec<Vec<f32>>> {
    prop::collection::vec(prop::collection::vec((-2_i8..4).prop_map(f32::from), 3), 1..20)
}

#[test]
fn a_small_case_by_hand() {
    let group = |value: f32, cells: usize| -> Vec<Vec<f32>> {
        (0..4).map(|cell| vec![if cell < cells { value } else { 0.0 }, 0.0]).collect()
    };
    let found = GeneTests::new(rows(&group(2.0, 4)), controls(2, &group(1.0, 1))).expect("all have cells");
    assert_eq!((found.statistic.as_slice(), found.log2_fold_change[1]), ([16.0, 8.0].as_slice(), 0.0));
    let change = (2.0_f64.exp_m1() / 0.25_f64.exp_m1()).log2();
    assert!((found.log2_fold_change[0] - change).abs() < 1e-12);
    assert_eq!(found.p_value[1], 1.0);
}

#[test]
fn a_group_without_cells_or_with_a_nan_has_no_test() {
    let (some, nan) = ([vec![1.0], vec![0.0]], [vec![f32::NAN], vec![1.0]]);
    assert_eq!(GeneTests::new(rows(&[]), controls(1, &some)), None);
    assert_eq!(GeneTests::new(rows(&some), controls(1, &[])), None);
    assert_eq!(GeneTests::new(rows(&nan), controls(1, &some)), None);
    assert_eq!(GeneTests::new(rows(&some), controls(1, &[vec![-f32::NAN], vec![1.0]])), None);
    let round = TestRound { controls: Arc::new(controls(1, &some)), groupings: vec![vec![Some(0), Some(1)]] };
    let tests = GroupTests::new(1, vec![rows(&nan), rows(&some)], vec![round]);
    let found = GroupTests::joined(vec![tests.test(0..1)]);
    assert!(found[0][0].is_none() && found[0][1].is_some(), "a NaN of one group leaves the others alone");
}

proptest! {
    #[test]
    fn every_group_is_tested_as_if_it_were_alone(
        parts in prop::collection::vec(cells(), 4),
        of_rounds in prop::collection::vec(cells(), 2),
        width in 1_usize..4,
    ) {
        let round = |at: usize, groupings: &[[Option<usize>; 4]]| TestRound {
            controls: Arc::new(controls(3, &of_rounds[at])),
            groupings: groupings.iter().map(|grouping| grouping.to_vec()).collect(),
        };
        let (whole, halves) =
            ([Some(0), Some(0), Some(1), Some(1)], [[Some(0), None, Some(1), None], [None, Some(0), None, Some(1)]]);
        let rounds = vec![round(0, &[whole, halves[0]]), round(1, &[halves[1]])];
        let tests = GroupTests::new(3, parts.iter().map(|part| rows(part)).collect(), rounds);
        let tiles = (0..3).step_by(width).map(|first| tests.test(first..3.min(first + width))).collect();
        let found = GroupTests::joined(tiles);
        let members = [[vec![0, 1], vec![2, 3]], [vec![0], vec![2]], [vec![1], vec![3]]];
        for ((found, members), at) in found.iter().zip(members).zip([0, 0, 1]) {
            let of_controls = &of_rounds[at];
            for (found, members) in found.iter().zip(members) {
                let found = found.as_ref().expect("all have cells");
                let cells: Vec<&Vec<f32>> = members.iter().flat_map(|part| &parts[*part]).collect();
                for gene in 0..3 {
                    let first: Vec<f32> = cells.iter().map(|cell| cell[gene]).collect();
                    let second: Vec<f32> = of_controls.iter().map(|cell| cell[gene]).collect();
                    let expected = ranked(&first, &second);
                    prop_assert_eq!(found.statistic[gene], expected.statistic);
                    prop_assert!((found.p_value[gene] - expected.p_value).abs() < 1e-12);
                }
            }
        }
    }
}
