//! Adversaries: a forward and backward pass of each classifier, with its gradient penalty in closed form.
//!
//! The penalty's gradient is derived in `fused::penalty`, which computes it on the CPU.

use device_kernels::{
    guess::{ClassificationTargets, losses_and_accuracy},
    layer::{PenaltyTerms, column_sums},
    penalty::{add_row, down, up, value},
    unpack::Unpacked,
};
use schemas::{config::AdversaryLoss, numbers::to_i64};
use tch::Tensor;

use super::{
    chain::{DeviceDropoutSeeds, DropoutPass, LaunchedForwardPass},
    product::OutputLayer,
};
use crate::{
    adversary::{Adversaries, ClassifierTask},
    gradients::Gradients,
    layers::Linear,
    loss_term::LossTerm,
    step::StepLosses,
};

/// The adversaries' results for basal latents.
#[derive(Debug)]
pub(super) struct LaunchedAdversaryResults {
    /// The loss of each, `[adversaries]`, and their sum.
    losses: Tensor,
    /// The penalty of each, `[adversaries]`; `None` if not requested.
    penalties: Option<Tensor>,
    names: Vec<String>,
    accuracies: Vec<Tensor>,
}

impl LaunchedAdversaryResults {
    fn new(adversaries: &Adversaries, basal: &Tensor) -> Self {
        let names: Vec<String> = adversaries.classifiers().map(|task| task.name.to_owned()).collect();
        let losses = Tensor::empty([to_i64(names.len())], (basal.kind(), basal.device()));
        Self { losses, penalties: None, names, accuracies: Vec::new() }
    }

    /// The destination of an adversary's loss.
    fn place(&self, at: usize) -> Tensor {
        self.losses.select(0, to_i64(at))
    }

    /// Records it among the losses of a step, as [`StepLosses::less_adversaries`] and [`StepLosses::judged`] do.
    fn add_to(self, losses: &mut StepLosses) {
        losses.forget_adversaries();
        losses.add(LossTerm::Adversaries, &self.losses.sum(self.losses.kind()));
        for (place, (name, accuracy)) in self.names.iter().zip(&self.accuracies).enumerate() {
            losses.add(LossTerm::Adversary(name.clone()), &self.losses.select(0, to_i64(place)));
            losses.add(LossTerm::Accuracy(name.clone()), accuracy);
            if let Some(penalties) = &self.penalties {
                losses.add(LossTerm::Penalty(name.clone()), &penalties.select(0, to_i64(place)));
            }
        }
        if let Some(penalties) = &self.penalties {
            losses.add(LossTerm::Penalties, &penalties.sum(penalties.kind()));
        }
    }
}

/// The adversaries' results for basal latents `[cells, latent]`, including penalties; returns the gradients
/// of loss + `weight` · penalty with respect to their parameters.
pub(super) fn results_with_gradients(
    adversaries: &Adversaries,
    basal: &Tensor,
    batch: &Unpacked,
    weight: f64,
    seed: &Tensor,
    losses: &mut StepLosses,
) -> Gradients {
    let (mut seeds, mut found) = (DeviceDropoutSeeds::new(seed, DropoutPass::Adversaries), Gradients::none());
    let mut judgement = LaunchedAdversaryResults::new(adversaries, basal);
    let penalties = judgement.losses.empty_like();
    for (at, task) in adversaries.classifiers().enumerate() {
        let guess = LaunchedClassifierPass::new(adversaries, &task, basal, batch, &mut seeds, judgement.place(at));
        let last = &task.classifier.to_classes;
        let (left, of_last) = penalise(&guess.pass, last, weight, &penalties.select(0, to_i64(at)), &mut found);
        let by_hidden = guess.last.backward(&guess.by_logits, &mut found);
        found.change(&last.weight, |gradient| add_row(gradient, &of_last));
        guess.pass.backward(by_hidden, &left, false, &mut found);
        judgement.accuracies.push(guess.accuracy);
    }
    LaunchedAdversaryResults { penalties: Some(penalties), ..judgement }.add_to(losses);
    found
}

/// The adversaries' results for basal latents `[cells, latent]`; returns each loss's gradient with respect to
/// the latents, `[cells, latent]`.
pub(super) fn results_for_latents(
    adversaries: &Adversaries,
    basal: &Tensor,
    batch: &Unpacked,
    seed: &Tensor,
    losses: &mut StepLosses,
) -> Vec<Tensor> {
    let mut seeds = DeviceDropoutSeeds::new(seed, DropoutPass::Opponents);
    let mut judgement = LaunchedAdversaryResults::new(adversaries, basal);
    let mut slopes = Vec::new();
    for (at, task) in adversaries.classifiers().enumerate() {
        let guess = LaunchedClassifierPass::new(adversaries, &task, basal, batch, &mut seeds, judgement.place(at));
        let by_hidden = guess.last.backward(&guess.by_logits, &mut Gradients::unwanted());
        slopes.extend(guess.pass.backward(by_hidden, &[], true, &mut Gradients::unwanted()));
        judgement.accuracies.push(guess.accuracy);
    }
    judgement.add_to(losses);
    slopes
}

/// The predictions of one classifier, with everything the backward pass needs.
struct LaunchedClassifierPass<'a> {
    pass: LaunchedForwardPass<'a>,
    last: OutputLayer<'a>,
    by_logits: Tensor,
    accuracy: Tensor,
}

impl<'a> LaunchedClassifierPass<'a> {
    fn new(
        adversaries: &Adversaries,
        task: &ClassifierTask<'a>,
        basal: &Tensor,
        batch: &Unpacked,
        seeds: &mut DeviceDropoutSeeds<'_>,
        loss: Tensor,
    ) -> Self {
        let pass = LaunchedForwardPass::forward(&task.classifier.hidden, basal, seeds);
        let (last, logits) = OutputLayer::forward(&task.classifier.to_classes, pass.output(), true);
        let is_focal = adversaries.loss == AdversaryLoss::Focal;
        let of_covariate = task.guessed.ok().map(|covariate| batch.covariates.select(0, to_i64(covariate)));
        let judged = match (&of_covariate, task.guessed) {
            (None, Err(weights)) => ClassificationTargets {
                classes: &batch.combinations,
                weights: Some(weights),
                emphasis: adversaries.emphasis.as_ref(),
                is_alone: false,
                is_focal,
                by_class: true,
            },
            (of_covariate, _) => ClassificationTargets {
                classes: of_covariate.as_ref().unwrap_or(&batch.combinations),
                weights: None,
                emphasis: None,
                is_alone: adversaries.first_values_only,
                is_focal,
                by_class: false,
            },
        };
        let accuracy = losses_and_accuracy(&logits, judged, batch, &loss);
        Self { pass, last, by_logits: logits, accuracy }
    }
}

/// Computes the penalty of a classifier from its pass into `penalty`, a scalar, and records `weight` times
/// its gradient with respect to the weights of hidden layers; `last` follows them. Returns the penalty's
/// terms for the backward pass, and the one for every row of the gradient with respect to the weight of
/// `last`.
fn penalise(
    pass: &LaunchedForwardPass<'_>,
    last: &Linear,
    weight: f64,
    penalty: &Tensor,
    found: &mut Gradients,
) -> (Vec<Option<PenaltyTerms>>, Tensor) {
    let mut e = column_sums(&last.weight);
    let mut downs = Vec::with_capacity(pass.steps.len());
    for ((linear, norm), step) in pass.layers.layers.iter().zip(&pass.steps).rev() {
        let down = down(step, norm.as_ref().map(|norm| &norm.weight), &e);
        e = down.by_input.matmul(&linear.weight);
        downs.push(down);
    }
    let mut v = value(&e, weight, penalty);
    let mut left = Vec::with_capacity(downs.len());
    for (((linear, norm), step), down) in pass.layers.layers.iter().zip(&pass.steps).zip(downs.iter().rev()) {
        found.add_product(&linear.weight, &down.by_input, &v);
        v = v.matmul(&linear.weight.tr());
        left.push(up(step, norm.as_ref().map(|norm| &norm.weight), down, &v));
    }
    (left, column_sums(&v))
}
