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

/// Controls that are compared at once.
const BLOCK: usize = 8;

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
    /// The keys of the controls, and behind them the largest, so that at least one block ends with it.
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
        keys.resize(BLOCK * (keys.len() / BLOCK + 1), u32::MAX);
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

/// The number of controls below each entry; both are sorted, and a block of controls ends with the largest key.
fn count_below(controls: &[u32], entries: &[u64], below: &mut Vec<usize>) {
    let (blocks, _) = controls.as_chunks::<BLOCK>();
    let mut block = 0;
    below.clear();
    below.extend(entries.iter().map(|entry| {
        while u64::from(blocks[block][BLOCK - 1]) < entry >> 32 {
            block += 1;
        }
        let within: u32 = blocks[block].iter().map(|control| u32::from(u64::from(*control) < entry >> 32)).sum();
        BLOCK * block + within as usize
    }));
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
    let ordered = (entry >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 0 { !ordered } else { ordered & !(1 << 31) })
}

#[cfg(test)]
mod tests;
