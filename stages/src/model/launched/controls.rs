//! The inputs of a step other than its batch, copied to the device at once: rates and weights from the schedule, a seed, and for each
//! cell its offset row and the cell that it is decoded from.

use schemas::{
    Result,
    numbers::{bounded, to_i64},
};
use tch::{Device, Kind, Tensor};

use crate::{
    device_kernels::mixing::Mixing,
    libtorch,
    model::{memory::numbers_mut, schedule::Schedule},
};

/// Numbers before those of the cells.
const FIXED: usize = 8;
/// Numbers per cell: its offset row, the cell it is decoded from, its mixup partner, and the cell whose partner it is.
const OF_CELL: usize = 4;

/// A single number, by position.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) enum Control {
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
    /// The own share of a mixed cell.
    Share,
}

/// A buffer on the device from which steps read these inputs, rewritten before each step.
#[derive(Debug)]
pub(in crate::model) struct Controls {
    /// `[8 + 4 · cells]`, int64; float64 numbers are stored by their bits.
    place: Tensor,
    cells: i64,
}

/// The host's side of [`Controls`].
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Given<'a> {
    /// Learning rates of autoencoder, dose curves and adversaries.
    pub(in crate::model) rates: [f64; 3],
    pub(in crate::model) schedule: Schedule,
    pub(in crate::model) seed: u64,
    /// Each cell's offset row, and the cell it is decoded from; empty if unused.
    pub(in crate::model) rows: &'a [i64],
    pub(in crate::model) sources: &'a [i64],
    /// Each cell's mixup partner, and its own share.
    pub(in crate::model) mixup: Option<(&'a [i64], f64)>,
}

/// Every output bit depends on every input bit, including the low bits that kernels use: seeds of two epochs differ only in high bits (the
/// finaliser of splitmix64, Steele et al. 2014).
fn mixed(seed: u64) -> u64 {
    let bits = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Controls {
    /// A buffer for steps on this many cells.
    pub(in crate::model) fn new(cells: i64, device: Device) -> Self {
        let numbers = to_i64(FIXED) + to_i64(OF_CELL) * cells;
        Self { place: Tensor::zeros([numbers], (Kind::Int64, device)), cells }
    }

    /// Copies the inputs of a step there, on this thread's stream; the host does not wait.
    ///
    /// # Errors
    /// Out of pinned memory, or a lost device.
    pub(in crate::model) fn put(&mut self, given: Given<'_>) -> Result<()> {
        let mut bytes = libtorch::pinned(self.place.numel() * size_of::<i64>())?;
        let numbers: &mut [i64] = bytemuck::cast_slice_mut(numbers_mut::<u8>(&mut bytes));
        let schedule = given.schedule;
        let weights = [schedule.adversary_weight, schedule.divergence_weight];
        let fixed = given.rates.into_iter().chain(weights).map(f64::to_bits);
        let share = given.mixup.map_or(1.0, |(_, share)| share).to_bits();
        let (first, of_cells) = numbers.split_at_mut(FIXED);
        for (number, bits) in first.iter_mut().zip(fixed.chain([mixed(given.seed), schedule.batch, share])) {
            *number = bits.cast_signed();
        }
        let (rows, rest) = of_cells.split_at_mut(of_cells.len() / OF_CELL);
        let (sources, rest) = rest.split_at_mut(rows.len());
        let (partners, partner_of) = rest.split_at_mut(rows.len());
        rows[..given.rows.len()].copy_from_slice(given.rows);
        sources[..given.sources.len()].copy_from_slice(given.sources);
        if let Some((given, _)) = given.mixup {
            partners.copy_from_slice(given);
            for (cell, partner) in (0_i64..).zip(given) {
                partner_of[bounded::<usize>(*partner)] = cell;
            }
        }
        let is_fixed = given.rows.is_empty() && given.sources.is_empty() && given.mixup.is_none();
        let count = if is_fixed { to_i64(FIXED) } else { self.place.size()[0] };
        libtorch::copy(&mut self.place.narrow(0, 0, count), &bytes.view_dtype(Kind::Int64).narrow(0, 0, count))
    }

    /// A number of float64, a scalar.
    pub(in crate::model) fn number(&self, control: Control) -> Tensor {
        self.whole(control).view_dtype(Kind::Double)
    }

    /// An integer, a scalar of int64.
    pub(in crate::model) fn whole(&self, control: Control) -> Tensor {
        self.place.select(0, control as i64)
    }

    /// The offset row of each cell, `[cells]`.
    pub(in crate::model) fn rows(&self) -> Tensor {
        self.of_cells(0)
    }

    /// The cell that each is decoded from, `[cells]`.
    pub(in crate::model) fn sources(&self) -> Tensor {
        self.of_cells(1)
    }

    /// How cells are mixed.
    pub(in crate::model) fn mixing(&self) -> Mixing {
        Mixing { partners: self.of_cells(2), partner_of: self.of_cells(3), share: self.number(Control::Share) }
    }

    fn of_cells(&self, part: i64) -> Tensor {
        self.place.narrow(0, to_i64(FIXED) + part * self.cells, self.cells)
    }

    pub(in crate::model) fn shallow_clone(&self) -> Self {
        Self { place: self.place.shallow_clone(), cells: self.cells }
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
