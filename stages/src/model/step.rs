//! One step of training: the autoencoder against its adversaries.
//!
//! A [`Learner`] holds what is learned; an [`Engine`] computes a step of it. [`Plain`] does so with libtorch's operations and
//! its automatic differentiation, on any device: it is what other engines are compared with.

use std::{collections::BTreeMap, path::Path, rc::Rc};

use schemas::{Result, config::Plan};
use tch::{Device, Kind, Tensor};

use super::{
    adversary::{Adversaries, Verdict},
    carried::{Beside, Carried},
    counts::Counts,
    draws::Draws,
    encoder::Basal,
    input::{Cells, Input},
    layers::Mode,
    loss_term::LossTerm,
    losses::reconstruction,
    network::Network,
    optimiser::{Adam, Learned},
    parameters::named_copies,
    recomputed,
    schedule::Schedule,
};
use crate::{device_kernels::losses::LossSums, vocabulary::Vocabulary};

/// Computes steps of a learner.
pub trait Engine: std::fmt::Debug {
    /// Learns from a batch: whoever's turn it is by the schedule.
    ///
    /// What is learned, and the running statistics, change in place; the losses stay on the device.
    fn step(&self, learner: &mut Learner, input: &Input, draws: &Draws, schedule: Schedule) -> StepLosses;

    /// The same from a batch that was carried to the learner's device.
    ///
    /// # Errors
    /// A device that is gone.
    fn step_on(
        &self,
        learner: &mut Learner,
        (carried, beside): (&mut Carried, &Beside<'_>),
        draws: &Draws,
        schedule: Schedule,
    ) -> Result<StepLosses> {
        let input = beside.complete(carried.input(learner.network.parameters.kind())?);
        Ok(self.step(learner, &input, draws, schedule))
    }
}

/// Network, adversaries and the state of their optimisers.
#[derive(Debug)]
pub struct Learner {
    /// The autoencoder.
    pub network: Network,
    /// Its adversaries.
    pub adversaries: Adversaries,
    /// Learns all of the autoencoder but the dose response.
    pub autoencoder_adam: Adam,
    /// Learns the dose response.
    pub doser_adam: Adam,
    /// Learns the adversaries.
    pub adversary_adam: Adam,
    /// The checked settings.
    pub plan: Plan,
}

/// What a step measured, each a scalar on the device.
#[derive(Debug, Default)]
pub struct StepLosses {
    /// Each number that was measured; a part that did not run is not there.
    pub values: Vec<(LossTerm, Tensor)>,
    /// How many optimisers made a step.
    pub updates: u64,
    /// What the step added its numbers to, where it did so itself.
    pub(crate) sums: Option<Rc<LossSums>>,
}

impl StepLosses {
    /// A number, if it was measured.
    #[must_use]
    pub fn get(&self, term: &LossTerm) -> Option<&Tensor> {
        self.values.iter().find(|(known, _)| known == term).map(|(_, value)| value)
    }

    /// The same tensors once more.
    pub(super) fn shallow_clone(&self) -> Self {
        let values = self.values.iter().map(|(term, value)| (term.clone(), value.shallow_clone()));
        Self { values: values.collect(), updates: self.updates, sums: self.sums.clone() }
    }

    pub(super) fn add(&mut self, term: LossTerm, value: &Tensor) {
        self.values.push((term, value.detach()));
    }

    /// What the autoencoder minimises, with the divergence of a variational one.
    pub(super) fn with_divergence(&mut self, total: Tensor, basal: &Basal, schedule: Schedule) -> Tensor {
        match basal.divergence() {
            Some(divergence) => {
                self.add(LossTerm::Divergence, &divergence);
                total + divergence * schedule.divergence_weight
            }
            None => total,
        }
    }

    /// What the autoencoder minimises, less what the adversaries lose where they take part.
    pub(super) fn less_adversaries(
        &mut self,
        total: Tensor,
        adversaries: &Adversaries,
        schedule: Schedule,
        judge: impl FnOnce(&Adversaries) -> Verdict,
    ) -> Tensor {
        if !(schedule.adversarial && adversaries.any()) {
            return total;
        }
        let verdict = judge(adversaries);
        self.add(LossTerm::Adversaries, &verdict.loss);
        self.values.extend(verdict.parts);
        total - verdict.loss * schedule.adversary_weight
    }

    /// Notes what the adversaries said in their own update. Where both sides learn from a batch, what the adversaries lose
    /// after the autoencoder's step is what is told.
    pub(super) fn judged(&mut self, verdict: Verdict) {
        self.forget_adversaries();
        self.add(LossTerm::Adversaries, &verdict.loss);
        self.values.extend(verdict.parts);
        if let Some(penalty) = &verdict.penalty {
            self.add(LossTerm::Penalties, penalty);
        }
    }

    /// Forgets what the adversaries said before.
    pub(super) fn forget_adversaries(&mut self) {
        self.values.retain(|(term, _)| !term.is_of_adversaries());
    }

    /// Lets an optimiser make a step, in one of the ways that there are for it; or, where more batches are to come, keep the gradients.
    pub(super) fn learned(&mut self, adam: &mut Adam, gradients: &[Tensor], learning_rate: f64, step: AdamStep) {
        let Some(gathered) = adam.gather(gradients) else { return };
        let norm = step(adam, gathered.gradients(), learning_rate);
        self.add(LossTerm::Norm(adam.learned()), &norm);
        self.updates += 1;
    }
}

impl Learner {
    /// A learner with fresh parameters, drawn from `plan.seed`.
    #[must_use]
    pub fn new(plan: &Plan, genes: u32, vocabulary: &Vocabulary, kind: Kind, device: Device) -> Self {
        tch::manual_seed(i64::from_ne_bytes(plan.seed.to_ne_bytes()));
        let network = Network::new(plan, genes, vocabulary, kind, device);
        let adversaries = Adversaries::new(plan, vocabulary, kind, device);
        let clip = plan.train.gradient_clip_value;
        // The original hands the projection of given embeddings to no optimiser.
        let frozen = plan.compat.is_original();
        let learned = || network.parameters.learned().iter();
        Self {
            autoencoder_adam: Adam::new(
                Learned::Autoencoder,
                learned().filter(|(name, _)| !(Network::is_doser(name) || frozen && Network::is_projection(name))),
                plan.train.wd,
                clip,
            )
            .decoupled(plan.train.decoupled_decay),
            doser_adam: Adam::new(
                Learned::Doser,
                learned().filter(|(name, _)| Network::is_doser(name)),
                plan.train.doser_wd,
                clip,
            )
            .decoupled(plan.train.decoupled_decay),
            adversary_adam: Adam::new(
                Learned::Adversary,
                adversaries.parameters.learned().iter(),
                plan.adversary.adv_wd,
                clip,
            )
            .decoupled(plan.train.decoupled_decay),
            network,
            adversaries,
            plan: plan.clone(),
        }
    }

    /// Lets the autoencoder's optimisers make their steps, by gradients of the one and of the other.
    pub(super) fn autoencoder_learns(
        &mut self,
        (autoencoder, doser): (&[Tensor], &[Tensor]),
        schedule: Schedule,
        losses: &mut StepLosses,
        step: AdamStep,
    ) {
        let train = &self.plan.train;
        losses.learned(&mut self.autoencoder_adam, autoencoder, train.lr * schedule.rate, step);
        losses.learned(&mut self.doser_adam, doser, train.doser_lr * schedule.rate, step);
    }

    /// Weights and optimiser states, by name, in memory of the host.
    ///
    /// # Errors
    /// A device that is gone.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = named_copies(self.tensors())?;
        state.extend(self.optimisers().into_iter().flat_map(Adam::counts));
        Ok(state)
    }

    /// Bytes of weights and optimiser states, but for a few counts.
    pub(crate) fn state_bytes(&self) -> u64 {
        self.tensors().map(|(_, tensor)| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64).sum()
    }

    /// The learning rates of autoencoder, dose curves and adversaries.
    pub(super) fn rates(&self, schedule: Schedule) -> [f64; 3] {
        let (train, adversary) = (&self.plan.train, &self.plan.adversary);
        [train.lr, train.doser_lr, adversary.adv_lr].map(|rate| rate * schedule.rate)
    }

    /// Keeps counts of steps, and rounded copies of weights, on the device.
    pub(super) fn keep_on_device(&mut self) {
        for adam in [&mut self.autoencoder_adam, &mut self.doser_adam, &mut self.adversary_adam] {
            adam.counts = Some(Counts::of(&adam.slots));
        }
        self.network.keep_rounded();
    }

    fn optimisers(&self) -> [&Adam; 3] {
        [&self.autoencoder_adam, &self.doser_adam, &self.adversary_adam]
    }

    /// Weights and moments, by name.
    fn tensors(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let weights = self.network.parameters.all().chain(self.adversaries.parameters.all());
        let weights = weights.map(|(name, tensor)| (name.clone(), tensor));
        weights.chain(self.optimisers().into_iter().flat_map(Adam::moments))
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
        self.network.round_again();
        Ok(())
    }
}

/// A way to make a step of an optimiser: gradients and learning rate go in, the norm of the gradients comes out.
pub(super) type AdamStep = fn(&mut Adam, &[Tensor], f64) -> Tensor;

/// What a step is made from.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    /// The cells.
    pub(super) input: &'a Input,
    /// What chance decides.
    pub(super) draws: &'a Draws,
    /// What the plan says for this step.
    pub(super) schedule: Schedule,
}

/// The parts of a step that engines compute in their own ways.
pub(super) trait Sides {
    /// The basal latent alone, without a gradient.
    fn basal(&self, network: &Network, cells: &Cells, draws: &Draws) -> Tensor;

    /// The full forward pass, and where it `learns` the update; returns the basal latent, detached.
    fn autoencoder(&self, learner: &mut Learner, given: Given<'_>, learns: bool, losses: &mut StepLosses) -> Tensor;

    /// The update of the adversaries, from basal latents.
    fn adversaries(&self, learner: &mut Learner, basal: &Tensor, given: Given<'_>, losses: &mut StepLosses);
}

/// A step: whoever's turn it is by the schedule.
pub(super) fn turns(
    sides: &impl Sides,
    learner: &mut Learner,
    input: &Input,
    draws: &Draws,
    schedule: Schedule,
) -> StepLosses {
    let mixed = draws.mixup.as_ref().map(|mixup| mixup.of_input(input));
    let input = mixed.as_ref().unwrap_or(input);
    let guessing = learner.adversaries.any();
    let autoencoder_learns = schedule.autoencoder_learns || !guessing;
    let plan = &learner.plan;
    // On batches that only the adversaries learn from, the original runs the decoder all the same.
    let decodes = plan.train.decoder_on_every_batch || plan.compat.is_original();
    let given = Given { input, draws, schedule };
    let mut losses = StepLosses::default();
    let basal = if autoencoder_learns || decodes {
        sides.autoencoder(learner, given, autoencoder_learns, &mut losses)
    } else {
        sides.basal(&learner.network, &input.cells, draws)
    };
    if guessing && schedule.adversaries_learn {
        sides.adversaries(learner, &basal, given, &mut losses);
    }
    losses
}

/// Steps by libtorch's operations and automatic differentiation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Engine for Plain {
    fn step(&self, learner: &mut Learner, input: &Input, draws: &Draws, schedule: Schedule) -> StepLosses {
        turns(self, learner, input, draws, schedule)
    }
}

impl Sides for Plain {
    fn basal(&self, network: &Network, cells: &Cells, draws: &Draws) -> Tensor {
        tch::no_grad(|| network.basal(cells, Mode::Train, draws.noise.as_ref()).latent)
    }

    fn autoencoder(&self, learner: &mut Learner, given: Given<'_>, learns: bool, losses: &mut StepLosses) -> Tensor {
        if learns && learner.plan.train.checkpointing {
            return recomputed::autoencoder(learner, given, losses);
        }
        let Given { input, draws, schedule } = given;
        let _grad = (!learns).then(tch::no_grad_guard);
        let latent = learner.network.latent(input, Mode::Train, draws);
        let output = learner.network.decode(&latent.after(), input.offset.as_ref(), &input.cells.library, Mode::Train);
        let recon = reconstruction(&output, &input.cells);
        losses.add(LossTerm::Reconstruction, &recon);
        let total = losses.with_divergence(recon, &latent.basal, schedule);
        let basal = latent.basal.latent.detach();
        if !learns {
            return basal;
        }
        let total = losses.less_adversaries(total, &learner.adversaries, schedule, |adversaries| {
            adversaries.judge(&latent.basal.latent, input, draws.mixup.as_ref(), false)
        });
        let mut parameters = learner.autoencoder_adam.parameters();
        let autoencoder_count = parameters.len();
        parameters.extend(learner.doser_adam.parameters());
        let gradients = Tensor::run_backward(&[total], &parameters, false, false);
        let (autoencoder, doser) = gradients.split_at(autoencoder_count);
        learner.autoencoder_learns((autoencoder, doser), schedule, losses, Adam::step);
        basal
    }

    fn adversaries(&self, learner: &mut Learner, basal: &Tensor, given: Given<'_>, losses: &mut StepLosses) {
        let Given { input, draws, schedule } = given;
        let verdict = learner.adversaries.judge(basal, input, draws.mixup.as_ref(), true);
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
