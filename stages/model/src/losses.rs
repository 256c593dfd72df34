//! Losses: decoder output against cells, classifiers' logits against classes.

use schemas::config::AdversaryLoss;
use tch::{Kind, Reduction, Tensor};

use super::{decoder::DecoderOutput, input::Cells};

/// Keeps logarithms finite, as in the original.
const EPSILON: f64 = 1e-8;

/// Negative log-likelihood of the cells, summed over genes and averaged over cells.
pub fn reconstruction(output: &DecoderOutput, cells: &Cells) -> Tensor {
    let count = cells.shape[0];
    let total = match output {
        DecoderOutput::NegativeBinomial { mean, theta } => negative_binomial(mean, theta, cells),
        DecoderOutput::ZeroInflated { mean, theta, logits, .. } => zero_inflated(mean, theta, logits, cells),
        DecoderOutput::Normal { mean, variance } => normal(mean, variance, &cells.dense()),
    };
    total / -count
}

/// Log-likelihood of a negative binomial, summed over cells and genes:
///
/// ```text
/// θ (ln(θ+ε) − ln(θ+μ+ε)) + x (ln(μ+ε) − ln(θ+μ+ε)) + lnΓ(x+θ) − lnΓ(θ) − lnΓ(x+1)
/// ```
///
/// The terms with factor x, and the gamma terms, vanish for x = 0, so they are computed only on the non-zeros.
fn negative_binomial(mean: &Tensor, theta: &Tensor, cells: &Cells) -> Tensor {
    let kind = mean.kind();
    let log_sum = (mean + (theta + EPSILON)).log();
    let everywhere = (theta + EPSILON).log().dot(theta) * mean.size()[0]
        - log_sum.sum_dim_intlist([0_i64].as_slice(), false, kind).dot(theta);
    everywhere + of_non_zeros(mean, theta, &log_sum, cells).sum(kind)
}

/// Log-likelihood of a zero-inflated negative binomial, summed over cells and genes. With s₊ the softplus, π the logits and
/// `a = −π + θ (ln(θ+ε) − ln(θ+μ+ε))`:
///
/// ```text
/// x = 0:  s₊(a) − s₊(−π)         x > 0:  a − s₊(−π) + (terms of the non-zeros, as above)
/// ```
///
/// The expression for x = 0 is summed over all entries; non-zeros add the difference, `−s₊(−a)`, and their
/// terms.
fn zero_inflated(mean: &Tensor, theta: &Tensor, logits: &Tensor, cells: &Cells) -> Tensor {
    let kind = mean.kind();
    let log_sum = (mean + (theta + EPSILON)).log();
    let a = ((theta + EPSILON).log() - &log_sum) * theta - logits;
    let everywhere = (a.softplus() - (-logits).softplus()).sum(kind);
    let difference = (-at_non_zeros(&a, cells)).softplus();
    // Zeros among the stored entries were already summed with the other zeros.
    let difference = if cells.padded { difference * cells.values.gt(0.0) } else { difference };
    everywhere + (of_non_zeros(mean, theta, &log_sum, cells) - difference).sum(kind)
}

/// `x (ln(μ+ε) − ln(θ+μ+ε)) + lnΓ(x+θ) − lnΓ(θ) − lnΓ(x+1)` of each non-zero.
fn of_non_zeros(mean: &Tensor, theta: &Tensor, log_sum: &Tensor, cells: &Cells) -> Tensor {
    let x = &cells.values;
    let of_gene = |gene: &Tensor| gene.index_select(0, &cells.genes);
    let gammas = (x + of_gene(theta)).lgamma() - of_gene(&theta.lgamma()) - (x + 1.0).lgamma();
    x * ((at_non_zeros(mean, cells) + EPSILON).log() - at_non_zeros(log_sum, cells)) + gammas
}

fn at_non_zeros(dense: &Tensor, cells: &Cells) -> Tensor {
    dense.view([-1]).index_select(0, cells.places())
}

/// Log-likelihood of a normal, summed over cells and genes. Its terms are summed one by one, so none is kept in memory.
fn normal(mean: &Tensor, variance: &Tensor, x: &Tensor) -> Tensor {
    let kind = mean.kind();
    let log_two_pi = (2.0 * std::f64::consts::PI).ln();
    #[expect(clippy::cast_precision_loss, reason = "a batch has fewer than 2^52 values")]
    let constant = log_two_pi * x.numel() as f64;
    (((x - mean).square() / variance).sum(kind) + variance.log().sum(kind) + constant) * -0.5
}

/// The loss of logits `[cells, classes]` for classes `[cells]`, weighted by class with `weights`.
///
/// Cross-entropy is `Σ w nll / Σ w` over cells, the focal loss the mean over cells of `(1 − p)² w nll`, with p the predicted
/// probability of the class (Lin et al. 2017, γ = 2).
pub fn guess_loss(loss: AdversaryLoss, logits: &Tensor, classes: &Tensor, weights: Option<&Tensor>) -> Tensor {
    match loss {
        AdversaryLoss::Cce => logits.cross_entropy_loss(classes, weights, Reduction::Mean, -100, 0.0),
        AdversaryLoss::Focal => {
            let kind = logits.kind();
            let log_p = logits.log_softmax(-1, kind).gather(1, &classes.unsqueeze(-1), false).squeeze_dim(-1);
            let missed: Tensor = 1.0 - log_p.exp();
            let each = -(missed.square() * log_p);
            let each = weights.map_or_else(|| each.shallow_clone(), |weights| &each * weights.index_select(0, classes));
            each.mean(kind)
        }
    }
}

/// The share of cells whose largest logit is that of their class.
pub fn accuracy(logits: &Tensor, classes: &Tensor) -> Tensor {
    logits.argmax(-1, false).eq_tensor(classes).to_kind(Kind::Float).mean(Kind::Float)
}

/// The same within each class, averaged over the classes that are present or predicted.
pub fn macro_accuracy(logits: &Tensor, classes: &Tensor) -> Tensor {
    let guesses = logits.argmax(-1, false);
    let size = logits.size()[1];
    let hits = guesses.eq_tensor(classes).to_kind(Kind::Float);
    let zeros = || Tensor::zeros([size], (Kind::Float, logits.device()));
    let ones = hits.ones_like();
    let right = zeros().index_add_(0, classes, &hits);
    let there = zeros().index_add_(0, classes, &ones);
    let guessed = zeros().index_add_(0, &guesses, &ones);
    let counted = (&there + guessed).gt(0.0).to_kind(Kind::Float);
    (right / there.clamp_min(1.0) * &counted).sum(Kind::Float) / counted.sum(Kind::Float)
}
