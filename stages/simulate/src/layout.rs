//! The condition and cell type of each cell: group sizes are fixed beforehand, positions are computed and not
//! stored.

use std::ops::Range;

use super::random::{Permutation, Purpose, Random};

/// The share of cells that are controls.
const CONTROL_SHARE: f64 = 0.2;

/// Spread (on the log scale) of the sizes of conditions.
const SIZE_SPREAD: f64 = 0.4;

/// Cells in groups: one group for each variant (a condition at its doses) and cell type; variants are the
/// outer loop.
#[derive(Clone, Debug)]
pub(super) struct CellLayout {
    seed: u64,
    cell_types: usize,
    /// The start of each variant, and the end; variant 0 is control.
    variant_bounds: Vec<u64>,
    /// The start of each group, and the end.
    group_bounds: Vec<u64>,
    /// The order of all cells; `None` if they stay sorted by variant.
    shuffle: Option<Permutation>,
}

impl CellLayout {
    pub(super) fn new(seed: u64, cells: u64, variants: usize, cell_types: usize, sorted: bool) -> Self {
        let mut random = Random::new(seed, Purpose::GroupSizes, 0);
        let others: Vec<f64> = (1..variants).map(|_| random.normal(SIZE_SPREAD).exp()).collect();
        let control = others.iter().sum::<f64>() * CONTROL_SHARE / (1.0 - CONTROL_SHARE);
        let weights: Vec<f64> = [control].into_iter().chain(others).collect();
        let variant_bounds = divide(0..cells, &weights);
        let type_weights: Vec<f64> = (0..cell_types).map(|at| 1.0 / (1.0 + 0.4 * at as f64)).collect();
        let mut group_bounds = vec![0];
        for pair in variant_bounds.windows(2) {
            group_bounds.extend(divide(pair[0]..pair[1], &type_weights).into_iter().skip(1));
        }
        let shuffle = (!sorted).then(|| Permutation::new(cells, &mut Random::new(seed, Purpose::Order, 0)));
        Self { seed, cell_types, variant_bounds, group_bounds, shuffle }
    }

    pub(super) fn groups(&self) -> usize {
        self.group_bounds.len() - 1
    }

    /// Number of cells in a group.
    pub(super) fn size(&self, group: usize) -> u64 {
        self.group_bounds[group + 1] - self.group_bounds[group]
    }

    /// The variant and the cell type of a group.
    pub(super) fn meaning(&self, group: usize) -> (usize, usize) {
        (group / self.cell_types, group % self.cell_types)
    }

    /// The group of a cell.
    pub(super) fn group_of(&self, cell: u64) -> usize {
        let place = match &self.shuffle {
            Some(shuffle) => shuffle.at(cell),
            None => self.mixed_within_variant(cell),
        };
        self.group_bounds.partition_point(|bound| *bound <= place) - 1
    }

    /// Mixes cell types within a variant, because files that are sorted by condition still have their cell types
    /// mixed.
    fn mixed_within_variant(&self, cell: u64) -> u64 {
        let variant = self.variant_bounds.partition_point(|bound| *bound <= cell) - 1;
        let (start, end) = (self.variant_bounds[variant], self.variant_bounds[variant + 1]);
        let mut random = Random::new(self.seed, Purpose::OrderWithin, variant as u64);
        start + Permutation::new(end - start, &mut random).at(cell - start)
    }
}

/// Divides a range in proportion to weights; returns the bounds of the parts.
fn divide(range: Range<u64>, weights: &[f64]) -> Vec<u64> {
    let total: f64 = weights.iter().sum();
    let length = range.end - range.start;
    let mut bounds = vec![range.start];
    let mut sum = 0.0;
    for weight in weights {
        sum += weight;
        bounds.push(range.start + rounded(length as f64 * sum / total).min(length));
    }
    if let Some(last) = bounds.last_mut() {
        *last = range.end;
    }
    bounds
}

#[expect(clippy::cast_possible_truncation, reason = "a share of a count that is itself a u64")]
fn rounded(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_belongs_to_one_group_and_sizes_hold_in_either_order() {
        for sorted in [true, false] {
            let layout = CellLayout::new(3, 1000, 6, 3, sorted);
            let mut counts = vec![0; layout.groups()];
            let groups: Vec<usize> = (0..1000).map(|cell| layout.group_of(cell)).collect();
            groups.iter().for_each(|group| counts[*group] += 1);
            let sizes: Vec<u64> = (0..layout.groups()).map(|group| layout.size(group)).collect();
            assert_eq!(counts, sizes);
            let variants: Vec<usize> = groups.iter().map(|group| layout.meaning(*group).0).collect();
            assert_eq!(variants.is_sorted(), sorted);
            assert!(!groups.is_sorted(), "cell types are mixed in either order");
        }
    }

    #[test]
    fn a_fifth_of_the_cells_is_control() {
        let layout = CellLayout::new(3, 10_000, 30, 2, true);
        assert_eq!(layout.size(0) + layout.size(1), 2000);
    }
}
