//! Adam in one pass over each parameter, cut into pieces that worker threads share.

use kernels::adam::AdamStep;
use simd::widest;
use stage::workers::Workers;
use tch::Tensor;
use torch::{
    host_copy::transposed_if,
    memory::{TensorNumber, numbers, numbers_mut},
};

use super::pieces::ranges;
use crate::optimiser::{Adam, BETA_1, BETA_2, EPSILON};

/// Fewest numbers of a piece.
const FEWEST_NUMBERS: i64 = 1 << 15;

/// Consecutive numbers of one parameter, with their moments and gradients.
struct ParameterPiece {
    parameter: Tensor,
    first: Tensor,
    second: Tensor,
    gradient: Tensor,
    /// Steps of this parameter, including this one.
    steps: i32,
}

impl Adam {
    /// [`Adam::step`] on the CPU.
    pub(super) fn step_in_pieces<T: TensorNumber>(
        &mut self,
        workers: &Workers,
        gradients: &[Tensor],
        learning_rate: f64,
    ) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let norms =
            gradients.iter().filter(|gradient| gradient.defined()).map(|gradient| gradient.norm().double_value(&[]));
        let norm = norms.map(|norm| norm * norm).sum::<f64>().sqrt();
        let scale = if self.clip == 0.0 { 1.0 } else { (self.clip / (norm + 1e-6)).min(1.0) };
        let weight_decay = self.coupled_decay(gradients, learning_rate);
        let mut pieces = Vec::new();
        for (slot, gradient) in self.slots.iter_mut().zip(gradients).filter(|(_, gradient)| gradient.defined()) {
            slot.steps += 1;
            // Weights stored by input are contiguous when transposed; the state has the same layout.
            let is_turned = !slot.parameter.is_contiguous();
            let lying = |tensor: &Tensor| transposed_if(&tensor.detach(), is_turned);
            let [parameter, first, second] =
                [&slot.parameter, &slot.first, &slot.second].map(|tensor| lying(tensor).view([-1]));
            let gradient = lying(gradient).contiguous().view([-1]);
            let lines = ranges(parameter.size()[0], FEWEST_NUMBERS).map(|(start, count)| {
                let [parameter, first, second, gradient] =
                    [&parameter, &first, &second, &gradient].map(|line| line.narrow(0, start, count));
                ParameterPiece { parameter, first, second, gradient, steps: slot.steps }
            });
            pieces.extend(lines);
        }
        workers.map(pieces, move |mut piece| {
            widest(AdamStep {
                parameter: numbers_mut::<T>(&mut piece.parameter),
                first: numbers_mut::<T>(&mut piece.first),
                second: numbers_mut::<T>(&mut piece.second),
                gradient: numbers::<T>(&piece.gradient),
                scale: T::from_f64(scale),
                weight_decay: T::from_f64(weight_decay),
                shares: [T::from_f64(1.0 - BETA_1), T::from_f64(1.0 - BETA_2)],
                rate: T::from_f64(learning_rate / (1.0 - BETA_1.powi(piece.steps))),
                second_scale: T::from_f64(1.0 / (1.0 - BETA_2.powi(piece.steps)).sqrt()),
                epsilon: T::from_f64(EPSILON),
            });
        });
        Tensor::from(norm).to_kind(T::KIND)
    }
}
