//! Steps on the CPU with kernels instead of libtorch's operations.
//!
//! The large parts are computed by hand, forward and backward: the hidden layers of encoder and decoder (`chain`), where the
//! encoder's first layer reads only the non-zeros; softmax, negative binomial likelihood and its gradient in one pass; Adam in one
//! pass. The parts between encoder and decoder are small and have many variants (embeddings, doses, mixup, adversaries): they use
//! automatic differentiation, from the encoder's last activations to the decoded latent. Adversaries are again computed
//! by hand (`classifiers`), with their gradient penalty in closed form (`penalty`).
//!
//! The results are equal to those of [`Plain`] up to rounding, except for different dropout draws.
//! Unsupported settings fall back to [`Plain`].

mod adam;
mod chain;
mod classifiers;
mod likelihood;
mod penalty;
mod pieces;

use std::marker::PhantomData;

use stage::workers::Workers;
use tch::{Device, Kind, Tensor};
use torch::{OneThread, memory::TensorNumber};

use self::{
    chain::{DropoutSeeds, FusedForwardPass, HiddenInput, log1p},
    likelihood::LastLayer,
    pieces::SparseCells,
};
use super::{
    draws::StepDraws,
    gradients::{Gradients, is_among},
    input::{Cells, Input},
    loss_term::LossTerm,
    network::Network,
    optimiser::Adam,
    plain::Plain,
    schedule::Schedule,
    step::{Engine, Learner, Sides, StepArguments, StepLosses, take_step},
};

/// Steps by kernels on the CPU, for networks that decode negative binomials. The result of a step is the same for any number of
/// threads.
#[derive(Clone, Debug, Default)]
pub struct Fused {
    workers: Workers,
}

impl Fused {
    /// Steps whose large operations are shared with these workers.
    #[must_use]
    pub fn new(workers: Workers) -> Self {
        Self { workers }
    }

    /// Why a network is not supported; `None` if it is.
    #[must_use]
    pub fn lacks(network: &Network) -> Option<&'static str> {
        if network.parameters.device() != Device::Cpu {
            return Some("it computes on the CPU only");
        }
        if network.decoder.negative_binomial().is_none() {
            return Some("it supports no reconstruction loss but nb");
        }
        let layers = [network.encoder.hidden(), network.decoder.hidden()];
        let passes = layers.into_iter().all(FusedForwardPass::supports);
        (!passes).then_some("it supports at most one norm per hidden layer")
    }
}

impl Engine for Fused {
    fn one_thread(&self) -> Option<OneThread> {
        Some(OneThread::hold())
    }

    fn step(&self, learner: &mut Learner, input: &Input, draws: &StepDraws, schedule: Schedule) -> StepLosses {
        if Self::lacks(&learner.network).is_some() {
            return Plain.step(learner, input, draws, schedule);
        }
        let _one_thread = self.one_thread();
        match learner.network.parameters.kind() {
            Kind::Double => take_step(&FusedSides::<f64>::new(&self.workers), learner, input, draws, schedule),
            _ => take_step(&FusedSides::<f32>::new(&self.workers), learner, input, draws, schedule),
        }
    }
}

/// The two sides of a step, in one number type.
struct FusedSides<'a, T> {
    workers: &'a Workers,
    number: PhantomData<T>,
}

impl<'a, T: TensorNumber> FusedSides<'a, T> {
    fn new(workers: &'a Workers) -> Self {
        Self { workers, number: PhantomData }
    }

    fn adam_step(&self) -> impl Fn(&mut Adam, &[Tensor], f64) -> Tensor {
        |adam, gradients, rate| adam.step_in_pieces::<T>(self.workers, gradients, rate)
    }

    fn encode(&self, network: &'a Network, cells: &Cells, seeds: &mut DropoutSeeds) -> FusedForwardPass<'a> {
        let entry = HiddenInput::Sparse(SparseCells::new(cells, &log1p::<T>(&cells.values)), cells.shape[1]);
        FusedForwardPass::forward::<T>(self.workers, network.encoder.hidden(), entry, seeds)
    }

    /// The loss of cells with these latents; given `found`, records the gradients with respect to the decoder's
    /// parameters, and returns the one with respect to the latents.
    fn reconstruct(
        &self,
        network: &Network,
        latent: &Tensor,
        Input { cells, offset, .. }: &Input,
        seeds: &mut DropoutSeeds,
        found: Option<&mut Gradients>,
    ) -> (Tensor, Option<Tensor>) {
        let _no_grad = tch::no_grad_guard();
        let Some((scale, dispersion)) = network.decoder.negative_binomial() else {
            unreachable!("`Fused::lacks` has looked at the decoder")
        };
        let entry = HiddenInput::Dense(latent.contiguous());
        let decoded = FusedForwardPass::forward::<T>(self.workers, network.decoder.hidden(), entry, seeds);
        let last = LastLayer { logits: scale, dispersion };
        let (loss, slopes) = last.loss::<T>(self.workers, decoded.output(), (cells, offset.as_ref()), found.is_some());
        let loss = Tensor::from(loss).to_kind(T::KIND);
        let Some((found, slopes)) = found.zip(slopes) else { return (loss, None) };
        found.add(dispersion, || slopes.by_dispersion);
        found.add(&scale.bias, || slopes.by_bias);
        found.add(&scale.weight, || slopes.by_weight);
        (loss, decoded.backward::<T>(slopes.by_hidden, found))
    }
}

impl<T: TensorNumber> Sides for FusedSides<'_, T> {
    fn basal(&self, network: &Network, cells: &Cells, draws: &StepDraws) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let encoded = self.encode(network, cells, &mut DropoutSeeds::drawn());
        network.encoder.of_hidden(encoded.output(), draws.noise.as_ref()).latent
    }

    fn autoencoder(
        &self,
        learner: &mut Learner,
        given: StepArguments<'_>,
        learns: bool,
        losses: &mut StepLosses,
    ) -> Tensor {
        let StepArguments { input, draws, schedule } = given;
        let _grad = (!learns).then(tch::no_grad_guard);
        let (network, mut seeds) = (&learner.network, DropoutSeeds::drawn());
        let encoded = self.encode(network, &input.cells, &mut seeds);
        let top = encoded.output().detach().set_requires_grad(learns);
        let latent = network.latent_of(network.encoder.of_hidden(&top, draws.noise.as_ref()), input, draws);
        let z = latent.after();
        let mut found = Gradients::none();
        let (recon, slope) = self.reconstruct(network, &z.detach(), input, &mut seeds, learns.then_some(&mut found));
        losses.add(LossTerm::Reconstruction, &recon);
        // Its gradient is that of the reconstruction; its value is unused.
        let total = match &slope {
            Some(slope) => (&z * slope).sum(T::KIND),
            None => recon,
        };
        let total = losses.with_divergence(total, &latent.basal, schedule);
        let basal = latent.basal.latent.detach();
        if !learns {
            return basal;
        }
        let total = losses.less_adversaries(total, &learner.adversaries, schedule, |adversaries| {
            let (basal, mixup) = (&latent.basal.latent, draws.mixup.as_ref());
            match classifiers::supports(adversaries) {
                true => classifiers::results_for_latents::<T>(self.workers, adversaries, basal, input, mixup),
                false => adversaries.classify(basal, input, mixup, false),
            }
        });
        let parameters = [learner.autoencoder_adam.parameters(), learner.doser_adam.parameters()];
        // The parameters without automatic differentiation; those of the encoder come last.
        let of_encoder = network.encoder.hidden().parameters();
        let others: Vec<&Tensor> =
            parameters.concat().into_iter().filter(|parameter| !is_among(parameter, &of_encoder)).collect();
        if let Some(slope) = found.add_others(&total, Some(&top), &others) {
            encoded.backward::<T>(slope, &mut found);
        }
        drop(encoded);
        let [autoencoder, doser] = parameters.map(|parameters| found.for_parameters(&parameters));
        learner.autoencoder_learns((&autoencoder, &doser), schedule, losses, self.adam_step());
        basal
    }

    fn adversaries(&self, learner: &mut Learner, basal: &Tensor, given: StepArguments<'_>, losses: &mut StepLosses) {
        if !classifiers::supports(&learner.adversaries) {
            return Plain.adversaries(learner, basal, given, losses);
        }
        let StepArguments { input, draws, schedule } = given;
        let (adversaries, plan) = (&learner.adversaries, &learner.plan.adversary);
        let (verdict, mut found) = classifiers::results_with_gradients::<T>(
            self.workers,
            adversaries,
            basal,
            input,
            draws.mixup.as_ref(),
            plan.pen_adv,
        );
        losses.judged(verdict);
        let gradients = found.for_parameters(&learner.adversary_adam.parameters());
        let rate = plan.adv_lr * schedule.rate;
        losses.learned(&mut learner.adversary_adam, &gradients, rate, self.adam_step());
    }
}
