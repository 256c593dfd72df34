//! The gradient of a gradient penalty in closed form, instead of differentiating a backward pass automatically.
//!
//! Let S be the sum of all logits. The backward pass from S to the latent consists of linear layers
//! (`e ← dx W`), masks and norms (`dx` from `e`, [`kernels::penalty`]). The penalty P is
//! the mean square of the result. Its adjoint v starts as 2 g / numel and goes back up: a linear layer's
//! weight gets `dxᵀ v`, and `v ← v Wᵀ`; a norm adds a term to the gradient of its own input, which joins the
//! ordinary backward pass there.

use kernels::{
    layer::CutBackward,
    penalty::{BatchNormDown, BatchNormUp, LayerNormDown, LayerNormUp},
};
use schemas::numbers::bounded;
use simd::widest;
use tch::Tensor;
use torch::memory::{TensorNumber, numbers, numbers_mut};

use super::{
    chain::{FusedForwardPass, LayerPass},
    pieces::product,
};
use crate::{
    gradients::Gradients,
    layers::{BatchNorm, Linear},
};

/// A penalty, and its terms for the ordinary backward pass.
pub(super) struct Penalty {
    /// The mean over cells and latent of (∂S/∂latent)².
    pub(super) value: Tensor,
    /// The term added to the gradient with respect to each linear layer's output; `None` if no norm follows it.
    pub(super) onto: Vec<Option<Tensor>>,
}

/// One layer of the downward pass.
struct DownwardGradients {
    /// The gradient after the mask.
    d: Tensor,
    /// The gradient with respect to the linear layer's output.
    dx: Tensor,
}

impl DownwardGradients {
    fn new<T: TensorNumber>(step: &LayerPass, norm: Option<&BatchNorm>, e: Tensor) -> Self {
        let mut d = e;
        let Some(passed) = step.passed::<T>() else {
            widest(CutBackward {
                output: numbers(&step.output),
                dropout: step.dropout,
                gradient: numbers_mut::<T>(&mut d),
            });
            return Self { dx: d.shallow_clone(), d };
        };
        let mut dx = d.empty_like();
        let (gradient, by_input) = (numbers_mut(&mut d), numbers_mut(&mut dx));
        match norm {
            Some(norm) => widest(BatchNormDown { passed, weight: numbers(&norm.weight), gradient, by_input }),
            None => widest(LayerNormDown { passed, width: bounded(step.output.size()[1]), gradient, by_input }),
        }
        Self { d, dx }
    }

    /// Turns the adjoint of `dx` into that of `e`; returns the term for the norm's input, if there is a norm.
    fn up<T: TensorNumber>(
        &self,
        step: &LayerPass,
        norm: Option<&BatchNorm>,
        v: &mut Tensor,
        found: &mut Gradients,
    ) -> Option<Tensor> {
        let Some(passed) = step.passed::<T>() else {
            widest(CutBackward { output: numbers(&step.output), dropout: step.dropout, gradient: numbers_mut::<T>(v) });
            return None;
        };
        let mut onto_input = v.empty_like();
        let (gradient, adjoint, onto) = (numbers(&self.d), numbers_mut(v), numbers_mut(&mut onto_input));
        match norm {
            Some(norm) => {
                let mut by_weight = norm.weight.detach().empty_like();
                let (weight, of_weight) = (numbers(&norm.weight), numbers_mut(&mut by_weight));
                widest(BatchNormUp { passed, weight, gradient, adjoint, onto, of_weight });
                found.add(&norm.weight, || by_weight);
            }
            None => widest(LayerNormUp { passed, width: bounded(step.output.size()[1]), gradient, adjoint, onto }),
        }
        Some(onto_input)
    }
}

/// Computes the penalty of a classifier from its pass, and adds `weight` times its gradient with respect to
/// the weights; `last` follows the hidden layers.
pub(super) fn penalise<T: TensorNumber>(
    pass: &FusedForwardPass<'_>,
    last: &Linear,
    weight: f64,
    found: &mut Gradients,
) -> Penalty {
    let _no_grad = tch::no_grad_guard();
    let top = pass.output();
    let mut e = last.weight.sum_dim_intlist([0_i64].as_slice(), true, T::KIND).expand_as(top).contiguous();
    let mut downs = Vec::with_capacity(pass.steps.len());
    for ((linear, norm), step) in pass.layers.layers.iter().zip(&pass.steps).rev() {
        let down = DownwardGradients::new::<T>(step, norm.as_ref(), e);
        e = product(pass.workers, &down.dx, &linear.weight);
        downs.push(down);
    }
    let value = e.square().mean(T::KIND);
    #[expect(clippy::cast_precision_loss, reason = "no latent has 2^52 numbers")]
    let mut v = &e * (2.0 * weight / e.numel() as f64);
    let mut onto = Vec::with_capacity(downs.len());
    for (((linear, norm), step), down) in pass.layers.layers.iter().zip(&pass.steps).zip(downs.iter().rev()) {
        found.add(&linear.weight, || product(pass.workers, &down.dx.tr(), &v));
        v = product(pass.workers, &v, &linear.weight.tr());
        onto.push(down.up::<T>(step, norm.as_ref(), &mut v, found));
    }
    found.add(&last.weight, || v.sum_dim_intlist([0_i64].as_slice(), true, T::KIND).expand_as(&last.weight));
    Penalty { value, onto }
}
