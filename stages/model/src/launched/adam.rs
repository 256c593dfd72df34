//! A step of Adam with custom kernels.

use device_kernels::adam::{AdamParameter, AdamStepSettings, step};
use tch::{Kind, Tensor};

use torch::host_copy::transposed_if;

use crate::{
    loss_term::LossTerm,
    network::Network,
    optimiser::{Adam, BETA_1, BETA_2, EPSILON},
    step::StepLosses,
};

impl Adam {
    /// [`Adam::step`] with a rate on the device, a scalar of float64.
    /// It also updates a network's rounded copies of parameters.
    pub(super) fn launch_step(&mut self, gradients: &[Tensor], rate: &Tensor, network: &Network) -> Tensor {
        let Some(counts) = &self.counts else { panic!("the counts of steps are on the device") };
        let slots = self.slots.iter().zip(gradients).enumerate().filter(|(_, (_, gradient))| gradient.defined());
        let slots = slots.map(|(at, (slot, gradient))| {
            // Weights stored by input are contiguous when transposed; their gradients and state have the same layout.
            let is_turned = !slot.parameter.is_contiguous();
            AdamParameter {
                parameter: transposed_if(&slot.parameter, is_turned),
                gradient: transposed_if(gradient, is_turned).contiguous(),
                first: transposed_if(&slot.first, is_turned),
                second: transposed_if(&slot.second, is_turned),
                steps: counts.of_slot(at),
                rounded: network.rounded(&slot.parameter).map(|copy| transposed_if(copy, is_turned)),
            }
        });
        let slots: Vec<AdamParameter> = slots.collect();
        if slots.is_empty() {
            return Tensor::zeros([], (Kind::Float, rate.device()));
        }
        step(
            &slots,
            AdamStepSettings {
                rate,
                betas: [BETA_1, BETA_2],
                weight_decay: self.weight_decay,
                is_decoupled: self.decoupled,
                epsilon: EPSILON,
                clip: self.clip,
            },
        )
    }
}

impl StepLosses {
    /// Records a step of an optimiser, and the norm of its gradients.
    pub(super) fn add_step(&mut self, adam: &Adam, norm: &Tensor) {
        self.add(LossTerm::Norm(adam.learned()), norm);
        self.updates += 1;
    }
}
