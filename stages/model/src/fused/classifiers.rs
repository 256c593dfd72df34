//! Adversaries without automatic differentiation: a forward and backward pass of each classifier, with its gradient penalty in closed form.

use stage::workers::Workers;
use tch::Tensor;
use torch::memory::TensorNumber;

use super::{
    chain::{DropoutSeeds, FusedForwardPass, HiddenInput, linear_back},
    penalty::penalise,
};
use crate::{
    adversary::{Adversaries, AdversaryResults, ClassifierTask},
    gradients::Gradients,
    input::Input,
    mixing::Mixup,
};

/// Whether all adversaries are supported.
pub(super) fn supports(adversaries: &Adversaries) -> bool {
    adversaries.classifiers().all(|task| FusedForwardPass::supports(&task.classifier.hidden))
}

/// The adversaries' results for basal latents, including penalties, and the gradients of loss + `weight` ·
/// penalty with respect to their parameters.
pub(super) fn results_with_gradients<T: TensorNumber>(
    workers: &Workers,
    adversaries: &Adversaries,
    basal: &Tensor,
    input: &Input,
    mixup: Option<&Mixup>,
    weight: f64,
) -> (AdversaryResults, Gradients) {
    let (mut seeds, basal) = (DropoutSeeds::drawn(), basal.contiguous());
    let (mut verdict, mut found) = (adversaries.verdict(true), Gradients::none());
    for task in adversaries.classifiers() {
        let guess = FusedClassifierPass::new::<T>(workers, adversaries, &task, &basal, (input, mixup), &mut seeds);
        let penalty = penalise::<T>(&guess.pass, &task.classifier.to_classes, weight, &mut found);
        guess.backward::<T>(&task, &penalty.onto, &mut found);
        verdict.add(task.name, guess.loss, guess.right, Some(penalty.value));
    }
    (verdict, found)
}

/// The adversaries' results for basal latents, differentiable only with respect to these.
pub(super) fn results_for_latents<T: TensorNumber>(
    workers: &Workers,
    adversaries: &Adversaries,
    basal: &Tensor,
    input: &Input,
    mixup: Option<&Mixup>,
) -> AdversaryResults {
    let (mut seeds, given) = (DropoutSeeds::drawn(), basal.detach().contiguous());
    let mut verdict = adversaries.verdict(false);
    for task in adversaries.classifiers() {
        let guess = FusedClassifierPass::new::<T>(workers, adversaries, &task, &given, (input, mixup), &mut seeds);
        let slope = guess.backward::<T>(&task, &[], &mut Gradients::unwanted());
        // Its gradient is that of the loss, its value is 0.
        let line = slope.map(|slope| (basal * slope).sum(T::KIND));
        let loss = line.map_or_else(|| guess.loss.shallow_clone(), |line| &guess.loss + &line - line.detach());
        verdict.add(task.name, loss, guess.right, None);
    }
    verdict
}

/// The predictions of one classifier, with everything the backward pass needs.
struct FusedClassifierPass<'a> {
    pass: FusedForwardPass<'a>,
    loss: Tensor,
    right: Tensor,
    by_logits: Tensor,
}

impl<'a> FusedClassifierPass<'a> {
    fn new<T: TensorNumber>(
        workers: &'a Workers,
        adversaries: &Adversaries,
        task: &ClassifierTask<'a>,
        basal: &Tensor,
        (input, mixup): (&Input, Option<&Mixup>),
        seeds: &mut DropoutSeeds,
    ) -> Self {
        let entry = HiddenInput::Dense(basal.shallow_clone());
        let pass = FusedForwardPass::forward::<T>(workers, &task.classifier.hidden, entry, seeds);
        let logits = tch::no_grad(|| task.classifier.to_classes.forward(pass.output())).set_requires_grad(true);
        let (loss, right) = adversaries.guess(task, &logits, input, mixup);
        let by_logits = Tensor::run_backward(&[&loss], &[&logits], false, false).remove(0);
        Self { pass, loss: loss.detach(), right, by_logits }
    }

    /// Records the gradients with respect to the parameters; returns the one with respect to the latents.
    fn backward<T: TensorNumber>(
        &self,
        task: &ClassifierTask<'_>,
        onto: &[Option<Tensor>],
        found: &mut Gradients,
    ) -> Option<Tensor> {
        let last = &task.classifier.to_classes;
        let (output, by_logits) = (self.pass.output(), &self.by_logits);
        let by_hidden = tch::no_grad(|| linear_back(self.pass.workers, last, (output, by_logits), found));
        self.pass.backward_with::<T>(by_hidden, onto, found)
    }
}
