//! Departures from additivity: a slope that all combinations have in common, and for each that was seen, a component of
//! its own.

use schemas::Result;

use crate::{
    Matrix,
    choice::{PRIOR_OF_SCALES, WeighedKernel},
    likelihoods::{Likelihoods, shares},
    mean,
    measured::DosedPart,
    mixture::{ScalePrior, Spectrum},
    process::Process,
};

/// The standard deviation of the slope around 1.
const SLOPE_DEVIATION: f64 = 0.1;
/// Genes go together, so that this many count as one.
const GENES_PER_EVIDENCE: f64 = 10.0;

/// The fitted parts of combinations.
#[derive(Debug)]
pub(crate) struct Combinations {
    /// The factor of the sum of effects.
    pub(crate) slope: f64,
    /// The components of combinations that were seen, in ascending order of their parts.
    seen: Vec<SeenCombination>,
}

/// The part of one combination's change that is its own, over contexts.
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

/// Fits the factor of the sums of effects (`genes × rows`) in combinations, and then the misfit that it leaves.
pub(crate) fn fit_slope(process: &mut Process, sums: &Matrix) -> f64 {
    let rows = process.shifts.combinations();
    let genes = process.shifts.genes();
    let control_noise = |row: usize| process.background.control_noise[process.shifts.rows[row].context];
    let noise: Vec<f64> = rows.iter().map(|row| process.shifts.noise[*row] + control_noise(*row)).collect();
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
    // Half a step, since the effects follow in the next pass.
    process.misfit = 0.5 * misfit + 0.5 * process.misfit;
    slope
}

/// The contribution of the slope to the sums of combinations, `genes × rows`; 0 in other rows.
pub(crate) fn beyond_sums(process: &Process, sums: &Matrix, slope: f64) -> Matrix {
    let mut beyond = Matrix::zeros(sums.nrows(), sums.ncols());
    for row in process.shifts.combinations() {
        beyond.set_column(row, &(sums.column(row) * (slope - 1.0)));
    }
    beyond
}

impl Combinations {
    /// Estimates what each combination has beyond the slope times the sum of its effects (`genes × rows`).
    ///
    /// # Errors
    /// Numbers that are not finite.
    pub(crate) fn new(
        process: &Process,
        prior: &ScalePrior,
        kernel: WeighedKernel,
        sums: &Matrix,
        slope: f64,
    ) -> Result<Self> {
        let rows = process.shifts.combinations();
        let parts_of = |row: usize| &process.shifts.rows[row].parts;
        let own = |rows: &[usize]| {
            let contexts: Vec<usize> = rows.iter().map(|row| process.shifts.rows[*row].context).collect();
            let values = Matrix::from_fn(process.shifts.genes(), rows.len(), |gene, at| {
                let value = process.shifts.values[(gene, rows[at])] - process.background(rows[at], gene);
                value - slope * sums[(gene, rows[at])]
            });
            let between = &process.kernels[kernel.kernel].between;
            let covariances = between.select_rows(&contexts).select_columns(&contexts);
            // The misfit is what this component estimates, so it does not count as noise here.
            let spectrum = Spectrum::new(&covariances, process.noise(rows, 0.0))?;
            let likelihoods = [Likelihoods::new(spectrum.log_likelihoods(&prior.scales, &values))];
            let shares = shares(&likelihoods, &prior.shares, PRIOR_OF_SCALES, 25);
            let weights = spectrum.weights(&prior.scales, &values, &likelihoods[0].responsibilities(&shares));
            Ok(SeenCombination { parts: parts_of(rows[0]).clone(), contexts, kernel: kernel.kernel, weights })
        };
        let seen = rows.chunk_by(|one, other| parts_of(*one) == parts_of(*other)).map(own).collect::<Result<_>>()?;
        Ok(Self { slope, seen })
    }

    /// Whether a combination was seen at these doses in some context.
    pub(crate) fn has_seen(&self, parts: &[DosedPart]) -> bool {
        self.seen.iter().any(|seen| seen.parts == parts)
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
