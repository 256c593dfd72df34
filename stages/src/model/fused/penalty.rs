//! The gradient of a gradient penalty in closed form, where automatic differentiation would go through its own way back.
//!
//! Let S be the sum of all logits. The way from S down to the latent is made of linear layers (`e ← d W`), masks (`d = m e`) and
//! norms: with x̂ what the norm makes of its input, s its deviation, w its weight, n the numbers that it is over and ⟨⟩ their mean,
//!
//! ```text
//! core = d − ⟨d⟩ − x̂⟨d x̂⟩,   dx = (w/s) core
//! ```
//!
//! The penalty P is the mean square of what arrives. Its adjoint v starts as 2g/numel and walks that way up again:
//!
//! ```text
//! linear:  ∂W += dxᵀ v,  v ← v Wᵀ              mask:  v ← m v
//! norm:    ∂w += Σ v core / s,   v ← (w/s)(v − ⟨v⟩ − x̂⟨v x̂⟩)   and, onto the norm's own input,
//!          (a − ⟨a⟩ − x̂⟨a x̂⟩)/s − (w/s²) x̂ ⟨v core⟩   with   a = −(w/s)(v⟨d x̂⟩ + d⟨v x̂⟩)
//! ```
//!
//! What is put onto the norms' inputs joins the ordinary way back from there.

use tch::{Kind, Tensor};

use super::{
    chain::{Pass, Step},
    gradients::Gradients,
};
use crate::model::layers::{BatchNorm, Linear};

/// A penalty and what it leaves for the ordinary way back.
pub(super) struct Penalty {
    /// The mean over cells and latent of (∂S/∂latent)².
    pub(super) value: Tensor,
    /// What is added to the gradient by each linear layer's output; nothing where no norm follows it.
    pub(super) onto: Vec<Option<Tensor>>,
}

/// One layer on the way down.
struct Down {
    mask: Tensor,
    /// The gradient that comes out of the mask.
    d: Tensor,
    /// The gradient by the linear layer's output.
    dx: Tensor,
    norm: Option<NormDown>,
}

/// A norm on the way down; what is of features or cells is `[1, width]` or `[cells, 1]`.
struct NormDown {
    /// What it takes its means over: cells or features.
    axis: i64,
    /// Its input, normalised.
    normal: Tensor,
    /// 1/s.
    inverse: Tensor,
    /// w/s.
    slope: Tensor,
    core: Tensor,
    /// ⟨d x̂⟩.
    tilt: Tensor,
}

impl NormDown {
    fn new(step: &Step, norm: Option<&BatchNorm>, d: &Tensor) -> Option<Self> {
        let [mean, inverse] = &step.statistics[..] else { return None };
        let (axis, across) = if norm.is_some() { (0, 0) } else { (1, 1) };
        let (mean, inverse) = (mean.unsqueeze(across), inverse.unsqueeze(across));
        let normal = (&step.linear - mean) * &inverse;
        let slope = norm.map_or_else(|| inverse.shallow_clone(), |norm| &inverse * norm.weight.unsqueeze(0));
        let tilt = average(&(d * &normal), axis);
        let core = d - average(d, axis) - &normal * &tilt;
        Some(Self { axis, normal, inverse, slope, core, tilt })
    }

    /// `x − ⟨x⟩ − x̂⟨x x̂⟩`.
    fn centred(&self, x: &Tensor) -> Tensor {
        x - average(x, self.axis) - &self.normal * average(&(x * &self.normal), self.axis)
    }

    /// What the adjoint of `dx` puts onto the norm's input.
    fn onto_input(&self, d: &Tensor, v: &Tensor) -> Tensor {
        let a = -(v * &self.tilt + d * average(&(v * &self.normal), self.axis)) * &self.slope;
        let of_spread = average(&(v * &self.core), self.axis) * &self.slope * &self.inverse;
        self.centred(&a) * &self.inverse - &self.normal * of_spread
    }
}

fn average(x: &Tensor, axis: i64) -> Tensor {
    x.mean_dim([axis].as_slice(), true, x.kind())
}

/// Computes the penalty of a classifier from its pass, and adds `weight` times its gradient by weights; `last` follows the
/// hidden layers.
pub(super) fn penalise(pass: &Pass<'_>, last: &Linear, weight: f64, found: &mut Gradients) -> Penalty {
    let _no_grad = tch::no_grad_guard();
    let top = pass.output();
    let kind: Kind = top.kind();
    let mut e = last.weight.sum_dim_intlist([0_i64].as_slice(), true, kind).expand_as(top);
    let mut downs = Vec::with_capacity(pass.steps.len());
    for ((linear, norm), step) in pass.layers.layers.iter().zip(&pass.steps).rev() {
        let mask = step.output.gt(0.0).to_kind(kind) * step.dropout.scale();
        let d = &e * &mask;
        let normed = NormDown::new(step, norm.as_ref(), &d);
        let dx = normed.as_ref().map_or_else(|| d.shallow_clone(), |normed| &normed.core * &normed.slope);
        e = dx.matmul(&linear.weight);
        downs.push(Down { mask, d, dx, norm: normed });
    }
    let value = e.square().mean(kind);
    #[expect(clippy::cast_precision_loss, reason = "no latent has 2^52 numbers")]
    let mut v = &e * (2.0 * weight / e.numel() as f64);
    let mut onto = Vec::with_capacity(downs.len());
    for ((linear, norm), down) in pass.layers.layers.iter().zip(downs.into_iter().rev()) {
        found.add(&linear.weight, down.dx.tr().matmul(&v));
        v = v.matmul(&linear.weight.tr());
        onto.push(down.norm.as_ref().map(|normed| normed.onto_input(&down.d, &v)));
        if let Some(normed) = &down.norm {
            if let Some(norm) = norm {
                let of_weight = (&v * &normed.core * &normed.inverse).sum_dim_intlist([0_i64].as_slice(), false, kind);
                found.add(&norm.weight, of_weight);
            }
            v = normed.centred(&v) * &normed.slope;
        }
        v *= down.mask;
    }
    let of_top = v.sum_dim_intlist([0_i64].as_slice(), true, kind).expand_as(&last.weight);
    found.add(&last.weight, of_top);
    Penalty { value, onto }
}
