//! Reference controls: those from which real changes are measured. Nothing learns from them, so that the noise of
//! their mean is on one side of a comparison alone.

use std::collections::BTreeMap;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use schemas::{conditions::CONTROL, ids::CellIndex, numbers::to_usize};

use super::SplitPart;
use crate::atlas::Atlas;

/// Fewest reference controls of a context, if it has at least twice as many controls.
const FEWEST: u64 = 20;
/// Most reference controls of a context: with more, the noise of their mean is far below that of any condition.
const MOST: u64 = 2_000;

/// Sets this share of each context's training controls apart, drawn from the seed: at least 20 (half of the
/// controls, if there are fewer than 40), at most 2,000.
///
/// A context is a combination of covariate values without the batch.
pub(super) fn set_apart(atlas: &Atlas, parts: &mut [SplitPart], share: f64, seed: u64) {
    let mut controls: BTreeMap<&[u32], Vec<CellIndex>> = BTreeMap::new();
    let all = (0..atlas.cells()).map(CellIndex);
    for cell in all.filter(|cell| atlas.condition(*cell) == CONTROL && parts[cell.index()] == SplitPart::Train) {
        controls.entry(atlas.context(cell)).or_default().push(cell);
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x4ef_e4e);
    for cells in controls.values_mut() {
        let count = count(cells.len() as u64, share);
        let (chosen, _) = cells.partial_shuffle(&mut random, to_usize(count));
        chosen.iter().for_each(|cell| parts[cell.index()] = SplitPart::Reference);
    }
}

/// The number of reference controls among this many controls.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a count fits a count"
)]
fn count(controls: u64, share: f64) -> u64 {
    if share == 0.0 {
        return 0;
    }
    let wanted = (controls as f64 * share).round() as u64;
    wanted.max(FEWEST.min(controls / 2)).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_set_apart_within_bounds() {
        let counts = [0, 1, 2, 10, 60, 200, 100_000].map(|controls| count(controls, 0.25));
        assert_eq!(counts, [0, 0, 1, 5, 20, 50, 2_000]);
        assert_eq!([count(60, 0.0), count(60, 0.5)], [0, 30]);
    }
}
