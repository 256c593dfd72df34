//! What combinations have beyond the sum of their parts: a slope common to all, and for one that was seen, a component of
//! its own.

use schemas::Result;

use crate::{
    Matrix,
    choice::{PRIOR_OF_SCALES, WeighedKernel},
    mean,
    mixture::{Likelihoods, ScalePrior, Spectrum, shares},
    process::Process,
    sums::DosedPart,
};

/// The standard deviation of the slope around 1.
const SLOPE_DEVIATION: f64 = 0.1;
/// Genes go together, so that this many count as one.
const GENES_PER_EVIDENCE: f64 = 10.0;

/// What is known of combinations.
#[derive(Debug)]
pub(crate) struct Combinations {
    /// The factor of the sum of effects.
    pub(crate) slope: f64,
    /// The components of combinations that were seen, in ascending order of their parts.
    seen: Vec<SeenCombination>,
}

/// What one combination has of its own, over contexts.
#[derive(Debug)]
struct SeenCombination {
    parts: Vec<DosedPart>,
    /// The contexts where it was seen.
    contexts: Vec<usize>,
    /// The kernel between contexts.
    kernel: usize,
    /// Weights of these contexts' rows, `genes × contexts`.
    weights: Matrix,
}

impl Combinations {
    /// Sums without anything beyond.
    pub(crate) fn none() -> Self {
        Self { slope: 1.0, seen: Vec::new() }
    }

    /// Fits the slope, then the misfit, then what each combination leaves, given the sums of effects (`genes × rows`).
    ///
    /// # Errors
    /// Numbers that are not finite.
    pub(crate) fn fit(process: &mut Process, prior: &ScalePrior, kernel: WeighedKernel, sums: &Matrix) -> Result<Self> {
        let rows = process.shifts.combinations();
        let genes = process.shifts.genes();
        let noise: Vec<f64> = rows
            .iter()
            .map(|row| process.shifts.noise[*row] + process.background.control_noise[process.shifts.rows[*row].context])
            .collect();
        let value = |row: usize, gene: usize| process.shifts.values[(gene, row)] - process.background(row, gene);
        let (mut by_residual, mut by_sum) = (0.0, 0.0);
        for (row, noise) in rows.iter().zip(&noise) {
            let sum = sums.column(*row);
            let residual: f64 = (0..genes).map(|gene| sum[gene] * (value(*row, gene) - sum[gene])).sum();
            by_residual += residual / (noise + process.misfit);
            by_sum += sum.norm_squared() / (noise + process.misfit);
        }
        let precision = by_sum / GENES_PER_EVIDENCE + SLOPE_DEVIATION.powi(-2);
        let slope = 1.0 + by_residual / GENES_PER_EVIDENCE / precision;

        let left = |row: usize, gene: usize| value(row, gene) - slope * sums[(gene, row)];
        let squares = rows.iter().map(|row| mean((0..genes).map(|gene| left(*row, gene).powi(2))));
        let misfit = (mean(squares) - mean(noise.iter().copied())).max(0.0);
        let misfit = 0.5 * misfit + 0.5 * process.misfit;

        let mut seen: Vec<SeenCombination> = Vec::new();
        for of_one in rows.chunk_by(|one, other| process.shifts.rows[*one].parts == process.shifts.rows[*other].parts) {
            let contexts: Vec<usize> = of_one.iter().map(|row| process.shifts.rows[*row].context).collect();
            let values = Matrix::from_fn(genes, of_one.len(), |gene, at| left(of_one[at], gene));
            let between = &process.kernels[kernel.kernel].between;
            let covariances = between.select_rows(&contexts).select_columns(&contexts);
            // The misfit is what this component estimates, so it is no noise here.
            let spectrum = Spectrum::new(&covariances, process.noise(of_one, 0.0))?;
            let likelihoods = [Likelihoods::new(spectrum.log_likelihoods(&prior.scales, &values))];
            let shares = shares(&likelihoods, &prior.shares, PRIOR_OF_SCALES, 25);
            let weights = spectrum.weights(&prior.scales, &values, &likelihoods[0].responsibilities(&shares));
            let parts = process.shifts.rows[of_one[0]].parts.clone();
            seen.push(SeenCombination { parts, contexts, kernel: kernel.kernel, weights });
        }
        process.misfit = misfit;
        Ok(Self { slope, seen })
    }

    /// What the slope adds to the sums of combinations, `genes × rows`; 0 in other rows.
    pub(crate) fn beyond_sums(&self, process: &Process, sums: &Matrix) -> Matrix {
        let mut beyond = Matrix::zeros(sums.nrows(), sums.ncols());
        for row in process.shifts.combinations() {
            beyond.set_column(row, &(sums.column(row) * (self.slope - 1.0)));
        }
        beyond
    }

    /// Adds what a combination has of its own, if it was seen at these doses, on a range of genes in a context.
    pub(crate) fn add_own(
        &self,
        sum: &mut [f64],
        first_gene: usize,
        process: &Process,
        parts: &[DosedPart],
        context: Option<usize>,
    ) {
        let Some(seen) = self.seen.iter().find(|seen| seen.parts == parts) else { return };
        for (known, weights) in seen.contexts.iter().zip(seen.weights.column_iter()) {
            let covariance = process.kernels[seen.kernel].to(*known, context);
            let weights = weights.rows(first_gene, sum.len());
            sum.iter_mut().zip(weights.iter()).for_each(|(sum, weight)| *sum += covariance * weight);
        }
    }
}
