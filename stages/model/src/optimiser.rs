//! Adam, with weight decay added to the gradient (L2), as the original uses it, or decoupled from it (AdamW).

use std::{collections::BTreeMap, path::Path};

use schemas::{Error, Result};
use tch::{Device, Kind, Tensor};
use torch::memory::numbers;

use super::counts::Counts;

pub(super) const BETA_1: f64 = 0.9;
pub(super) const BETA_2: f64 = 0.999;
pub(super) const EPSILON: f64 = 1e-8;

/// The part of a learner that an optimiser trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LearnerPart {
    /// The autoencoder except for the dose response.
    Autoencoder,
    /// The dose response.
    Doser,
    /// The adversaries.
    Adversary,
}

impl LearnerPart {
    /// The name in checkpoints, in history and in errors.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Autoencoder => "autoencoder",
            Self::Doser => "doser",
            Self::Adversary => "adversary",
        }
    }
}

/// Adam over some named parameters.
#[derive(Debug)]
pub struct Adam {
    learned: LearnerPart,
    pub(super) weight_decay: f64,
    /// Whether weight decay is decoupled (Loshchilov and Hutter 2019).
    pub(super) decoupled: bool,
    pub(super) clip: f64,
    pub(super) slots: Vec<ParameterState>,
    parts: AccumulatedGradients,
    /// Step counts, if they are kept on the device; then those in the slots are unused.
    pub(super) counts: Option<Counts>,
}

/// Gradients of the batches of a step.
#[derive(Debug)]
struct AccumulatedGradients {
    /// Factor of the next batch's gradients.
    share: f64,
    /// Whether the next batch completes the step.
    complete: bool,
    /// The sum so far; empty at the start of a step.
    sum: Vec<Tensor>,
}

/// The gradients for a step, after a batch.
pub(super) enum StepGradients<'a> {
    /// The gradients of the only batch.
    One(&'a [Tensor]),
    /// The sum over several batches.
    Sum(Vec<Tensor>),
}

impl StepGradients<'_> {
    pub(super) fn gradients(&self) -> &[Tensor] {
        match self {
            Self::One(gradients) => gradients,
            Self::Sum(sum) => sum,
        }
    }
}

#[derive(Debug)]
pub(super) struct ParameterState {
    name: String,
    pub(super) parameter: Tensor,
    pub(super) first: Tensor,
    pub(super) second: Tensor,
    pub(super) steps: i32,
}

impl Adam {
    /// An optimiser of the parameters of one part; `clip` bounds the norm of all its gradients together (0: no limit).
    #[must_use]
    pub fn new<'a>(
        learned: LearnerPart,
        parameters: impl Iterator<Item = (&'a String, &'a Tensor)>,
        weight_decay: f64,
        clip: f64,
    ) -> Self {
        let slots = parameters.map(|(name, parameter)| ParameterState {
            name: name.clone(),
            parameter: parameter.shallow_clone(),
            first: parameter.detach().zeros_like(),
            second: parameter.detach().zeros_like(),
            steps: 0,
        });
        let parts = AccumulatedGradients { share: 1.0, complete: true, sum: Vec::new() };
        Self { learned, weight_decay, decoupled: false, clip, slots: slots.collect(), parts, counts: None }
    }

    /// The same optimiser, with decoupled weight decay (learning rate × decay per step) or with decay added to the gradient.
    #[must_use]
    pub fn decoupled(self, decoupled: bool) -> Self {
        Self { decoupled, ..self }
    }

    /// The decay to add to the gradient, after applying decoupled decay.
    pub(super) fn coupled_decay(&mut self, gradients: &[Tensor], learning_rate: f64) -> f64 {
        if !self.decoupled || self.weight_decay == 0.0 {
            return self.weight_decay;
        }
        let _no_grad = tch::no_grad_guard();
        for (slot, _) in self.slots.iter_mut().zip(gradients).filter(|(_, gradient)| gradient.defined()) {
            slot.parameter *= 1.0 - learning_rate * self.weight_decay;
        }
        0.0
    }

    /// Sets the factor of the next gradients, and whether they complete the step.
    pub(super) fn expect(&mut self, share: f64, complete: bool) {
        (self.parts.share, self.parts.complete) = (share, complete);
    }

    /// Adds the gradients of a batch to those of its step, and returns the sum if the step is complete.
    pub(super) fn gather<'a>(&mut self, gradients: &'a [Tensor]) -> Option<StepGradients<'a>> {
        let AccumulatedGradients { share, complete, sum } = &mut self.parts;
        if sum.is_empty() && *complete {
            return Some(StepGradients::One(gradients));
        }
        let _no_grad = tch::no_grad_guard();
        sum.resize_with(gradients.len(), Tensor::new);
        for (sum, gradient) in sum.iter_mut().zip(gradients).filter(|(_, gradient)| gradient.defined()) {
            let part = gradient * *share;
            match sum.defined() {
                true => *sum += part,
                false => *sum = part,
            }
        }
        complete.then(|| StepGradients::Sum(std::mem::take(sum)))
    }

    /// The parameters, in the order in which [`Adam::step`] takes their gradients.
    #[must_use]
    pub fn parameters(&self) -> Vec<&Tensor> {
        self.slots.iter().map(|slot| &slot.parameter).collect()
    }

    /// The part of the model that it learns, whose name prefixes its saved state.
    #[must_use]
    pub fn learned(&self) -> LearnerPart {
        self.learned
    }

    /// Takes a step; returns the norm of all gradients before clipping, a scalar on the device. A parameter with
    /// an undefined gradient is unchanged, and so is its step count.
    pub fn step(&mut self, gradients: &[Tensor], learning_rate: f64) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let zero = || {
            self.slots
                .first()
                .map_or_else(|| Tensor::from(0.0), |slot| Tensor::zeros([], (slot.first.kind(), slot.first.device())))
        };
        let norm = norm(gradients).unwrap_or_else(zero);
        let scale = self.clip_scale(&norm);
        let weight_decay = self.coupled_decay(gradients, learning_rate);
        for (slot, gradient) in self.slots.iter_mut().zip(gradients).filter(|(_, gradient)| gradient.defined()) {
            let mut gradient = match &scale {
                Some(scale) => gradient * scale,
                None => gradient.shallow_clone(),
            };
            if weight_decay != 0.0 {
                gradient = &gradient + &slot.parameter * weight_decay;
            }
            slot.steps += 1;
            let _ = slot.first.lerp_(&gradient, 1.0 - BETA_1);
            let _ = slot.second.lerp_(&gradient.square(), 1.0 - BETA_2);
            let first_scale = learning_rate / (1.0 - BETA_1.powi(slot.steps));
            let second_scale = (1.0 - BETA_2.powi(slot.steps)).sqrt();
            let _ =
                slot.parameter.addcdiv_(&(&slot.first * -first_scale), &(slot.second.sqrt() / second_scale + EPSILON));
        }
        norm
    }

    /// `min(1, clip / (norm + 1e-6))`, kept on the device.
    fn clip_scale(&self, norm: &Tensor) -> Option<Tensor> {
        (self.clip != 0.0).then(|| ((norm + 1e-6).reciprocal() * self.clip).clamp_max(1.0))
    }

    /// The running means of gradients and of their squares, by name.
    pub(super) fn moments(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let key = |part: &str, slot: &ParameterState| format!("{}.{part}.{}", self.learned.name(), slot.name);
        self.slots.iter().flat_map(move |slot| [(key("first", slot), &slot.first), (key("second", slot), &slot.second)])
    }

    /// The number of steps of each parameter, `[parameters]`, on the device where they are counted.
    pub(super) fn steps(&self) -> Tensor {
        match &self.counts {
            Some(counts) => counts.all(),
            None => Tensor::from_slice(&self.host_steps()),
        }
    }

    /// The step counts in the slots.
    fn host_steps(&self) -> Vec<i64> {
        self.slots.iter().map(|slot| i64::from(slot.steps)).collect()
    }

    /// Counts steps on the device of the parameters from now on.
    pub(super) fn count_on_device(&mut self) {
        let device = self.slots.first().map_or(Device::Cpu, |slot| slot.parameter.device());
        self.counts = Some(Counts::new(&self.host_steps(), device));
    }

    /// [`Self::steps`] on the host, one scalar per parameter, by name.
    pub(super) fn named_steps(&self, steps: &Tensor) -> impl Iterator<Item = (String, Tensor)> {
        let steps = numbers::<i64>(&steps.to_kind(Kind::Int64)).to_vec();
        let key = |slot: &ParameterState| format!("{}.steps.{}", self.learned.name(), slot.name);
        self.slots.iter().zip(steps).map(move |(slot, steps)| (key(slot), Tensor::from(steps)))
    }

    /// Restores a state.
    ///
    /// # Errors
    /// A state that lacks a parameter or has another shape.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
        for slot in &mut self.slots {
            let get = |part: &str| {
                let key = format!("{}.{part}.{}", self.learned.name(), slot.name);
                state.get(&key).ok_or_else(|| Error::damaged(path, format!("tensor `{key}` is missing")))
            };
            let (first, second, steps) = (get("first")?, get("second")?, get("steps")?);
            if first.size() != slot.first.size() || second.size() != slot.second.size() {
                return Err(Error::damaged(path, format!("the state of `{}` has another shape", slot.name)));
            }
            slot.first.copy_(first);
            slot.second.copy_(second);
            slot.steps = i32::try_from(steps.int64_value(&[]))
                .map_err(|_| Error::damaged(path, "a count of steps is too large"))?;
        }
        let steps = self.host_steps();
        if let Some(counts) = &mut self.counts {
            counts.restore(&steps);
        }
        Ok(())
    }
}

/// The norm of all gradients together, if any.
fn norm(gradients: &[Tensor]) -> Option<Tensor> {
    let squares =
        gradients.iter().filter(|gradient| gradient.defined()).map(|gradient| gradient.square().sum(gradient.kind()));
    squares.reduce(|a, b| a + b).map(|sum| sum.sqrt())
}
