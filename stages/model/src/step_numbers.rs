//! The inputs of a step other than its batch, which are transferred with it: rates and weights from the schedule, a seed, and for each
//! cell its offset row, the cell that it is decoded from, and how it is mixed.

use device_kernels::mixing::Mixing;
use schemas::numbers::{bounded, to_i64};
use tch::{Kind, Tensor};

use crate::schedule::Schedule;

/// Numbers before those of the cells.
const FIXED: usize = 8;
/// Numbers per cell: its offset row, the cell it is decoded from, its mixup partner, and the cell whose partner it is.
const OF_CELL: usize = 4;

/// A single number, by position.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    /// Learning rates of the optimisers.
    AutoencoderRate,
    DoserRate,
    AdversaryRate,
    /// Weights of losses.
    AdversaryWeight,
    DivergenceWeight,
    /// The dropout seed.
    Seed,
    /// The number of the batch in its epoch.
    Batch,
    /// A mixed cell's own share.
    Share,
}

/// Views of these inputs on the device.
#[derive(Debug)]
pub(crate) struct Controls {
    /// `[8 + 4 · cells]`, int64; float64 numbers are stored by their bits.
    numbers: Tensor,
    cells: i64,
}

/// The host's side of [`Controls`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepNumbers<'a> {
    /// Learning rates of autoencoder, dose curves and adversaries.
    pub(crate) rates: [f64; 3],
    pub(crate) schedule: Schedule,
    pub(crate) seed: u64,
    /// Each cell's offset row, and the cell from which it is decoded; empty if unused.
    pub(crate) rows: &'a [i64],
    pub(crate) sources: &'a [i64],
    /// Each cell's mixup partner, and its own share.
    pub(crate) mixup: Option<(&'a [i64], f64)>,
}

/// Mixes bits so that every output bit depends on every input bit, including the low bits that kernels use:
/// seeds of two epochs differ only in high bits (the finaliser of splitmix64, Steele et al. 2014).
fn mixed(seed: u64) -> u64 {
    let bits = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl StepNumbers<'_> {
    /// Writes the numbers to a buffer of [`Controls::numbers`].
    pub(crate) fn write(&self, numbers: &mut [i64]) {
        let schedule = self.schedule;
        let weights = [schedule.adversary_weight, schedule.divergence_weight];
        let fixed = self.rates.into_iter().chain(weights).map(f64::to_bits);
        let share = self.mixup.map_or(1.0, |(_, share)| share).to_bits();
        let (first, of_cells) = numbers.split_at_mut(FIXED);
        for (number, bits) in first.iter_mut().zip(fixed.chain([mixed(self.seed), schedule.batch, share])) {
            *number = bits.cast_signed();
        }
        let (rows, rest) = of_cells.split_at_mut(of_cells.len() / OF_CELL);
        let (sources, rest) = rest.split_at_mut(rows.len());
        let (partners, partner_of) = rest.split_at_mut(rows.len());
        rows[..self.rows.len()].copy_from_slice(self.rows);
        sources[..self.sources.len()].copy_from_slice(self.sources);
        if let Some((given, _)) = self.mixup {
            partners.copy_from_slice(given);
            for (cell, partner) in (0_i64..).zip(given) {
                partner_of[bounded::<usize>(*partner)] = cell;
            }
        }
    }
}

impl Controls {
    /// Number of numbers for this many cells.
    pub(crate) const fn numbers(cells: usize) -> usize {
        FIXED + OF_CELL * cells
    }

    /// Views of these numbers, int64, of a step on this many cells.
    pub(crate) fn new(numbers: Tensor, cells: i64) -> Self {
        Self { numbers, cells }
    }

    /// A number of float64, a scalar.
    pub(crate) fn number(&self, control: Control) -> Tensor {
        self.whole(control).view_dtype(Kind::Double)
    }

    /// An integer, a scalar of int64.
    pub(crate) fn whole(&self, control: Control) -> Tensor {
        self.numbers.select(0, control as i64)
    }

    /// The offset row of each cell, `[cells]`.
    pub(crate) fn rows(&self) -> Tensor {
        self.of_cells(0)
    }

    /// The cell from which each cell is decoded, `[cells]`.
    pub(crate) fn sources(&self) -> Tensor {
        self.of_cells(1)
    }

    /// How cells are mixed.
    pub(crate) fn mixing(&self) -> Mixing {
        Mixing { partners: self.of_cells(2), partner_of: self.of_cells(3), share: self.number(Control::Share) }
    }

    fn of_cells(&self, part: i64) -> Tensor {
        self.numbers.narrow(0, to_i64(FIXED) + part * self.cells, self.cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_that_differ_in_high_bits_alone_drop_other_activations() {
        let low = |epoch: u64| mixed(7 ^ (epoch << 40)) & 0xffff_ffff;
        assert!(low(0) != low(1) && low(1) != low(2) && low(0) != low(2));
    }
}
