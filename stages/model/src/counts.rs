//! Step counts of an optimiser, kept on its device, because a step replayed as a graph counts there.

use schemas::numbers::to_i64;
use tch::{Device, Kind, Tensor};

/// A count for each parameter.
#[derive(Debug)]
pub(super) struct Counts {
    /// Number of steps of each parameter, `[parameters]`, float32.
    steps: Tensor,
}

impl Counts {
    /// The counts of parameters, on a device.
    pub(super) fn new(steps: &[i64], device: Device) -> Self {
        let mut counts = Self { steps: Tensor::zeros([to_i64(steps.len())], (Kind::Float, device)) };
        counts.restore(steps);
        counts
    }

    /// Sets the counts of parameters.
    pub(super) fn restore(&mut self, steps: &[i64]) {
        tch::no_grad(|| self.steps.copy_(&Tensor::from_slice(steps)));
    }

    /// All counts, `[parameters]`.
    pub(super) fn all(&self) -> Tensor {
        self.steps.shallow_clone()
    }

    /// The count of a parameter, a scalar on the device.
    pub(super) fn of_slot(&self, slot: usize) -> Tensor {
        self.steps.select(0, to_i64(slot))
    }
}
