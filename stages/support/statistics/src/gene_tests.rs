//! Mann–Whitney tests of every gene of many groups of cells: gene by gene, all groups at once.
//!
//! The values of a gene in all groups are sorted together, and one walk along them and the sorted controls finds every group's
//! statistic. Cells whose value is 0 are counted, and never looked at.

use std::{ops::Range, sync::Arc};

use super::{
    cell_rows::{CellRows, GeneColumns},
    mann_whitney::{RankSum, log2_fold_change},
};

/// Values that are sorted between two looks at the cells: 2 MiB.
const TILE_VALUES: usize = 1 << 18;

/// Parts of groups of cells, and the tests to make of them.
#[derive(Clone, Debug)]
pub struct GroupTests {
    genes: usize,
    parts: Vec<CellRows>,
    rounds: Vec<TestRound>,
}

/// Tests of groups of parts against the same controls.
#[derive(Clone, Debug)]
pub struct TestRound {
    /// The controls.
    pub controls: Arc<GeneColumns>,
    /// Ways to make groups of the parts: for each part its group, ascending, so that the parts of a group are next to each
    /// other; `None` leaves a part out.
    pub groupings: Vec<Vec<Option<usize>>>,
}

/// Tests of some genes of one group, as pdex makes them; each list has one number per gene.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GeneTests {
    /// The logarithm of the change, to base 2; it may be infinite.
    pub log2_fold_change: Vec<f64>,
    /// U of the group's cells in the [test](super::mann_whitney) of Mann and Whitney.
    pub statistic: Vec<f64>,
    /// Its two-sided p-value.
    pub p_value: Vec<f64>,
}

/// Tests of some genes of all groups, by grouping (those of the first round come first) and group; `None` if a test of one of
/// the genes is undefined.
#[derive(Clone, Debug)]
pub struct TestedTile(Vec<Vec<Option<GeneTests>>>);

/// One gene's sums over the cells of a part.
#[derive(Clone, Copy, Default)]
struct PartSums {
    /// U without the cells whose value is 0.
    statistic: f64,
    sum: f64,
    /// Number of values other than 0.
    values: usize,
}

/// Space for one gene's walk, used again for the next.
#[derive(Default)]
struct WalkSpace {
    /// The keys of the controls.
    controls: Vec<u32>,
    /// The entries of the round's parts.
    entries: Vec<u64>,
    /// For each of them the number of controls below it.
    below: Vec<usize>,
    parts: Vec<PartSums>,
    /// Σ (t³ − t) of each group of each grouping, as far as the group's own values other than 0 add to it.
    ties: Vec<Vec<f64>>,
}

impl GroupTests {
    /// Tests of these parts; a round's groups are those that a part belongs to.
    ///
    /// # Panics
    /// If a round does not name a group for each part, or its controls have other genes.
    #[must_use]
    pub fn new(genes: usize, parts: Vec<CellRows>, rounds: Vec<TestRound>) -> Self {
        let fits = |round: &TestRound| {
            round.groupings.iter().all(|grouping| grouping.len() == parts.len()) && round.controls.genes() == genes
        };
        assert!(rounds.iter().all(fits), "a round is of the same parts and genes");
        Self { genes, parts, rounds }
    }

    /// The parts.
    #[must_use]
    pub fn parts(&self) -> &[CellRows] {
        &self.parts
    }

    /// All genes, in ranges that are tested one at a time.
    pub fn tiles(&self) -> impl Iterator<Item = Range<usize>> + Send + use<> {
        let values: usize = self.parts.iter().map(CellRows::values).sum();
        let tiles = values.div_ceil(TILE_VALUES).clamp(1, self.genes.max(1));
        let (genes, width) = (self.genes, self.genes.div_ceil(tiles).max(1));
        (0..genes).step_by(width).map(move |first| first..genes.min(first + width))
    }

    /// Tests some genes; values are ln(1 + x) of counts x, and the change is that of eᵐ − 1 for their means m.
    ///
    /// # Panics
    /// If one of the genes is beyond the last.
    #[must_use]
    pub fn test(&self, genes: Range<usize>) -> TestedTile {
        let (mut entries, ends) = self.entries(genes.clone());
        let (width, mut space) = (genes.len(), WalkSpace::default());
        let mut rounds: Vec<_> = self.rounds.iter().map(|round| round.start(&self.parts, width)).collect();
        let mut first = 0;
        for (gene, end) in genes.zip(ends) {
            let values = &mut entries[first..end];
            values.sort_unstable();
            for (round, (tests, cells)) in self.rounds.iter().zip(&mut rounds) {
                round.walk(gene, values, &mut space);
                round.add(gene, &space, cells, tests);
            }
            first = end;
        }
        TestedTile(rounds.into_iter().flat_map(|(tests, _)| tests).collect())
    }

    /// The tests of all genes, by grouping and group, from those of all [tiles](GroupTests::tiles) in their order.
    #[must_use]
    pub fn joined(tiles: Vec<TestedTile>) -> Vec<Vec<Option<GeneTests>>> {
        let mut tiles = tiles.into_iter();
        let mut all = tiles.next().map(|TestedTile(tests)| tests).unwrap_or_default();
        for TestedTile(tile) in tiles {
            for (all, more) in all.iter_mut().flatten().zip(tile.into_iter().flatten()) {
                match (&mut *all, more) {
                    (Some(all), Some(more)) => all.append(more),
                    (all, _) => *all = None,
                }
            }
        }
        all
    }

    /// The values of some genes that are not 0, gene by gene, each with its part behind it; and where those of each gene end.
    fn entries(&self, genes: Range<usize>) -> (Vec<u64>, Vec<usize>) {
        let range_of = |ids: &[u32]| {
            let start = ids.partition_point(|gene| (*gene as usize) < genes.start);
            start..start + ids[start..].partition_point(|gene| (*gene as usize) < genes.end)
        };
        let mut ends = vec![0; genes.len()];
        for (ids, _) in self.parts.iter().flat_map(CellRows::all) {
            ids[range_of(ids)].iter().for_each(|gene| ends[*gene as usize - genes.start] += 1);
        }
        let mut before = 0;
        for end in &mut ends {
            (*end, before) = (before, before + *end);
        }
        let mut entries = vec![0; before];
        for (part, rows) in (0_u64..).zip(&self.parts) {
            for (ids, values) in rows.all() {
                let range = range_of(ids);
                // Each start moves to its gene's end.
                for (gene, value) in ids[range.clone()].iter().zip(&values[range]) {
                    let place = &mut ends[*gene as usize - genes.start];
                    entries[*place] = u64::from(ordered(*value)) << 32 | part;
                    *place += 1;
                }
            }
        }
        (entries, ends)
    }
}

impl TestRound {
    /// Without tests, with space for this many genes, and the number of cells of each group.
    fn start(&self, parts: &[CellRows], genes: usize) -> (Vec<Vec<Option<GeneTests>>>, Vec<Vec<usize>>) {
        let cells_of = |grouping: &Vec<Option<usize>>| {
            let mut cells = vec![0; groups(grouping)];
            for (group, rows) in grouping.iter().zip(parts) {
                group.iter().for_each(|group| cells[*group] += rows.count());
            }
            cells
        };
        let empty = |grouping: &Vec<Option<usize>>| {
            (0..groups(grouping)).map(|_| Some(GeneTests::with_capacity(genes))).collect()
        };
        (self.groupings.iter().map(empty).collect(), self.groupings.iter().map(cells_of).collect())
    }

    /// Walks along a gene's sorted values and those of controls.
    fn walk(&self, gene: usize, values: &[u64], space: &mut WalkSpace) {
        let controls = self.controls.gene(gene);
        let zeros = controls.cells - controls.values.len();
        let WalkSpace { controls: keys, entries, below, parts, ties } = space;
        keys.clear();
        keys.extend(controls.values.iter().map(|value| ordered(*value)));
        entries.clear();
        let is_used = |part: usize| self.groupings.iter().any(|grouping| grouping[part].is_some());
        let used: Vec<bool> = (0..self.groupings.first().map_or(0, Vec::len)).map(is_used).collect();
        match used.iter().all(|is_used| *is_used) {
            true => entries.extend_from_slice(values),
            false => entries.extend(values.iter().filter(|entry| used[part_of(**entry)])),
        }
        count_below(keys, entries, below);
        parts.clear();
        parts.resize(used.len(), PartSums::default());
        ties.clear();
        ties.extend(self.groupings.iter().map(|grouping| vec![0.0; groups(grouping)]));
        let mut at = 0;
        while at < entries.len() {
            let (key, first) = (entries[at] >> 32, at);
            while entries.get(at).is_some_and(|entry| entry >> 32 == key) {
                at += 1;
            }
            let (value, below) = (number(entries[first]), below[first]);
            let equal = keys[below..].iter().take_while(|control| u64::from(**control) == key).count();
            let with_zeros = if value > 0.0 { below + zeros } else { below };
            let above = if value.is_nan() { f64::NAN } else { with_zeros as f64 + equal as f64 / 2.0 };
            let run = &entries[first..at];
            for entry in run {
                let sums = &mut parts[part_of(*entry)];
                sums.statistic += above;
                sums.sum += f64::from(value);
                sums.values += 1;
            }
            if run.len() + equal == 1 {
                continue;
            }
            for (grouping, ties) in self.groupings.iter().zip(&mut *ties) {
                let kept = run.iter().filter_map(|entry| grouping[part_of(*entry)]);
                let groups: Vec<usize> = kept.collect();
                for tied in groups.chunk_by(|a, b| a == b) {
                    ties[tied[0]] += cubed(tied.len() + equal) - cubed(equal);
                }
            }
        }
    }

    /// Tests a gene of every group after the walk along its values.
    fn add(&self, gene: usize, space: &WalkSpace, cells: &[Vec<usize>], tests: &mut [Vec<Option<GeneTests>>]) {
        let controls = self.controls.gene(gene);
        let control_mean = self.controls.means()[gene].exp_m1();
        let negative = controls.values.partition_point(|value| *value < 0.0);
        // Sorted by `total_cmp`, a NaN is at one of the ends.
        let has_nan =
            [controls.values.first(), controls.values.last()].into_iter().flatten().any(|value| value.is_nan());
        let zeros = controls.cells - controls.values.len();
        for ((grouping, ties), (cells, tests)) in self.groupings.iter().zip(&space.ties).zip(cells.iter().zip(tests)) {
            let mut sums = vec![PartSums::default(); cells.len()];
            for (group, part) in grouping.iter().zip(&space.parts) {
                let Some(group) = *group else { continue };
                sums[group].statistic += part.statistic;
                sums[group].sum += part.sum;
                sums[group].values += part.values;
            }
            for (((sums, ties), cells), all) in sums.iter().zip(ties).zip(cells).zip(tests) {
                let own_zeros = cells - sums.values;
                let of_zeros = own_zeros as f64 * (negative as f64 + zeros as f64 / 2.0);
                let ranks = RankSum {
                    statistic: if has_nan { f64::NAN } else { sums.statistic + of_zeros },
                    ties: controls.ties + cubed(own_zeros + zeros) + ties,
                    cells: [*cells, controls.cells],
                };
                match (all.as_mut(), ranks.test()) {
                    (Some(tests), Some(test)) => {
                        let mean = (sums.sum / *cells as f64).exp_m1();
                        tests.log2_fold_change.push(log2_fold_change(mean, control_mean));
                        tests.statistic.push(test.statistic);
                        tests.p_value.push(test.p_value);
                    }
                    _ => *all = None,
                }
            }
        }
    }
}

/// Number of groups of a grouping.
fn groups(grouping: &[Option<usize>]) -> usize {
    grouping.iter().flatten().max().map_or(0, |last| last + 1)
}

/// The number of controls below each entry; both are sorted.
fn count_below(controls: &[u32], entries: &[u64], below: &mut Vec<usize>) {
    below.clear();
    below.resize(entries.len(), 0);
    let (mut entry, mut control) = (0, 0);
    // Without branches that depend on values: a processor could not foresee them.
    while entry < entries.len() && control < controls.len() {
        let is_below = u64::from(controls[control]) < entries[entry] >> 32;
        below[entry] = control;
        control += usize::from(is_below);
        entry += usize::from(!is_below);
    }
    below[entry..].fill(controls.len());
}

impl GeneTests {
    /// Tests every gene of one group of cells; `None` if one of the tests is undefined.
    ///
    /// # Panics
    /// If the controls have fewer genes.
    #[must_use]
    pub fn new(cells: CellRows, controls: GeneColumns) -> Option<Self> {
        let genes = controls.genes();
        let round = TestRound { controls: Arc::new(controls), groupings: vec![vec![Some(0)]] };
        let tests = GroupTests::new(genes, vec![cells], vec![round]);
        let tiles = tests.tiles().map(|genes| tests.test(genes)).collect();
        GroupTests::joined(tiles).into_iter().flatten().next().flatten()
    }

    fn with_capacity(genes: usize) -> Self {
        let list = || Vec::with_capacity(genes);
        Self { log2_fold_change: list(), statistic: list(), p_value: list() }
    }

    fn append(&mut self, mut more: Self) {
        self.log2_fold_change.append(&mut more.log2_fold_change);
        self.statistic.append(&mut more.statistic);
        self.p_value.append(&mut more.p_value);
    }
}

/// t³ − t.
fn cubed(count: usize) -> f64 {
    (count as f64).powi(3) - count as f64
}

/// A whole number for each value, in the order of the values.
fn ordered(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// The part of an entry.
#[expect(clippy::cast_possible_truncation, reason = "the lower half has 32 bits")]
fn part_of(entry: u64) -> usize {
    entry as u32 as usize
}

/// The value of an entry.
fn number(entry: u64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "the upper half has 32 bits")]
    let ordered = (entry >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 0 { !ordered } else { ordered & !(1 << 31) })
}

#[cfg(test)]
mod tests {
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
        assert!(found[0][0].is_none() && found[0][1].is_some(), "one group's NaN is no other's");
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
}
