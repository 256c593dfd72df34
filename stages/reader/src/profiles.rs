//! Mean profiles of groups of cells, computed from a stream: evaluation compares predictions and baselines
//! with them.

use std::{ops::ControlFlow, sync::Arc};

use schemas::{batch::BatchPlan, conditions::CONTROL, ids::CellIndex, numbers::bounded};
use stage::{BoxError, Sink, pool::Pooled};
use statistics::{moments::Moments, scale::Scale};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    atlas::Atlas,
    groups::Groups,
    split::{Split, SplitPart},
};

/// Whether a cell belongs to the first half of its group; the same in every run.
///
/// Predictions start from the first half of the controls, and real changes are measured against the second;
/// the two halves of the held-out cells give the ceiling.
#[must_use]
pub fn first_half(cell: CellIndex) -> bool {
    xxh3_64(&cell.0.to_le_bytes()) & 1 == 0
}

/// The role of a cell's profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A training cell; of the controls, only those of the first half.
    Training,
    /// A control of the second half.
    Reference,
    /// An evaluated cell of the first half.
    FirstHalf,
    /// An evaluated cell of the second half.
    SecondHalf,
}

impl Use {
    /// The roles of a cell if cells of `judged` are evaluated; training cells may have two.
    pub fn for_cell(
        cell: CellIndex,
        is_control: bool,
        part: SplitPart,
        judged: SplitPart,
    ) -> impl Iterator<Item = Self> {
        let trains = part == SplitPart::Train;
        let half = if first_half(cell) { Self::FirstHalf } else { Self::SecondHalf };
        let uses = match is_control {
            true if !first_half(cell) => [Some(Self::Reference), None],
            true => [trains.then_some(Self::Training), None],
            false => [trains.then_some(Self::Training), (part == judged).then_some(half)],
        };
        uses.into_iter().flatten()
    }
}

/// The profiles of one group of the atlas; `None` for a role without cells.
#[derive(Clone, Debug, Default)]
pub struct GroupProfiles {
    /// Training cells; of the controls, only the first half.
    pub training: Option<Moments>,
    /// Controls of the second half.
    pub reference: Option<Moments>,
    /// Evaluated cells of each half.
    pub halves: [Option<Moments>; 2],
}

impl GroupProfiles {
    /// The same profiles, reduced to these genes.
    #[must_use]
    pub fn only(&self, genes: &[usize]) -> Self {
        let on_genes = |moments: &Option<Moments>| moments.as_ref().map(|moments| moments.only(genes));
        Self {
            training: on_genes(&self.training),
            reference: on_genes(&self.reference),
            halves: self.halves.each_ref().map(on_genes),
        }
    }
}

/// Rows of expression with their cells.
#[derive(Debug)]
pub struct ExpressionRows {
    /// Their cells.
    pub plan: BatchPlan,
    /// Their expression.
    pub expression: Pooled<schemas::batch::Expression>,
}

impl schemas::ByteSize for ExpressionRows {
    fn byte_size(&self) -> usize {
        self.plan.byte_size() + self.expression.byte_size()
    }
}

impl ExpressionRows {
    /// Each cell with its non-zero genes and their values.
    pub fn cells(&self) -> impl Iterator<Item = (CellIndex, (Vec<u32>, Vec<f64>))> + '_ {
        let mut entries: Vec<(Vec<u32>, Vec<f64>)> = vec![Default::default(); self.plan.cells.len()];
        self.expression.for_each(|row, gene, value| {
            entries[row].0.push(bounded(gene));
            entries[row].1.push(f64::from(value));
        });
        self.plan.cells.iter().copied().zip(entries)
    }
}

/// Sums profiles over a whole atlas.
#[derive(Debug)]
pub struct SumProfiles {
    atlas: Atlas,
    split: Arc<Split>,
    groups: Arc<Groups>,
    judged: SplitPart,
    scale: Scale,
    target_sum: f64,
    profiles: Vec<GroupProfiles>,
}

impl SumProfiles {
    /// Empty sums. On the pseudobulk scale, each cell's counts are scaled to the sum `target_sum`.
    #[must_use]
    pub fn new(
        atlas: &Atlas,
        split: Arc<Split>,
        groups: Arc<Groups>,
        judged: SplitPart,
        scale: Scale,
        target_sum: f64,
    ) -> Self {
        let profiles = vec![GroupProfiles::default(); groups.all().len()];
        Self { atlas: atlas.clone(), split, groups, judged, scale, target_sum, profiles }
    }

    fn add(&mut self, rows: &ExpressionRows) {
        let genes = self.atlas.genes().len();
        for (cell, (ids, mut values)) in rows.cells() {
            let codes = self.atlas.codes(cell);
            let Some(group) = self.groups.find(codes) else { continue };
            match self.scale {
                Scale::Log1p => values.iter_mut().for_each(|value| *value = value.ln_1p()),
                Scale::Pseudobulk => {
                    let sum: f64 = values.iter().sum();
                    values.iter_mut().for_each(|value| *value *= self.target_sum / sum.max(1.0));
                }
                Scale::Values => {}
            }
            let profiles = &mut self.profiles[group];
            for used in Use::for_cell(cell, codes[0] == CONTROL.0, self.split.part(cell), self.judged) {
                let moments = match used {
                    Use::Training => &mut profiles.training,
                    Use::Reference => &mut profiles.reference,
                    Use::FirstHalf => &mut profiles.halves[0],
                    Use::SecondHalf => &mut profiles.halves[1],
                };
                let moments = moments.get_or_insert_with(|| Moments::new(genes));
                moments.push_sparse(&ids, values.iter().copied());
            }
        }
    }
}

impl Sink for SumProfiles {
    type In = ExpressionRows;
    type Summary = Vec<GroupProfiles>;

    fn push(&mut self, rows: ExpressionRows) -> Result<ControlFlow<()>, BoxError> {
        self.add(&rows);
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Self::Summary, BoxError> {
        Ok(self.profiles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(cell: u64, is_control: bool, part: SplitPart, judged: SplitPart) -> Vec<Use> {
        Use::for_cell(CellIndex(cell), is_control, part, judged).collect()
    }

    #[test]
    fn a_control_is_source_or_reference_and_never_both() {
        for cell in 0..100 {
            let expected = if first_half(CellIndex(cell)) { Use::Training } else { Use::Reference };
            assert_eq!(uses(cell, true, SplitPart::Train, SplitPart::Ood), [expected]);
            assert_eq!(uses(cell, true, SplitPart::Train, SplitPart::Train), [expected]);
        }
    }

    #[test]
    fn a_cell_is_judged_where_its_part_is_and_trains_where_it_trained() {
        let half = if first_half(CellIndex(3)) { Use::FirstHalf } else { Use::SecondHalf };
        assert_eq!(uses(3, false, SplitPart::Ood, SplitPart::Ood), [half]);
        assert_eq!(uses(3, false, SplitPart::Train, SplitPart::Ood), [Use::Training]);
        assert_eq!(uses(3, false, SplitPart::Train, SplitPart::Train), [Use::Training, half]);
        assert_eq!(uses(3, false, SplitPart::Valid, SplitPart::Ood), []);
    }
}
