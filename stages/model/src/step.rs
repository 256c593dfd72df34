//! One training step: the autoencoder against its adversaries.
//!
//! A [`Learner`] holds the trained state; an [`Engine`] computes its steps. [`Plain`](super::plain::Plain) uses libtorch's operations and
//! automatic differentiation, on any device; other engines are compared with it.

use std::{collections::BTreeMap, path::Path, rc::Rc};

use device_kernels::losses::LossSums;
use schemas::{Result, config::TrainingPlan, vocabulary::Vocabulary};
use tch::{Device, Kind, Tensor};
use torch::{OneThread, host_copy::to_host};

use super::{
    adversary::{Adversaries, AdversaryResults},
    draws::StepDraws,
    encoder::Basal,
    input::{Cells, Input},
    loss_term::LossTerm,
    network::Network,
    optimiser::{Adam, LearnerPart},
    packed_batch::PackedBatch,
    schedule::Schedule,
    transfer::StepExtras,
};

/// Computes the steps of a learner.
pub trait Engine: std::fmt::Debug {
    /// Keeps libtorch at one thread, for an engine that shares its work among threads itself: threads of libtorch's own would cut
    /// operations differently for each number of them.
    fn one_thread(&self) -> Option<OneThread> {
        None
    }

    /// Learns from a batch, with the sides that the schedule selects.
    ///
    /// Parameters and running statistics change in place; the losses stay on the device.
    fn step(&self, learner: &mut Learner, input: &Input, draws: &StepDraws, schedule: Schedule) -> StepLosses;

    /// The same for a packed batch, which is transferred to the learner's device.
    ///
    /// # Errors
    /// A lost device, or one without memory for the batch.
    fn step_on(
        &self,
        learner: &mut Learner,
        batch: &mut PackedBatch,
        extras: &StepExtras<'_>,
        draws: &StepDraws,
        schedule: Schedule,
    ) -> Result<StepLosses> {
        let parameters = &learner.network.parameters;
        let input = extras.complete(batch.input(parameters.kind(), parameters.device())?);
        Ok(self.step(learner, &input, draws, schedule))
    }
}

/// Network, adversaries and optimiser states.
#[derive(Debug)]
pub struct Learner {
    /// The autoencoder.
    pub network: Network,
    /// Its adversaries.
    pub adversaries: Adversaries,
    /// Trains the autoencoder except for the dose response.
    pub autoencoder_adam: Adam,
    /// Trains the dose response.
    pub doser_adam: Adam,
    /// Trains the adversaries.
    pub adversary_adam: Adam,
    /// The validated settings.
    pub plan: TrainingPlan,
}

/// Measurements of a step, each a scalar on the device.
#[derive(Debug, Default)]
pub struct StepLosses {
    /// Each number that was measured. Parts that did not run are absent.
    pub values: Vec<(LossTerm, Tensor)>,
    /// Number of optimisers that took a step.
    pub updates: u64,
    /// The sums to which the step added its measurements, if it did.
    pub sums: Option<Rc<LossSums>>,
}

impl StepLosses {
    /// A number, if it was measured.
    #[must_use]
    pub fn get(&self, term: &LossTerm) -> Option<&Tensor> {
        self.values.iter().find(|(known, _)| known == term).map(|(_, value)| value)
    }

    /// A shallow copy.
    pub(super) fn shallow_clone(&self) -> Self {
        let values = self.values.iter().map(|(term, value)| (term.clone(), value.shallow_clone()));
        Self { values: values.collect(), updates: self.updates, sums: self.sums.clone() }
    }

    pub(super) fn add(&mut self, term: LossTerm, value: &Tensor) {
        self.values.push((term, value.detach()));
    }

    /// The autoencoder's loss, including the divergence of a variational one.
    pub(super) fn with_divergence(&mut self, total: Tensor, basal: &Basal, schedule: Schedule) -> Tensor {
        match basal.divergence() {
            Some(divergence) => {
                self.add(LossTerm::Divergence, &divergence);
                total + divergence * schedule.divergence_weight
            }
            None => total,
        }
    }

    /// The autoencoder's loss, minus the adversaries' loss if they take part.
    pub(super) fn less_adversaries(
        &mut self,
        total: Tensor,
        adversaries: &Adversaries,
        schedule: Schedule,
        classify: impl FnOnce(&Adversaries) -> AdversaryResults,
    ) -> Tensor {
        if !(schedule.adversarial && adversaries.any()) {
            return total;
        }
        let verdict = classify(adversaries);
        self.add(LossTerm::Adversaries, &verdict.loss);
        self.values.extend(verdict.parts);
        total - verdict.loss * schedule.adversary_weight
    }

    /// Records the adversaries' results in their own update. If both sides learn from a batch, the adversaries' loss
    /// after the autoencoder's step is reported.
    pub(super) fn judged(&mut self, verdict: AdversaryResults) {
        self.forget_adversaries();
        self.add(LossTerm::Adversaries, &verdict.loss);
        self.values.extend(verdict.parts);
        if let Some(penalty) = &verdict.penalty {
            self.add(LossTerm::Penalties, penalty);
        }
    }

    /// Discards the adversaries' earlier results.
    pub(super) fn forget_adversaries(&mut self) {
        self.values.retain(|(term, _)| !term.is_of_adversaries());
    }

    /// Lets an optimiser take a step with the given implementation, which takes gradients and learning rate, and returns the norm of
    /// the gradients; keeps the gradients instead if more batches follow.
    pub(super) fn learned(
        &mut self,
        adam: &mut Adam,
        gradients: &[Tensor],
        learning_rate: f64,
        step: impl Fn(&mut Adam, &[Tensor], f64) -> Tensor,
    ) {
        let Some(gathered) = adam.gather(gradients) else { return };
        let norm = step(adam, gathered.gradients(), learning_rate);
        self.add(LossTerm::Norm(adam.learned()), &norm);
        self.updates += 1;
    }
}

impl Learner {
    /// A learner with fresh parameters, drawn from `plan.seed`.
    #[must_use]
    pub fn new(plan: &TrainingPlan, genes: u32, vocabulary: &Vocabulary, kind: Kind, device: Device) -> Self {
        tch::manual_seed(i64::from_ne_bytes(plan.seed.to_ne_bytes()));
        let network = Network::new(plan, genes, vocabulary, kind, device);
        let adversaries = Adversaries::new(plan, vocabulary, kind, device);
        let clip = plan.train.gradient_clip_value;
        // The original passes the projection of given embeddings to no optimiser.
        let frozen = plan.compat.is_original();
        let learned = || network.parameters.learned().iter();
        Self {
            autoencoder_adam: Adam::new(
                LearnerPart::Autoencoder,
                learned().filter(|(name, _)| !(Network::is_doser(name) || frozen && Network::is_projection(name))),
                plan.train.wd,
                clip,
            )
            .decoupled(plan.train.decoupled_decay),
            doser_adam: Adam::new(
                LearnerPart::Doser,
                learned().filter(|(name, _)| Network::is_doser(name)),
                plan.train.doser_wd,
                clip,
            )
            .decoupled(plan.train.decoupled_decay),
            adversary_adam: Adam::new(
                LearnerPart::Adversary,
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

    /// Steps the autoencoder's optimisers, with their respective gradients.
    pub(super) fn autoencoder_learns(
        &mut self,
        (autoencoder, doser): (&[Tensor], &[Tensor]),
        schedule: Schedule,
        losses: &mut StepLosses,
        step: impl Fn(&mut Adam, &[Tensor], f64) -> Tensor,
    ) {
        let train = &self.plan.train;
        losses.learned(&mut self.autoencoder_adam, autoencoder, train.lr * schedule.rate, &step);
        losses.learned(&mut self.doser_adam, doser, train.doser_lr * schedule.rate, step);
    }

    /// Weights and optimiser states, by name, in host memory.
    ///
    /// # Errors
    /// A lost device.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let optimisers = self.optimisers().map(|adam| (adam, adam.steps()));
        let (names, tensors): (Vec<String>, Vec<&Tensor>) = self.tensors().unzip();
        let steps = optimisers.iter().map(|(_, steps)| steps);
        // All tensors are copied at once, so that the host waits for the device only once.
        let mut copies = to_host(&tensors.into_iter().chain(steps).collect::<Vec<_>>())?;
        let steps = copies.split_off(names.len());
        let steps = optimisers.iter().zip(&steps).flat_map(|((adam, _), steps)| adam.named_steps(steps));
        Ok(steps.chain(names.into_iter().zip(copies)).collect())
    }

    /// Bytes of weights and optimiser states, except for a few counters.
    pub fn state_bytes(&self) -> u64 {
        self.tensors().map(|(_, tensor)| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64).sum()
    }

    /// The learning rates of autoencoder, dose curves and adversaries.
    pub(super) fn rates(&self, schedule: Schedule) -> [f64; 3] {
        let (train, adversary) = (&self.plan.train, &self.plan.adversary);
        [train.lr, train.doser_lr, adversary.adv_lr].map(|rate| rate * schedule.rate)
    }

    /// Moves step counts, and rounded copies of weights, to the device.
    pub(super) fn keep_on_device(&mut self) {
        for adam in [&mut self.autoencoder_adam, &mut self.doser_adam, &mut self.adversary_adam] {
            adam.count_on_device();
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

    /// Restores a state; `path` is named in errors.
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

/// The inputs of a step.
#[derive(Clone, Copy)]
pub(super) struct StepArguments<'a> {
    /// The cells.
    pub(super) input: &'a Input,
    /// The random draws.
    pub(super) draws: &'a StepDraws,
    /// The schedule's values for this step.
    pub(super) schedule: Schedule,
}

/// The parts of a step that engines implement.
pub(super) trait Sides {
    /// Only the basal latent, without a gradient.
    fn basal(&self, network: &Network, cells: &Cells, draws: &StepDraws) -> Tensor;

    /// The full forward pass, and the update if it `learns`; returns the basal latent, detached.
    fn autoencoder(
        &self,
        learner: &mut Learner,
        given: StepArguments<'_>,
        learns: bool,
        losses: &mut StepLosses,
    ) -> Tensor;

    /// The update of the adversaries, from basal latents.
    fn adversaries(&self, learner: &mut Learner, basal: &Tensor, given: StepArguments<'_>, losses: &mut StepLosses);
}

/// A step, with the sides that the schedule selects.
pub(super) fn take_step(
    sides: &impl Sides,
    learner: &mut Learner,
    input: &Input,
    draws: &StepDraws,
    schedule: Schedule,
) -> StepLosses {
    let mixed = draws.mixup.as_ref().map(|mixup| mixup.of_input(input));
    let input = mixed.as_ref().unwrap_or(input);
    let guessing = learner.adversaries.any();
    let autoencoder_learns = schedule.autoencoder_learns || !guessing;
    let plan = &learner.plan;
    // The original also runs the decoder on batches that only the adversaries learn from.
    let decodes = plan.train.decoder_on_every_batch || plan.compat.is_original();
    let given = StepArguments { input, draws, schedule };
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
