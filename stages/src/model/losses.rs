//! What is compared: decoder output with cells, classes with guesses.

use tch::{Kind, Reduction, Tensor};

use super::{
    input::Cells,
    network::{EPSILON, Output},
};

/// Negative log-likelihood of the cells: summed over genes, averaged over cells.
pub fn reconstruction(output: &Output, cells: &Cells) -> Tensor {
    let count = cells.shape[0];
    let total = match output {
        Output::NegativeBinomial { mean, theta } => negative_binomial(mean, theta, cells),
        Output::Normal { mean, variance } => normal(mean, variance, &cells.dense()),
    };
    total / -count
}

/// Log-likelihood of a negative binomial, summed over cells and genes:
///
/// ```text
/// θ (ln(θ+ε) − ln(θ+μ+ε)) + x (ln(μ+ε) − ln(θ+μ+ε)) + lnΓ(x+θ) − lnΓ(θ) − lnΓ(x+1)
/// ```
///
/// Whatever x multiplies, and the gamma terms, vanish where x is zero, so they are computed on the non-zeros alone.
fn negative_binomial(mean: &Tensor, theta: &Tensor, cells: &Cells) -> Tensor {
    let kind = mean.kind();
    let log_sum = (mean + (theta + EPSILON)).log();
    let everywhere = (theta + EPSILON).log().dot(theta) * mean.size()[0]
        - log_sum.sum_dim_intlist([0_i64].as_slice(), false, kind).dot(theta);
    let x = &cells.values;
    let at = |dense: &Tensor| dense.view([-1]).index_select(0, &cells.places);
    let of_gene = |gene: &Tensor| gene.index_select(0, &cells.genes);
    let gammas = (x + of_gene(theta)).lgamma() - of_gene(&theta.lgamma()) - (x + 1.0).lgamma();
    let non_zeros = x * ((at(mean) + EPSILON).log() - at(&log_sum)) + gammas;
    everywhere + non_zeros.sum(kind)
}

/// Log-likelihood of a normal, summed over cells and genes.
fn normal(mean: &Tensor, variance: &Tensor, x: &Tensor) -> Tensor {
    let log_two_pi = (2.0 * std::f64::consts::PI).ln();
    ((x - mean).square() / variance + variance.log() + log_two_pi).sum(mean.kind()) * -0.5
}

/// Cross-entropy of logits `[cells, classes]` with classes `[cells]`, weighted by class where weights are given:
/// `Σ w nll / Σ w`.
pub fn cross_entropy(logits: &Tensor, classes: &Tensor, weights: Option<&Tensor>) -> Tensor {
    logits.cross_entropy_loss(classes, weights, Reduction::Mean, -100, 0.0)
}

/// The share of cells whose largest logit is their class's.
pub fn accuracy(logits: &Tensor, classes: &Tensor) -> Tensor {
    logits.argmax(-1, false).eq_tensor(classes).to_kind(Kind::Float).mean(Kind::Float)
}
