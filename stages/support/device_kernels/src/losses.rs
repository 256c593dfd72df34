//! Measurements of steps, accumulated on the device (`cuda/losses.cuh`).

use schemas::numbers::to_i64;
use tch::{Device, Kind, Tensor};
use torch::launch::{Address, arguments};

use super::run;

/// Maximum number of measurements per step: `MOST_LOSSES` in the source.
const MOST_LOSSES: usize = 64;
const THREADS: u32 = 64;

arguments! {
    AddLossesArguments<'a>, "add_losses" {
        losses: [Address<'a>; MOST_LOSSES],
        singles: [Address<'a>; MOST_LOSSES],
        sums: Address<'a>,
        batch: Address<'a>,
        count: i64,
    }
}

/// Sums of the measurements of steps of one kind, on the device: `[66]`, float64. The sums are followed by the number of steps
/// and the first batch with a measurement that is not finite.
#[derive(Debug)]
pub struct LossSums(Tensor);

/// Sums read from [`LossSums`].
#[derive(Debug)]
pub struct SummedLosses {
    /// The sums, in the order in which the measurements were added.
    pub sums: Vec<f64>,
    /// Number of steps.
    pub steps: f64,
    /// The first batch with a measurement that is not finite; infinite if there is none.
    pub first_bad: f64,
}

impl LossSums {
    /// Empty sums.
    pub fn new(device: Device) -> Self {
        let sums = Self(Tensor::zeros([to_i64(MOST_LOSSES + 2)], (Kind::Double, device)));
        sums.clear();
        sums
    }

    fn clear(&self) {
        let _ = self.0.shallow_clone().zero_();
        let _ = self.0.select(0, to_i64(MOST_LOSSES + 1)).fill_(f64::INFINITY);
    }

    /// Adds the measurements of a step, scalars of one type or of float32; `batch`, a scalar, int64, is the
    /// number of its batch.
    pub fn add(&self, numbers: &[&Tensor], batch: &Tensor) {
        assert!(numbers.len() <= MOST_LOSSES, "a kernel takes {MOST_LOSSES} numbers at most");
        let Some(like) = numbers.first() else { return };
        let (mut losses, mut singles) = ([Address::none(); MOST_LOSSES], [Address::none(); MOST_LOSSES]);
        for (at, number) in numbers.iter().enumerate() {
            let of_kind = if number.kind() == like.kind() { &mut losses } else { &mut singles };
            of_kind[at] = Address::from_tensor(number);
        }
        let arguments = AddLossesArguments {
            losses,
            singles,
            sums: Address::from_tensor_mut(&self.0),
            batch: Address::from_tensor(batch),
            count: to_i64(numbers.len()),
        };
        run(&arguments, like, 1, THREADS, 0);
    }

    /// Reads this many sums, and resets them.
    pub fn take(&self, numbers: usize) -> SummedLosses {
        let read: Vec<f64> = Vec::try_from(self.0.to_device(Device::Cpu)).expect("numbers of float64");
        self.clear();
        SummedLosses { sums: read[..numbers].to_vec(), steps: read[MOST_LOSSES], first_bad: read[MOST_LOSSES + 1] }
    }
}
