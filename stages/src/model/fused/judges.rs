//! The update of the adversaries by hand: a pass through each classifier and back, its gradient penalty in closed form.

use tch::Tensor;

use super::{
    chain::{Entry, Pass, Seeds, linear_back},
    gradients::Gradients,
    memory::Number,
    penalty::penalise,
};
use crate::model::{
    adversary::{Adversaries, Verdict},
    draws::Mixup,
    input::Input,
};

/// What the adversaries say of basal latents, penalties included, and the gradients by their parameters of
/// loss + `weight` · penalty.
pub(super) fn judge<T: Number>(
    adversaries: &Adversaries,
    basal: &Tensor,
    input: &Input,
    mixup: Option<&Mixup>,
    weight: f64,
) -> (Verdict, Gradients) {
    let mut seeds = Seeds::drawn();
    let (mut verdict, mut found) = (adversaries.verdict(true), Gradients::default());
    for of in adversaries.classifiers() {
        let pass = Pass::forward::<T>(&of.classifier.hidden, Entry::Dense(basal.contiguous()), &mut seeds);
        let last = &of.classifier.to_classes;
        let logits = tch::no_grad(|| last.forward(pass.output())).set_requires_grad(true);
        let (loss, right) = adversaries.guess(&of, &logits, input, mixup);
        let by_logits = Tensor::run_backward(&[&loss], &[&logits], false, false).remove(0);
        let penalty = penalise(&pass, last, weight, &mut found);
        let by_hidden = tch::no_grad(|| linear_back(last, pass.output(), &by_logits, &mut found));
        pass.backward_with::<T>(by_hidden, &penalty.onto, &mut found);
        verdict.add(of.name, loss.detach(), right, Some(penalty.value));
    }
    (verdict, found)
}
