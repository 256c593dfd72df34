//! One step of training: the autoencoder against its adversaries.

use std::{collections::BTreeMap, path::Path};

use schemas::{Result, config::Plan};
use tch::{Device, Kind, Tensor};

use super::{
    adversary::Adversaries, input::Input, layers::Mode, losses::reconstruction, network::Network, optimiser::Adam,
    schedule::Schedule,
};
use crate::vocabulary::Vocabulary;

/// Network, adversaries and the state of their optimisers.
#[derive(Debug)]
pub struct Learner {
    /// The autoencoder.
    pub network: Network,
    /// Its adversaries.
    pub adversaries: Adversaries,
    autoencoder_adam: Adam,
    doser_adam: Adam,
    adversary_adam: Adam,
    plan: Plan,
}

/// What a step measured, each a scalar on the device; a part that did not run is none.
#[derive(Debug, Default)]
pub struct StepLosses {
    /// Reconstruction loss.
    pub recon: Option<Tensor>,
    /// The adversaries' loss.
    pub adversary: Option<Tensor>,
    /// Their gradient penalty.
    pub penalty: Option<Tensor>,
    /// How often they guessed the combination.
    pub accuracy: Option<Tensor>,
}

impl Learner {
    /// A learner with fresh parameters, drawn from `plan.seed`.
    #[must_use]
    pub fn new(plan: &Plan, genes: u32, vocabulary: &Vocabulary, kind: Kind, device: Device) -> Self {
        tch::manual_seed(i64::from_ne_bytes(plan.seed.to_ne_bytes()));
        let network = Network::new(&plan.model, genes, vocabulary, kind, device);
        let adversaries = Adversaries::new(&plan.adversary, plan.model.n_latent, vocabulary, kind, device);
        let clip = plan.train.gradient_clip_value;
        let learned = || network.parameters.learned().iter();
        Self {
            autoencoder_adam: Adam::new(
                "autoencoder",
                learned().filter(|(name, _)| !Network::is_doser(name)),
                plan.train.wd,
                clip,
            ),
            doser_adam: Adam::new(
                "doser",
                learned().filter(|(name, _)| Network::is_doser(name)),
                plan.train.doser_wd,
                clip,
            ),
            adversary_adam: Adam::new(
                "adversary",
                adversaries.parameters.learned().iter(),
                plan.adversary.adv_wd,
                clip,
            ),
            network,
            adversaries,
            plan: plan.clone(),
        }
    }

    /// Learns from a batch, the `index`th of the run.
    ///
    /// Before the adversaries start, and with `adv_steps = 0`, both sides learn from every batch; otherwise the autoencoder
    /// learns from one of `adv_steps` batches and the adversaries from the others.
    pub fn step(&mut self, input: &Input, index: u64, schedule: Schedule) -> StepLosses {
        let every = u64::from(self.plan.adversary.adv_steps);
        let both = !schedule.adversarial || every == 0 || !self.adversaries.any();
        let autoencoder_learns = both || index.is_multiple_of(every);
        let adversaries_learn = self.adversaries.any() && (both || !index.is_multiple_of(every));
        let mut losses = StepLosses::default();
        let basal = if autoencoder_learns || self.plan.train.decoder_on_every_batch {
            self.autoencoder_step(input, autoencoder_learns, schedule, &mut losses)
        } else {
            tch::no_grad(|| self.network.encode(&input.cells, Mode::Train))
        };
        if adversaries_learn {
            self.adversary_step(&basal, input, schedule, &mut losses);
        }
        losses
    }

    /// The full forward pass, and where it `learns` the update; returns the basal latent, detached.
    fn autoencoder_step(&mut self, input: &Input, learns: bool, schedule: Schedule, losses: &mut StepLosses) -> Tensor {
        let _grad = (!learns).then(tch::no_grad_guard);
        let latent = self.network.latent(input, Mode::Train);
        let output = self.network.decode(&latent.after(), &input.cells.library, Mode::Train);
        let recon = reconstruction(&output, &input.cells);
        losses.recon = Some(recon.detach());
        let basal = latent.basal.detach();
        if !learns {
            return basal;
        }
        let total = if schedule.adversarial && self.adversaries.any() {
            let verdict = self.adversaries.judge(&latent.basal, input, false);
            losses.adversary = Some(verdict.loss.detach());
            losses.accuracy = Some(verdict.accuracy);
            recon - verdict.loss * schedule.adversary_weight
        } else {
            recon
        };
        let mut parameters = self.autoencoder_adam.parameters();
        let autoencoder_count = parameters.len();
        parameters.extend(self.doser_adam.parameters());
        let gradients = Tensor::run_backward(&[total], &parameters, false, false);
        let (autoencoder, doser) = gradients.split_at(autoencoder_count);
        self.autoencoder_adam.step(autoencoder, self.plan.train.lr * schedule.rate);
        self.doser_adam.step(doser, self.plan.train.doser_lr * schedule.rate);
        basal
    }

    fn adversary_step(&mut self, basal: &Tensor, input: &Input, schedule: Schedule, losses: &mut StepLosses) {
        let verdict = self.adversaries.judge(basal, input, true);
        losses.adversary = Some(verdict.loss.detach());
        losses.accuracy = Some(verdict.accuracy);
        let total = match verdict.penalty {
            Some(penalty) => {
                losses.penalty = Some(penalty.detach());
                verdict.loss + penalty * self.plan.adversary.pen_adv
            }
            None => verdict.loss,
        };
        let gradients = Tensor::run_backward(&[total], &self.adversary_adam.parameters(), false, false);
        self.adversary_adam.step(&gradients, self.plan.adversary.adv_lr * schedule.rate);
    }

    /// Weights and optimiser states, by name.
    #[must_use]
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = self.network.parameters.snapshot();
        state.extend(self.adversaries.parameters.snapshot());
        for adam in [&self.autoencoder_adam, &self.doser_adam, &self.adversary_adam] {
            state.extend(adam.state());
        }
        state
    }

    /// Takes a state up again; `path` is named where it does not fit.
    ///
    /// # Errors
    /// A state of another model.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
        self.network.parameters.restore(state, path)?;
        self.adversaries.parameters.restore(state, path)?;
        for adam in [&mut self.autoencoder_adam, &mut self.doser_adam, &mut self.adversary_adam] {
            adam.restore(state, path)?;
        }
        Ok(())
    }
}
