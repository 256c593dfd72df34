//! Samples cells of every group for comparison one by one: few enough that memory and the number of pairs of
//! cells stay bounded.

use std::{ops::ControlFlow, sync::Arc};

use reader::{atlas::Atlas, control_roles::first_half, profiles::ExpressionRows};
use schemas::{
    ByteSize,
    ids::CellIndex,
    numbers::{bounded, to_usize},
};
use stage::{BoxError, Sink};
use statistics::{axes::Axes, point_sets::PointSet};

/// Maximum number of cells per group.
const MOST_CELLS: u64 = 500;
/// Minimum number of cells per group, if it has as many.
const FEWEST_CELLS: u64 = 32;
/// Maximum number of pairs of cells within groups, over all groups: with many groups, each contributes fewer
/// cells.
const MOST_PAIRS: u64 = 10_000_000;

/// Number of cells per group, for this many groups.
#[must_use]
pub fn cells_per_group(groups: usize) -> u64 {
    (MOST_PAIRS / (groups as u64).max(1)).isqrt().clamp(FEWEST_CELLS, MOST_CELLS)
}

/// The chosen cells, and the group of each.
///
/// The choice depends only on the cells' positions in the atlas: of each group, a number of cells is chosen,
/// evenly spread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampledCells {
    /// A bit for each cell, the first ones lowest, and the number of chosen cells in all words before each: little memory, even
    /// if all of many cells are chosen.
    words: Vec<(u64, u32)>,
    /// The groups of the chosen cells, in their order.
    groups: Vec<u32>,
}

impl SampledCells {
    /// Chooses at most `most` cells of each of this many groups; `group_of` returns a cell's group, if it has
    /// one.
    #[must_use]
    pub fn choose(cells: u64, groups: usize, most: u64, group_of: impl Fn(CellIndex) -> Option<usize>) -> Self {
        let members = || (0..cells).map(CellIndex).filter_map(|cell| Some((cell, group_of(cell)?)));
        let mut counts = vec![0_u64; groups];
        members().for_each(|(_, group)| counts[group] += 1);
        let mut counted = vec![0_u64; groups];
        let chosen = members().filter(|(_, group)| {
            let (at, all) = (u128::from(counted[*group]), u128::from(counts[*group]));
            let sample = all.min(u128::from(most));
            counted[*group] += 1;
            at * sample / all != (at + 1) * sample / all
        });
        let mut sampled = Self {
            words: vec![(0, 0); to_usize(cells.div_ceil(64))],
            // Room for exactly these: a vector that grows would take twice as much.
            groups: Vec::with_capacity(to_usize(counts.iter().map(|count| most.min(*count)).sum::<u64>())),
        };
        for (cell, group) in chosen {
            sampled.words[to_usize(cell.0 / 64)].0 |= 1 << (cell.0 % 64);
            sampled.groups.push(bounded(group));
        }
        let mut before = 0;
        for (bits, rank) in &mut sampled.words {
            *rank = before;
            before += bits.count_ones();
        }
        sampled
    }

    /// The group for which a cell was chosen.
    #[must_use]
    pub fn group(&self, cell: CellIndex) -> Option<usize> {
        let (bits, before) = *self.words.get(to_usize(cell.0 / 64))?;
        let bit = 1_u64 << (cell.0 % 64);
        let at = before + (bits & (bit - 1)).count_ones();
        (bits & bit != 0).then(|| self.groups[at as usize] as usize)
    }

    /// The cells of a group, ascending.
    pub fn of_group(&self, group: usize) -> impl Iterator<Item = CellIndex> + '_ {
        let cells = (0..64 * self.words.len() as u64).map(CellIndex);
        cells.filter(move |cell| self.group(*cell) == Some(group))
    }

    /// Number of chosen cells of each of this many groups.
    ///
    /// # Panics
    /// If a cell is of a group beyond the last one.
    #[must_use]
    pub fn counts(&self, groups: usize) -> Vec<u64> {
        let mut counts = vec![0; groups];
        self.groups.iter().for_each(|group| counts[*group as usize] += 1);
        counts
    }

    /// Number of chosen cells.
    #[must_use]
    pub fn count(&self) -> usize {
        self.groups.len()
    }
}

/// Projects chosen cells, on any number of threads.
#[derive(Clone, Debug)]
pub struct ProjectCells {
    axes: Arc<Axes>,
    sampled: Arc<SampledCells>,
}

/// Cells as points, with their group and half.
#[derive(Debug)]
pub struct ProjectedCells(Vec<(usize, usize, Vec<f32>)>);

impl ByteSize for ProjectedCells {
    fn byte_size(&self) -> usize {
        self.0.iter().map(|(.., point)| 40 + 4 * point.len()).sum()
    }
}

impl ProjectCells {
    /// Projects these cells into this space.
    #[must_use]
    pub fn new(axes: Arc<Axes>, sampled: Arc<SampledCells>) -> Self {
        Self { axes, sampled }
    }

    /// The chosen cells of these rows.
    #[must_use]
    pub fn project(&self, rows: &ExpressionRows) -> ProjectedCells {
        let point = |(cell, (genes, values)): (CellIndex, (Vec<u32>, Vec<f64>))| {
            let group = self.sampled.group(cell)?;
            Some((group, usize::from(!first_half(cell)), self.axes.project(&genes, values)))
        };
        ProjectedCells(rows.cells().filter_map(point).collect())
    }
}

/// Gathers points, separately for the two halves of a group.
#[derive(Debug)]
pub struct GatherPoints {
    point_sets: Vec<[PointSet; 2]>,
}

impl GatherPoints {
    /// Starts without cells, for this many groups.
    #[must_use]
    pub fn new(axes: &Axes, groups: usize) -> Self {
        Self { point_sets: vec![[axes.empty_point_set(), axes.empty_point_set()]; groups] }
    }
}

impl Sink for GatherPoints {
    type In = ProjectedCells;
    type Summary = Vec<[PointSet; 2]>;

    fn push(&mut self, cells: ProjectedCells) -> Result<ControlFlow<()>, BoxError> {
        cells.0.iter().for_each(|(group, half, point)| self.point_sets[*group][*half].extend(point));
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Self::Summary, BoxError> {
        Ok(self.point_sets)
    }
}

/// The training cells from which the axes are computed: at most `most`, evenly spread.
#[must_use]
pub fn training_sample(atlas: &Atlas, most: u64, trains: impl Fn(CellIndex) -> bool) -> SampledCells {
    SampledCells::choose(atlas.cells(), 1, most, |cell| trains(cell).then_some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_gives_as_many_cells_as_it_may_evenly_spread() {
        let sampled = SampledCells::choose(100, 2, 5, |cell| (cell.0 != 50).then_some(usize::from(cell.0 < 4)));
        assert_eq!(sampled.of_group(1).map(|cell| cell.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let large: Vec<u64> = sampled.of_group(0).map(|cell| cell.0).collect();
        assert_eq!(large.len(), 5);
        assert!(large.windows(2).all(|pair| (18..=21).contains(&(pair[1] - pair[0]))), "{large:?}");
        assert_eq!((sampled.group(CellIndex(2)), sampled.group(CellIndex(50)), sampled.count()), (Some(1), None, 9));
    }

    #[test]
    fn many_groups_give_few_cells_each() {
        assert_eq!((cells_per_group(1), cells_per_group(40), cells_per_group(500)), (500, 500, 141));
        assert_eq!(cells_per_group(1_000_000), 32);
    }
}
