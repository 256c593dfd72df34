//! What steps measure is added up where it is (`cuda/losses.cuh`).

use tch::{Device, Kind, Tensor};

use super::run;
use crate::libtorch::launch::{Address, arguments};

/// How many numbers a step measures at most: `MOST_LOSSES` of the source.
const MOST_LOSSES: usize = 64;
const THREADS: u32 = 64;
/// The first bad batch where there is none.
pub(crate) const NO_BATCH: i64 = i64::MAX;

arguments! {
    AddLosses<'a>, "add_losses" {
        losses: [Address<'a>; MOST_LOSSES],
        singles: [Address<'a>; MOST_LOSSES],
        sums: Address<'a>,
        steps: Address<'a>,
        first_bad: Address<'a>,
        batch: Address<'a>,
        count: i64,
    }
}

/// Sums of the numbers that steps of one kind measure, on the device.
#[derive(Debug)]
pub(crate) struct LossSums {
    /// `[numbers]`, float64.
    pub(crate) sums: Tensor,
    /// How many steps were added up, and the first batch that measured something that is not finite, or [`NO_BATCH`]: `[2]`, int64.
    pub(crate) steps: Tensor,
}

impl LossSums {
    /// Of so many numbers, nothing yet.
    pub(crate) fn new(numbers: usize, device: Device) -> Self {
        let numbers = i64::try_from(numbers).expect("a step measures few numbers");
        let sums = Self {
            sums: Tensor::zeros([numbers], (Kind::Double, device)),
            steps: Tensor::zeros([2], (Kind::Int64, device)),
        };
        sums.clear();
        sums
    }

    /// Forgets what was added.
    pub(crate) fn clear(&self) {
        let _ = self.sums.shallow_clone().zero_();
        let _ = self.steps.narrow(0, 0, 1).zero_();
        let _ = self.steps.narrow(0, 1, 1).fill_(NO_BATCH);
    }

    /// Adds the numbers of a step, scalars of one kind or of float32, that learned from a batch of this number, a scalar, int64.
    pub(crate) fn add(&self, numbers: &[&Tensor], batch: &Tensor) {
        assert!(numbers.len() <= MOST_LOSSES, "a kernel takes {MOST_LOSSES} numbers at most");
        let kind = numbers.first().map_or(Kind::Float, |first| first.kind());
        let (mut losses, mut singles) = ([Address::none(); MOST_LOSSES], [Address::none(); MOST_LOSSES]);
        for (at, number) in numbers.iter().enumerate() {
            match number.kind() == kind {
                true => losses[at] = Address::of(number),
                false => singles[at] = Address::of(number),
            }
        }
        let (steps, first_bad) = (self.steps.narrow(0, 0, 1), self.steps.narrow(0, 1, 1));
        let arguments = AddLosses {
            losses,
            singles,
            sums: Address::mut_of(&self.sums),
            steps: Address::mut_of(&steps),
            first_bad: Address::mut_of(&first_bad),
            batch: Address::of(batch),
            count: i64::try_from(numbers.len()).expect("there are few"),
        };
        // The kernel reads numbers of this kind.
        let like = numbers.first().expect("a step measures something");
        run(&arguments, like, 1, THREADS, 0);
    }
}
