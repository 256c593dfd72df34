//! Softmax, negative binomial log-likelihood and its gradients with respect to logits and dispersion, one row
//! at a time.
//!
//! With p the softmax of a row's logits, μ = library · p, θ = exp(r), s = θ + μ + ε, and the terms of x only
//! on the non-zeros:
//!
//! ```text
//! ln P  = Σ −θ ln(1 + μ/(θ+ε))  +  Σ over x > 0 of  x ln((μ+ε)/s) + lnΓ(x+θ) − lnΓ(θ) − lnΓ(x+1)
//! m     = ∂ ln P/∂μ  = −θ/s + x/(μ+ε) − x/s
//! ∂ ln P/∂logit_j    = μ_j m_j − p_j Σ_k μ_k m_k
//! ∂ ln P/∂θ          = Σ over rows of  θ/(θ+ε) − θ/s − ln(1 + μ/(θ+ε))  +  over x > 0 of  ψ(x+θ) − ψ(θ) − x/s
//! ∂ ln P/∂r          = θ ∂ ln P/∂θ
//! ```

use simd::{InstructionSet, Kernel};

use super::{
    dispersion::DispersionTerms,
    real::Real,
    sparse::{CsrView, index},
    sums::{ColumnSums, largest, sum},
};

/// Keeps the arguments of logarithms positive, as in the original.
pub(super) const EPSILON: f64 = 1e-8;

/// The loss of rows of a batch: their share of −ln P, averaged over all cells of the batch.
pub struct NegativeBinomial<'a, T> {
    /// Logits of each gene's share of a cell's library, without the bias, `[rows, genes]`. If gradients are computed, they
    /// are overwritten by the loss's gradient; otherwise by intermediate values.
    pub logits: &'a mut [T],
    /// Terms added to the logits of every cell, `[genes]`.
    pub bias: &'a [T],
    /// The counts of the rows.
    pub cells: CsrView<'a, T>,
    /// Library sizes, `[rows]`.
    pub library: &'a [T],
    /// The dispersion of each gene.
    pub dispersion: &'a DispersionTerms<T>,
    /// Number of cells of the whole batch.
    pub of_cells: usize,
    /// Whether gradients are computed.
    pub learns: bool,
}

/// The loss of some rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowsLoss {
    /// Their share of the batch's loss.
    pub loss: f64,
    /// Their share of the loss's gradient with respect to the bias, `[genes]`; empty if gradients were not computed.
    pub by_bias: Vec<f64>,
    /// Their share of the one with respect to each gene's θ, `[genes]`; likewise.
    pub by_theta: Vec<f64>,
}

impl RowsLoss {
    /// The loss of all rows, added in the order in which they are given.
    #[must_use]
    pub fn of_all(parts: Vec<Self>) -> Self {
        let sum = |mut sum: Self, part: Self| {
            sum.loss += part.loss;
            for (sums, parts) in [(&mut sum.by_bias, part.by_bias), (&mut sum.by_theta, part.by_theta)] {
                sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
            }
            sum
        };
        parts.into_iter().reduce(sum).unwrap_or_default()
    }
}

/// Buffers for the current row.
struct RowBuffers<T> {
    /// μ of every gene.
    mean: Vec<T>,
    /// 1/s of every gene.
    inverse: Vec<T>,
    /// Terms that are summed over genes.
    terms: Vec<T>,
    /// For the non-zeros: μ, 1/s, and θ with its gamma terms.
    gathered: [Vec<T>; 5],
    /// For the non-zeros, their terms of ∂ ln P/∂θ.
    by_theta: Vec<T>,
}

impl<T: Real> RowBuffers<T> {
    fn new(genes: usize) -> Self {
        let zeros = || vec![T::default(); genes];
        Self {
            mean: zeros(),
            inverse: zeros(),
            terms: zeros(),
            gathered: std::array::from_fn(|_| zeros()),
            by_theta: zeros(),
        }
    }
}

impl<T: Real> Kernel for NegativeBinomial<'_, T> {
    type Out = RowsLoss;

    #[inline(always)]
    fn run<W: InstructionSet>(self) -> RowsLoss {
        let Self { logits, bias, cells, library, dispersion, of_cells, learns } = self;
        let genes = bias.len();
        let mut scratch = RowBuffers::new(genes);
        let mut slopes = ColumnSums::<T, 2>::new(genes);
        let mut loss = 0.0;
        #[expect(clippy::cast_precision_loss, reason = "no batch has 2^52 cells")]
        let scale = T::from_f64(-1.0 / of_cells as f64);
        for (at, logits) in logits.chunks_exact_mut(genes).enumerate() {
            let [by_bias, by_theta] = slopes.next_row();
            let share = softmax::<T, W>(logits, bias, library[at], &mut scratch.mean);
            on_all_genes::<T, W>(logits, dispersion, &mut scratch, by_theta);
            loss += sum(&scratch.terms);
            loss += on_non_zeros::<T, W>(cells.row(at), logits, dispersion, &mut scratch, by_theta);
            if learns {
                let all = T::from_f64(sum(logits) * share);
                let by_bias = &mut by_bias[..genes];
                for ((logit, mean), by_bias) in logits.iter_mut().zip(&scratch.mean).zip(by_bias) {
                    *logit = (*logit - *mean * all) * scale;
                    *by_bias += *logit;
                }
            }
        }
        let loss = loss * scale.wide();
        if !learns {
            return RowsLoss { loss, ..RowsLoss::default() };
        }
        let [by_bias, mut by_theta] = slopes.finish();
        by_theta.iter_mut().for_each(|slope| *slope *= scale.wide());
        RowsLoss { loss, by_bias, by_theta }
    }
}

/// Puts a row's means into `mean`, and its logits with the bias into `logits`; returns the factor that turns
/// a mean into its share of the library.
#[inline(always)]
pub(super) fn softmax<T: Real, W: InstructionSet>(logits: &mut [T], bias: &[T], library: T, mean: &mut [T]) -> f64 {
    for (logit, bias) in logits.iter_mut().zip(bias) {
        *logit += *bias;
    }
    let most = largest(logits);
    let mean = &mut mean[..logits.len()];
    for (mean, logit) in mean.iter_mut().zip(&*logits) {
        *mean = (*logit - most).exp_of_negative::<W>();
    }
    let scale = T::from_f64(library.wide() / sum(mean));
    for mean in mean {
        *mean = *mean * scale;
    }
    // A cell without counts has no means, so no gradient either.
    if library == T::default() { 0.0 } else { 1.0 / library.wide() }
}

/// The terms without x: likelihoods go to `terms`, μ ∂/∂μ overwrites the logits, and ∂/∂θ is added to
/// `by_theta`.
#[inline(always)]
fn on_all_genes<T: Real, W: InstructionSet>(
    logits: &mut [T],
    of_genes: &DispersionTerms<T>,
    scratch: &mut RowBuffers<T>,
    by_theta: &mut [T],
) {
    let genes = logits.len();
    let (theta, inverse_theta) = (&of_genes.theta[..genes], &of_genes.inverse[..genes]);
    let (mean, inverse, terms) = (&scratch.mean[..genes], &mut scratch.inverse[..genes], &mut scratch.terms[..genes]);
    let by_theta = &mut by_theta[..genes];
    for at in 0..genes {
        let [log, shrink] = (mean[at] * inverse_theta[at]).ln_1p::<W>();
        let inverse_sum = inverse_theta[at] * shrink;
        let pull = theta[at] * mean[at] * inverse_sum;
        inverse[at] = inverse_sum;
        terms[at] = -(theta[at] * log);
        logits[at] = -pull;
        by_theta[at] += pull * inverse_theta[at] - log;
    }
}

/// The terms with x; returns their likelihood.
#[inline(always)]
fn on_non_zeros<T: Real, W: InstructionSet>(
    (columns, values): (&[i64], &[T]),
    logits: &mut [T],
    of_genes: &DispersionTerms<T>,
    scratch: &mut RowBuffers<T>,
    by_theta: &mut [T],
) -> f64 {
    let count = columns.len();
    let [mean, inverse, theta, log_gamma, digamma] = &mut scratch.gathered;
    let sources = [&scratch.mean, &scratch.inverse, &of_genes.theta, &of_genes.log_gamma, &of_genes.digamma];
    for (to, from) in [&mut *mean, inverse, theta, log_gamma, digamma].into_iter().zip(sources) {
        for (to, column) in to.iter_mut().zip(columns) {
            *to = from[index(*column)];
        }
    }
    let (mean, inverse, theta) = (&mut mean[..count], &inverse[..count], &theta[..count]);
    let (log_gamma, digamma, values) = (&log_gamma[..count], &digamma[..count], &values[..count]);
    let (terms, slopes) = (&mut scratch.terms[..count], &mut scratch.by_theta[..count]);
    let (one, epsilon) = (T::from_f64(1.0), T::from_f64(EPSILON));
    for at in 0..count {
        let x = values[at];
        let guarded = mean[at] + epsilon;
        let [of_sum, slope] = (x + theta[at]).log_gamma_and_slope::<W>();
        let [of_count, _] = (x + one).log_gamma_and_slope::<W>();
        let log = (guarded * inverse[at]).ln::<W>();
        terms[at] = x.mul_add::<W>(log, of_sum - log_gamma[at] - of_count);
        slopes[at] = slope - digamma[at] - x * inverse[at];
        mean[at] = mean[at] * x * (one / guarded - inverse[at]);
    }
    for (at, column) in columns.iter().enumerate() {
        let column = index(*column);
        logits[column] += mean[at];
        by_theta[column] += slopes[at];
    }
    sum(terms)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simd::every_instruction_set;

    use super::*;
    use crate::sparse::tests::OwnedRows;

    /// Loss and gradients computed from the formulas directly, in float64.
    struct Naive {
        loss: f64,
        /// The sum of the absolute values of the loss's terms.
        summed: f64,
        by_logits: Vec<f64>,
        by_dispersion: Vec<f64>,
        /// The largest terms in the sum of each gradient, by which its rounding error is measured.
        largest: [f64; 2],
    }

    fn naive(logits: &[f64], counts: &[f64], library: &[f64], dispersion: &[f64]) -> Naive {
        use statrs::function::gamma::{digamma, ln_gamma};
        let genes = dispersion.len();
        let cells = f64::from(u32::try_from(library.len()).expect("a small number"));
        let (mut loss, mut by_logits, mut by_dispersion) = (0.0, Vec::new(), vec![0.0; genes]);
        let (mut largest, mut summed) = ([0.0_f64; 2], 0.0);
        for (row, library) in library.iter().enumerate() {
            let logits = &logits[row * genes..][..genes];
            let exps: Vec<f64> = logits.iter().map(|logit| (logit - logits[0]).exp()).collect();
            let all: f64 = exps.iter().sum();
            let mut slopes = Vec::new();
            for gene in 0..genes {
                let (x, theta) = (counts[row * genes + gene], dispersion[gene].exp());
                let mean = library * exps[gene] / all;
                let s = theta + mean + EPSILON;
                let parts = [
                    theta * ((theta + EPSILON).ln() - s.ln()),
                    x * ((mean + EPSILON).ln() - s.ln()),
                    ln_gamma(x + theta),
                    -ln_gamma(theta),
                    -ln_gamma(x + 1.0),
                ];
                loss -= parts.iter().sum::<f64>();
                summed += parts.iter().map(|part| part.abs()).sum::<f64>() / cells;
                slopes.push(mean * (-(theta + x) / s + x / (mean + EPSILON)));
                let by_theta = (theta + EPSILON).ln() + theta / (theta + EPSILON) - s.ln() - (theta + x) / s
                    + digamma(x + theta)
                    - digamma(theta);
                by_dispersion[gene] -= theta * by_theta / cells;
                let of_theta = theta * ((x + theta) / s).max(digamma(x + theta).abs()).max((mean / theta).ln_1p());
                largest = [largest[0].max(mean * (theta + x) / s / cells), largest[1].max(of_theta / cells)];
            }
            let sum: f64 = slopes.iter().sum();
            by_logits.extend(slopes.iter().zip(&exps).map(|(slope, exp)| -(slope - exp / all * sum) / cells));
        }
        Naive { loss: loss / cells, summed, by_logits, by_dispersion, largest }
    }

    /// A batch that owns the data that a kernel borrows.
    #[derive(Clone, Debug)]
    struct Owned<T> {
        logits: Vec<T>,
        bias: Vec<T>,
        cells: OwnedRows<T>,
        library: Vec<T>,
        dispersion: Vec<T>,
    }

    impl<T: Real> Owned<T> {
        fn new(logits: &[f64], counts: &[f64], library: &[f64], dispersion: &[f64]) -> Self {
            let narrow = |numbers: &[f64]| numbers.iter().map(|number| T::from_f64(*number)).collect::<Vec<T>>();
            let counts = narrow(counts);
            // A part of the logits that float32 adds and subtracts without rounding.
            let bias: Vec<T> = (0..dispersion.len()).map(|gene| T::from_f64(gene as f64 % 7.0 / 8.0)).collect();
            let rows = logits.chunks(dispersion.len());
            let logits =
                rows.flat_map(|row| row.iter().zip(&bias).map(|(logit, bias)| T::from_f64(logit - bias.wide())));
            let logits = logits.collect();
            Self {
                logits,
                bias,
                cells: OwnedRows::from_dense(&counts, dispersion.len()),
                library: narrow(library),
                dispersion: narrow(dispersion),
            }
        }
    }

    impl<T: Real> Kernel for Owned<T> {
        type Out = (f64, Vec<T>, Vec<T>);

        #[inline(always)]
        fn run<W: InstructionSet>(mut self) -> Self::Out {
            let (genes, of_cells) = (self.dispersion.len(), self.library.len());
            let dispersion = DispersionTerms::new(&self.dispersion);
            // In two pieces, the second without rows if there is only one.
            let first = of_cells.div_ceil(2);
            let (above, below) = self.logits.split_at_mut(first * genes);
            let pieces = [(above, 0..first), (below, first..of_cells)].map(|(logits, rows)| {
                NegativeBinomial {
                    logits,
                    bias: &self.bias,
                    cells: self.cells.view().part(rows.clone()),
                    library: &self.library[rows],
                    dispersion: &dispersion,
                    of_cells,
                    learns: true,
                }
                .run::<W>()
            });
            let all = RowsLoss::of_all(pieces.into());
            let mut slopes = vec![T::default(); genes];
            dispersion.slopes(&all.by_theta, &mut slopes);
            (all.loss, self.logits, slopes)
        }
    }

    fn far<T: Real>(found: &[T], expected: &[f64], scale: f64) -> f64 {
        let far = found.iter().zip(expected).fold(0.0, |most: f64, (a, b)| most.max((a.wide() - b).abs()));
        far / scale.max(1e-9)
    }

    fn batch() -> impl Strategy<Value = [Vec<f64>; 4]> {
        (1_usize..70, 1_usize..40).prop_flat_map(|(cells, genes)| {
            let count = prop_oneof![4 => Just(0.0), 2 => (1_u16..6).prop_map(f64::from), 1 => 0.0_f64..900.0];
            // Numbers that float32 represents exactly, so that both types compute with the same ones.
            let narrow = |low: f64, high: f64| (low..high).prop_map(|number| f32::from_f64(number).wide());
            (
                prop::collection::vec(
                    (-393_216..393_216).prop_map(|number| f64::from(number) / 65_536.0),
                    cells * genes,
                ),
                prop::collection::vec(count.prop_map(|number| f32::from_f64(number).wide()), cells * genes),
                prop::collection::vec(prop_oneof![9 => narrow(1.0, 5000.0), 1 => Just(0.0)], cells),
                prop::collection::vec(narrow(-4.0, 5.0), genes),
            )
                .prop_map(|(logits, counts, library, dispersion)| [logits, counts, library, dispersion])
        })
    }

    proptest! {
        #[test]
        fn loss_and_gradients_are_those_of_the_formulas([logits, counts, library, dispersion] in batch()) {
            let expected = naive(&logits, &counts, &library, &dispersion);
            let (double, single) = (
                every_instruction_set(|| Owned::<f64>::new(&logits, &counts, &library, &dispersion)),
                every_instruction_set(|| Owned::<f32>::new(&logits, &counts, &library, &dispersion)),
            );
            let single = single.iter().map(|(loss, a, b)| (loss, distances(a, b, &expected), 5e-6));
            for (loss, distances, tolerance) in
                double.iter().map(|(loss, a, b)| (loss, distances(a, b, &expected), 1e-11)).chain(single)
            {
                let off = (loss - expected.loss).abs() / expected.summed.max(1.0);
                prop_assert!(off < tolerance, "the loss {loss} is not {}", expected.loss);
                prop_assert!(distances[0] < 2.0 * tolerance, "the gradient by logits is off by {}", distances[0]);
                prop_assert!(distances[1] < 10.0 * tolerance, "the gradient by dispersion is off by {}", distances[1]);
            }
        }
    }

    fn distances<T: Real>(by_logits: &[T], by_dispersion: &[T], expected: &Naive) -> [f64; 2] {
        [
            far(by_logits, &expected.by_logits, expected.largest[0]),
            far(by_dispersion, &expected.by_dispersion, expected.largest[1]),
        ]
    }
}
