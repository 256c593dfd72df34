//! What the host gives a step beside its batch, brought to the device as one copy: rates and weights by the schedule, a seed, and of each
//! cell the row of its offset and the cell that it is decoded from.

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

/// Numbers before those of cells.
const FIXED: usize = 8;
/// Numbers of a cell: the row of its offset, the cell that it is decoded from, the one that it is mixed with, and whose other one it is.
const OF_CELL: usize = 4;

/// A number of its own, at its place.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) enum Control {
    /// Learning rates of the optimisers.
    AutoencoderRate,
    DoserRate,
    AdversaryRate,
    /// Weights of losses.
    AdversaryWeight,
    DivergenceWeight,
    /// What dropout is drawn with.
    Seed,
    /// The number of the batch in its epoch.
    Batch,
    /// The share that a mixed cell keeps of itself.
    Share,
}

/// A place on the device where steps find these, which each step fills anew.
#[derive(Debug)]
pub(in crate::model) struct Controls {
    /// `[8 + 4 · cells]`, int64: numbers of float64 stand in it by their bits.
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
    /// The row of each cell's offset, and the cell that each is decoded from; empty where there are none.
    pub(in crate::model) rows: &'a [i64],
    pub(in crate::model) sources: &'a [i64],
    /// The cell that each is mixed with, and the share that it keeps of itself.
    pub(in crate::model) mixup: Option<(&'a [i64], f64)>,
}

/// Every bit depends on every other, the low ones that kernels take too: seeds of two epochs differ in high bits alone (the finaliser of
/// splitmix64, Steele et al. 2014).
fn mixed(seed: u64) -> u64 {
    let bits = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Controls {
    /// A place for steps on so many cells.
    pub(in crate::model) fn new(cells: i64, device: Device) -> Self {
        let numbers = to_i64(FIXED) + to_i64(OF_CELL) * cells;
        Self { place: Tensor::zeros([numbers], (Kind::Int64, device)), cells }
    }

    /// Brings the numbers of a step there, by this thread's stream; the host does not wait.
    ///
    /// # Errors
    /// No pinned memory is left, or a device that is gone.
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

    /// A whole number, a scalar of int64.
    pub(in crate::model) fn whole(&self, control: Control) -> Tensor {
        self.place.select(0, control as i64)
    }

    /// The row of each cell's offset, `[cells]`.
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
