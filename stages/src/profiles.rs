//! Mean profiles of groups of cells, streamed: what evaluation compares predictions and baselines with.

use std::{ops::ControlFlow, sync::Arc};

use schemas::{batch::BatchPlan, conditions::CONTROL, ids::CellIndex};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    BoxError, Sink,
    atlas::Atlas,
    evaluate::{Moments, Scale},
    groups::Groups,
    recycle::Pooled,
    split::{Part, Split},
};

/// Which half of a group a cell falls into: the same for every run.
///
/// Controls of the first half are what predictions start from, those of the second what real changes are taken against;
/// of held-out cells the halves give the ceiling.
#[must_use]
pub fn first_half(cell: CellIndex) -> bool {
    xxh3_64(&cell.0.to_le_bytes()) & 1 == 0
}

/// What a cell's profile is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A training cell, or a training control of the first half.
    Training,
    /// A control of the second half.
    Reference,
    /// A judged cell of the first half.
    FirstHalf,
    /// A judged cell of the second half.
    SecondHalf,
    /// Not looked at.
    Nothing,
}

impl Use {
    /// What a cell is for when cells of `judged` are judged.
    #[must_use]
    pub fn of(cell: CellIndex, is_control: bool, part: Part, judged: Part) -> Self {
        match (is_control, part) {
            (true, _) if !first_half(cell) => Self::Reference,
            (_, Part::Train) => Self::Training,
            (true, _) => Self::Nothing,
            (false, part) if part == judged && first_half(cell) => Self::FirstHalf,
            (false, part) if part == judged => Self::SecondHalf,
            (false, _) => Self::Nothing,
        }
    }
}

/// The profiles of one group of the atlas; what no cell was for is none.
#[derive(Clone, Debug, Default)]
pub struct GroupProfiles {
    /// Training cells; of controls, the first half.
    pub training: Option<Moments>,
    /// Controls of the second half.
    pub reference: Option<Moments>,
    /// Judged cells of either half.
    pub halves: [Option<Moments>; 2],
}

/// Rows of expression with their cells.
#[derive(Debug)]
pub struct Rows {
    /// Their cells.
    pub plan: BatchPlan,
    /// Their expression.
    pub expression: Pooled<schemas::batch::Expression>,
}

impl schemas::ByteSize for Rows {
    fn byte_size(&self) -> usize {
        self.plan.byte_size() + self.expression.byte_size()
    }
}

/// Sums profiles over a whole atlas.
#[derive(Debug)]
pub struct SumProfiles {
    atlas: Atlas,
    split: Arc<Split>,
    groups: Arc<Groups>,
    judged: Part,
    scale: Scale,
    target_sum: f64,
    profiles: Vec<GroupProfiles>,
}

impl SumProfiles {
    /// Empty sums; `target_sum` is what each cell's counts are scaled to on the pseudobulk scale.
    #[must_use]
    pub fn new(
        atlas: &Atlas,
        split: Arc<Split>,
        groups: Arc<Groups>,
        judged: Part,
        scale: Scale,
        target_sum: f64,
    ) -> Self {
        let profiles = vec![GroupProfiles::default(); groups.all().len()];
        Self { atlas: atlas.clone(), split, groups, judged, scale, target_sum, profiles }
    }

    fn add(&mut self, rows: &Rows) {
        let mut entries: Vec<(Vec<u32>, Vec<f64>)> = vec![Default::default(); rows.plan.cells.len()];
        rows.expression.for_each(|row, gene, value| {
            entries[row].0.push(u32::try_from(gene).unwrap_or(u32::MAX));
            entries[row].1.push(f64::from(value));
        });
        let genes = self.atlas.genes().len();
        for (cell, (ids, mut values)) in rows.plan.cells.iter().zip(entries) {
            let codes = self.atlas.codes(*cell);
            let is_control = codes[0] == CONTROL.0;
            let used = Use::of(*cell, is_control, self.split.part(*cell), self.judged);
            let Some(group) = self.groups.find(codes).filter(|_| used != Use::Nothing) else { continue };
            match self.scale {
                Scale::Log1p => values.iter_mut().for_each(|value| *value = value.ln_1p()),
                Scale::Pseudobulk => {
                    let sum: f64 = values.iter().sum();
                    values.iter_mut().for_each(|value| *value *= self.target_sum / sum.max(1.0));
                }
                Scale::Values => {}
            }
            let profiles = &mut self.profiles[group];
            let moments = match used {
                Use::Training => &mut profiles.training,
                Use::Reference => &mut profiles.reference,
                Use::FirstHalf => &mut profiles.halves[0],
                Use::SecondHalf | Use::Nothing => &mut profiles.halves[1],
            };
            let moments = moments.get_or_insert_with(|| Moments::new(genes));
            moments.push_sparse(&ids, values);
        }
    }
}

impl Sink for SumProfiles {
    type In = Rows;
    type Summary = Vec<GroupProfiles>;

    fn push(&mut self, rows: Rows) -> Result<ControlFlow<()>, BoxError> {
        self.add(&rows);
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Self::Summary, BoxError> {
        Ok(self.profiles)
    }
}
