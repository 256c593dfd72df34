//! Mean profiles of groups of cells, computed from a stream: evaluation compares predictions and baselines
//! with them.

use std::{ops::ControlFlow, sync::Arc};

use schemas::{batch::BatchPlan, conditions::CONTROL, ids::CellIndex};
use stage::{BoxError, Sink, pool::Pooled};
use statistics::{blocks::BlockSums, compared::ComparedGenes, moments::Moments, scale::Scale};

use crate::{
    atlas::Atlas,
    control_roles::{ControlRoles, block, first_half},
    groups::Groups,
    split::{Split, SplitPart},
};

/// A use of a cell's profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// A training cell; of the controls, those from which predictions start.
    Training,
    /// A control from which real changes are measured.
    Reference,
    /// An evaluated cell of the first half.
    FirstHalf,
    /// An evaluated cell of the second half.
    SecondHalf,
}

/// The uses of a perturbed cell if cells of `judged` are evaluated.
fn uses_of_perturbed(cell: CellIndex, part: SplitPart, judged: SplitPart) -> impl Iterator<Item = Use> {
    let half = if first_half(cell) { Use::FirstHalf } else { Use::SecondHalf };
    let trains = (part == SplitPart::Train).then_some(Use::Training);
    trains.into_iter().chain((part == judged).then_some(half))
}

/// The profiles of one group of the atlas; `None` for a role without cells.
#[derive(Clone, Debug, Default)]
pub struct GroupProfiles {
    /// Training cells; of the controls, those from which predictions start.
    pub training: Option<Moments>,
    /// Controls from which real changes are measured.
    pub reference: Option<Moments>,
    /// Evaluated cells of each half.
    pub halves: [Option<Moments>; 2],
    /// Evaluated cells, or reference controls, in blocks.
    pub blocks: Option<BlockSums>,
}

impl GroupProfiles {
    /// The same profiles, reduced to these genes.
    #[must_use]
    pub fn only(&self, genes: &[usize]) -> Self {
        let of = |moments: &Option<Moments>| moments.as_ref().map(|moments| moments.only(genes));
        Self {
            training: of(&self.training),
            reference: of(&self.reference),
            halves: self.halves.each_ref().map(of),
            blocks: self.blocks.as_ref().map(|blocks| blocks.only(genes)),
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
        self.plan.cells.iter().enumerate().map(|(row, cell)| (*cell, self.expression.row(row)))
    }
}

/// Rows of expression on the scale of profiles, of compared genes.
#[derive(Debug)]
pub struct ScaledRows(Vec<(CellIndex, Vec<u32>, Vec<f64>)>);

impl schemas::ByteSize for ScaledRows {
    fn byte_size(&self) -> usize {
        self.0.iter().map(|(_, genes, values)| 64 + genes.byte_size() + values.byte_size()).sum()
    }
}

/// Puts rows on the scale of profiles, on any number of threads.
#[derive(Clone, Debug)]
pub struct ScaleRows {
    scale: Scale,
    compared: Arc<ComparedGenes>,
}

impl ScaleRows {
    /// Keeps the compared genes.
    #[must_use]
    pub fn new(scale: Scale, compared: Arc<ComparedGenes>) -> Self {
        Self { scale, compared }
    }

    /// The rows on the scale.
    #[must_use]
    pub fn convert(&self, rows: &ExpressionRows) -> ScaledRows {
        let scaled = |(cell, (mut genes, mut values)): (CellIndex, (Vec<u32>, Vec<f64>))| {
            self.scale.convert_cell(&mut values);
            self.compared.keep(&mut genes, &mut values);
            (cell, genes, values)
        };
        ScaledRows(rows.cells().map(scaled).collect())
    }
}

/// Sums profiles over a whole atlas.
#[derive(Debug)]
pub struct SumProfiles {
    atlas: Atlas,
    split: Arc<Split>,
    groups: Arc<Groups>,
    roles: Arc<ControlRoles>,
    judged: SplitPart,
    /// Number of genes.
    genes: usize,
    profiles: Vec<GroupProfiles>,
}

impl SumProfiles {
    /// Empty sums of this many genes.
    #[must_use]
    pub fn new(
        atlas: &Atlas,
        split: Arc<Split>,
        groups: Arc<Groups>,
        roles: Arc<ControlRoles>,
        judged: SplitPart,
        genes: usize,
    ) -> Self {
        let profiles = vec![GroupProfiles::default(); groups.all().len()];
        Self { atlas: atlas.clone(), split, groups, roles, judged, genes, profiles }
    }

    fn uses(&self, cell: CellIndex) -> Vec<Use> {
        let part = self.split.part(cell);
        if self.atlas.condition(cell) != CONTROL {
            return uses_of_perturbed(cell, part, self.judged).collect();
        }
        let source = self.roles.is_source(cell, part).then_some(Use::Training);
        source.into_iter().chain(self.roles.is_reference(cell, part).then_some(Use::Reference)).collect()
    }

    fn add(&mut self, ScaledRows(rows): ScaledRows) {
        let genes = self.genes;
        for (cell, ids, values) in rows {
            let codes = self.atlas.codes(cell);
            let Some(group) = self.groups.find(codes) else { continue };
            let uses = self.uses(cell);
            let profiles = &mut self.profiles[group];
            if uses.iter().any(|used| *used != Use::Training) {
                let blocks = profiles.blocks.get_or_insert_with(|| BlockSums::new(genes));
                blocks.push_sparse(block(cell), &ids, values.iter().copied());
            }
            for used in uses {
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
    type In = ScaledRows;
    type Summary = Vec<GroupProfiles>;

    fn push(&mut self, rows: ScaledRows) -> Result<ControlFlow<()>, BoxError> {
        self.add(rows);
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Self::Summary, BoxError> {
        Ok(self.profiles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_judged_where_its_part_is_and_trains_where_it_trained() {
        let uses = |part, judged| uses_of_perturbed(CellIndex(3), part, judged).collect::<Vec<_>>();
        let half = if first_half(CellIndex(3)) { Use::FirstHalf } else { Use::SecondHalf };
        assert_eq!(uses(SplitPart::Ood, SplitPart::Ood), [half]);
        assert_eq!(uses(SplitPart::Train, SplitPart::Ood), [Use::Training]);
        assert_eq!(uses(SplitPart::Train, SplitPart::Train), [Use::Training, half]);
        assert_eq!(uses(SplitPart::Valid, SplitPart::Ood), []);
    }
}
