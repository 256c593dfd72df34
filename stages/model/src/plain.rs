//! Steps with libtorch's operations.

use tch::Tensor;

use super::{
    draws::StepDraws,
    input::{Cells, Input},
    layers::Mode,
    loss_term::LossTerm,
    losses::reconstruction,
    network::Network,
    optimiser::Adam,
    recomputed,
    schedule::Schedule,
    step::{Engine, Learner, Sides, StepArguments, StepLosses, take_step},
};

/// Steps with libtorch's operations and automatic differentiation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Engine for Plain {
    fn step(&self, learner: &mut Learner, input: &Input, draws: &StepDraws, schedule: Schedule) -> StepLosses {
        take_step(self, learner, input, draws, schedule)
    }
}

impl Sides for Plain {
    fn basal(&self, network: &Network, cells: &Cells, draws: &StepDraws) -> Tensor {
        tch::no_grad(|| network.basal(cells, Mode::Train, draws.noise.as_ref()).latent)
    }

    fn autoencoder(
        &self,
        learner: &mut Learner,
        given: StepArguments<'_>,
        learns: bool,
        losses: &mut StepLosses,
    ) -> Tensor {
        if learns && learner.plan.train.checkpointing {
            return recomputed::autoencoder(learner, given, losses);
        }
        let StepArguments { input, draws, schedule } = given;
        let _grad = (!learns).then(tch::no_grad_guard);
        let latent = learner.network.latent(input, Mode::Train, draws);
        let output =
            learner.network.decode(&latent.after(), input.offsets().as_ref(), &input.cells.library, Mode::Train);
        let recon = reconstruction(&output, &input.cells);
        losses.add(LossTerm::Reconstruction, &recon);
        let total = losses.with_divergence(recon, &latent.basal, schedule);
        let basal = latent.basal.latent.detach();
        if !learns {
            return basal;
        }
        let total = losses.less_adversaries(total, &learner.adversaries, schedule, |adversaries| {
            adversaries.classify(&latent.basal.latent, input, draws.mixup.as_ref(), false)
        });
        let mut parameters = learner.autoencoder_adam.parameters();
        let autoencoder_count = parameters.len();
        parameters.extend(learner.doser_adam.parameters());
        let gradients = Tensor::run_backward(&[total], &parameters, false, false);
        let (autoencoder, doser) = gradients.split_at(autoencoder_count);
        learner.autoencoder_learns((autoencoder, doser), schedule, losses, Adam::step);
        basal
    }

    fn adversaries(&self, learner: &mut Learner, basal: &Tensor, given: StepArguments<'_>, losses: &mut StepLosses) {
        let StepArguments { input, draws, schedule } = given;
        let verdict = learner.adversaries.classify(basal, input, draws.mixup.as_ref(), true);
        let total = match &verdict.penalty {
            Some(penalty) => &verdict.loss + penalty * learner.plan.adversary.pen_adv,
            None => verdict.loss.shallow_clone(),
        };
        losses.judged(verdict);
        let gradients = Tensor::run_backward(&[total], &learner.adversary_adam.parameters(), false, false);
        let rate = learner.plan.adversary.adv_lr * schedule.rate;
        losses.learned(&mut learner.adversary_adam, &gradients, rate, Adam::step);
    }
}
