//! Step counts of an optimiser, kept on its device, because a step replayed as a graph counts there.

use schemas::numbers::to_i64;
use tch::{Device, Kind, Tensor};

use super::optimiser::ParameterState;

/// A count for each parameter.
#[derive(Debug)]
pub(super) struct Counts {
    /// Number of steps of each parameter, `[parameters]`, float32.
    steps: Tensor,
}

impl Counts {
    /// The counts of parameters, on their device.
    pub(super) fn new(slots: &[ParameterState]) -> Self {
        let device = slots.first().map_or(Device::Cpu, |slot| slot.parameter.device());
        let count = to_i64(slots.len());
        let mut counts = Self { steps: Tensor::zeros([count], (Kind::Float, device)) };
        counts.restore(slots);
        counts
    }

    /// Sets the counts of parameters.
    pub(super) fn restore(&mut self, slots: &[ParameterState]) {
        let counts: Vec<i64> = slots.iter().map(|slot| i64::from(slot.steps)).collect();
        tch::no_grad(|| self.steps.copy_(&Tensor::from_slice(&counts)));
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
