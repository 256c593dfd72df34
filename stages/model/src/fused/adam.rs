//! Adam in one pass over each parameter.

use kernels::adam::AdamStep;
use simd::widest;
use tch::Tensor;
use torch::memory::{TensorNumber, numbers, numbers_mut};

use crate::optimiser::{Adam, BETA_1, BETA_2, EPSILON};

impl Adam {
    /// [`Adam::step`] on the CPU.
    pub(super) fn step_at_once<T: TensorNumber>(&mut self, gradients: &[Tensor], learning_rate: f64) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let norms =
            gradients.iter().filter(|gradient| gradient.defined()).map(|gradient| gradient.norm().double_value(&[]));
        let norm = norms.map(|norm| norm * norm).sum::<f64>().sqrt();
        let scale = if self.clip == 0.0 { 1.0 } else { (self.clip / (norm + 1e-6)).min(1.0) };
        let weight_decay = self.coupled_decay(gradients, learning_rate);
        for (slot, gradient) in self.slots.iter_mut().zip(gradients).filter(|(_, gradient)| gradient.defined()) {
            slot.steps += 1;
            // Weights stored by input are contiguous when transposed; the state has the same layout.
            let turned = !slot.parameter.is_contiguous();
            let lying = |tensor: &Tensor| if turned { tensor.tr() } else { tensor.shallow_clone() };
            widest(AdamStep {
                parameter: numbers_mut::<T>(&mut lying(&slot.parameter)),
                first: numbers_mut::<T>(&mut lying(&slot.first)),
                second: numbers_mut::<T>(&mut lying(&slot.second)),
                gradient: numbers::<T>(&lying(gradient).contiguous()),
                scale: T::from_f64(scale),
                weight_decay: T::from_f64(weight_decay),
                shares: [T::from_f64(1.0 - BETA_1), T::from_f64(1.0 - BETA_2)],
                rate: T::from_f64(learning_rate / (1.0 - BETA_1.powi(slot.steps))),
                second_scale: T::from_f64(1.0 / (1.0 - BETA_2.powi(slot.steps)).sqrt()),
                epsilon: T::from_f64(EPSILON),
            });
        }
        Tensor::from(norm).to_kind(T::KIND)
    }
}
