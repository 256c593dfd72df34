//! Which controls predictions start from, and which controls real changes are measured from.
//!
//! If a model learns from the controls that real changes are measured from, the noise of their mean is in the
//! prediction and in the truth, and both correlate even where no perturbation does anything. So real changes are
//! measured from controls that nothing learned from, wherever a split has them.

use std::collections::HashMap;

use schemas::{conditions::CONTROL, ids::CellIndex, numbers::to_usize};
use statistics::blocks::BLOCKS;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    atlas::Atlas,
    split::{Split, SplitPart},
};

/// With fewer reference controls than this, and less than a quarter of the training controls, their mean is too
/// noisy.
const FEWEST: u64 = 10;

/// Whether a cell belongs to the first half of its group; the same in every run.
#[must_use]
pub fn first_half(cell: CellIndex) -> bool {
    xxh3_64(&cell.0.to_le_bytes()) & 1 == 0
}

/// The block of a cell, for resampling: one of [`BLOCKS`], the same in every run.
#[must_use]
pub fn block(cell: CellIndex) -> usize {
    // The last bit decides the half.
    to_usize(xxh3_64(&cell.0.to_le_bytes()) >> 1) % BLOCKS
}

/// How the controls of a context are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Division {
    /// Predictions start from training controls, and references are the controls of held-out cells, together with
    /// those set apart as such.
    HeldOut,
    /// Predictions start from training controls, and references are all other controls, of validation too.
    Untrained,
    /// The context has no training controls: both halves of the others are used.
    UntrainedHalves,
    /// Too few controls were left out of the training: predictions start from half of the training controls, and
    /// the other half is among the references.
    TrainedHalves,
}

impl Division {
    /// Divides a context with this many controls in each part.
    fn new(controls: [u64; 4]) -> Self {
        let of = |part: SplitPart| controls[part as usize];
        let trained = of(SplitPart::Train);
        let held_out = of(SplitPart::Ood) + of(SplitPart::Reference);
        let are_enough = |references: u64| references > 0 && (references >= FEWEST || references * 4 >= trained);
        match trained {
            0 => Self::UntrainedHalves,
            _ if are_enough(held_out) => Self::HeldOut,
            _ if are_enough(held_out + of(SplitPart::Valid)) => Self::Untrained,
            _ => Self::TrainedHalves,
        }
    }
}

/// The role of every control in an evaluation.
#[derive(Clone, Debug)]
pub struct ControlRoles {
    atlas: Atlas,
    divisions: HashMap<Vec<u32>, Division>,
}

impl ControlRoles {
    /// Decides the roles, for each context (covariates without the batch) on its own.
    #[must_use]
    pub fn new(atlas: &Atlas, split: &Split) -> Self {
        let mut controls: HashMap<Vec<u32>, [u64; 4]> = HashMap::new();
        for cell in (0..atlas.cells()).map(CellIndex).filter(|cell| atlas.condition(*cell) == CONTROL) {
            let context = atlas.context(cell);
            if !controls.contains_key(context) {
                controls.insert(context.to_vec(), [0; 4]);
            }
            if let Some(counts) = controls.get_mut(context) {
                counts[split.part(cell) as usize] += 1;
            }
        }
        let divisions = controls.into_iter().map(|(context, counts)| (context, Division::new(counts))).collect();
        Self { atlas: atlas.clone(), divisions }
    }

    /// Whether predictions start from this control.
    ///
    /// # Panics
    /// If the cell is not a control.
    #[must_use]
    pub fn is_source(&self, cell: CellIndex, part: SplitPart) -> bool {
        let trained = part == SplitPart::Train;
        match self.division(cell) {
            Division::HeldOut | Division::Untrained => trained,
            Division::UntrainedHalves => first_half(cell),
            Division::TrainedHalves => trained && first_half(cell),
        }
    }

    /// Whether real changes are measured from this control.
    ///
    /// # Panics
    /// If the cell is not a control.
    #[must_use]
    pub fn is_reference(&self, cell: CellIndex, part: SplitPart) -> bool {
        match self.division(cell) {
            Division::HeldOut => matches!(part, SplitPart::Ood | SplitPart::Reference),
            Division::Untrained => part != SplitPart::Train,
            Division::UntrainedHalves | Division::TrainedHalves => !first_half(cell),
        }
    }

    /// Whether nothing learned from any reference control of this context.
    #[must_use]
    pub fn is_strict(&self, context: &[u32]) -> bool {
        self.divisions.get(context) != Some(&Division::TrainedHalves)
    }

    fn division(&self, cell: CellIndex) -> Division {
        self.divisions[self.atlas.context(cell)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_controls_that_were_not_trained_on_if_there_are_enough() {
        // Training, validation, held out, set apart.
        assert_eq!(Division::new([100, 20, 0, 30]), Division::HeldOut);
        assert_eq!(Division::new([100, 20, 30, 0]), Division::HeldOut, "a split from elsewhere");
        assert_eq!(Division::new([6, 0, 0, 2]), Division::HeldOut, "a quarter of few controls");
        assert_eq!(Division::new([100, 20, 3, 0]), Division::Untrained);
        assert_eq!(Division::new([100, 3, 3, 0]), Division::TrainedHalves);
        assert_eq!(Division::new([100, 0, 0, 0]), Division::TrainedHalves);
        assert_eq!(Division::new([0, 5, 40, 0]), Division::UntrainedHalves);
    }
}
