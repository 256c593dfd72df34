//! Which scales effects have, what doses have of their own, and which kernels between contexts describe effects.

use schemas::Result;

use crate::{
    Matrix, evenly_spaced,
    likelihoods::{Likelihoods, shares},
    mean,
    mixture::ScalePrior,
    process::Process,
    shifts::{Exposure, PerturbationRows},
};

/// The kernel with which the scales are fitted, and with which effects are estimated where no perturbation was seen
/// in two contexts.
const USUAL_KERNEL: usize = 2;
/// Numbers of perturbations that suffice for the scales, for the kernels, and for doses.
const ENOUGH_FOR_SCALES: usize = 60;
const ENOUGH_FOR_KERNELS: usize = 50;
const ENOUGH_FOR_DOSES: usize = 50;
/// Shares ω and factors of the noise that are tried.
const OWN_SHARES: [f64; 4] = [0.03, 0.15, 0.35, 0.7];
const NOISE_FACTORS: [f64; 4] = [1.0, 1.4, 2.0, 3.0];
/// The share where no perturbation has two rows in one context.
const USUAL_OWN_SHARE: f64 = 0.15;
/// The kernel between contexts by which doses are compared: of equals, a third of a context's own.
const KERNEL_FOR_DOSES: usize = 3;
/// From more perturbations than this, genes have shares of their own.
const FEW_PERTURBATIONS: usize = 3;
/// How many perturbations' worth of evidence speaks for a gene being as all genes are.
const PRIOR_OF_GENES: f64 = 30.0;
/// How many genes' worth of evidence speaks for a perturbation's scales being those of all.
pub(crate) const PRIOR_OF_SCALES: f64 = 10.0;
/// Number of genes by which kernels and doses are compared.
const ENOUGH_GENES: usize = 500;
/// How much a mean over genes of log marginal likelihoods counts: as that many independent genes would.
pub(crate) const LIKELIHOOD_WEIGHT: f64 = 60.0;
/// How much a left-out context counts: as that many independent numbers would.
const LEFT_OUT_WEIGHT: f64 = 3.0;
/// Kernels between contexts that are kept: at most this many, with at least `SMALLEST_WEIGHT`.
pub const MOST_KERNELS: usize = 6;
/// The smallest weight of a kernel that is kept.
pub(crate) const SMALLEST_WEIGHT: f64 = 0.02;

/// A kernel between contexts and its weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeighedKernel {
    /// Its place in the list.
    pub(crate) kernel: usize,
    /// Its weight; those of all kept kernels add up to 1.
    pub(crate) weight: f64,
}

/// Chooses ω and a factor of the noise of all rows: those with the largest marginal likelihood. Perturbations with
/// several rows in one context are compared; without any, the noise stays as it is.
///
/// Returns the factor.
///
/// # Errors
/// Numbers that are not finite.
pub(crate) fn choose_doses(process: &mut Process, prior: &ScalePrior) -> Result<f64> {
    let repeats = |rows: &[Exposure]| {
        rows.iter().enumerate().any(|(at, row)| rows[..at].iter().any(|other| other.context == row.context))
    };
    let perturbations = &process.shifts.perturbations;
    let compared = |at: &usize| perturbations[*at].has_doses() && repeats(&perturbations[*at].all);
    let chosen: Vec<usize> = (0..perturbations.len()).filter(compared).collect();
    if chosen.is_empty() {
        process.doses.own = if process.doses.varies() { USUAL_OWN_SHARE } else { 0.0 };
        return Ok(1.0);
    }
    let genes = enough_genes(process);
    let noise = process.shifts.noise.clone();
    let mut best: Option<(f64, f64, f64)> = None;
    for own in OWN_SHARES {
        for factor in NOISE_FACTORS {
            process.doses.own = own;
            process.shifts.noise = noise.iter().map(|noise| noise * factor).collect();
            let mut likelihoods = Vec::new();
            for at in evenly_spaced(chosen.len(), ENOUGH_FOR_DOSES) {
                let rows = &process.shifts.perturbations[chosen[at]].alone;
                if rows.is_empty() {
                    likelihoods.push(Likelihoods::new(Matrix::zeros(genes.len(), prior.scales.len())));
                    continue;
                }
                let spectrum = process.spectrum(chosen[at], KERNEL_FOR_DOSES, rows)?;
                let values = process.beyond_background(rows).select_rows(&genes);
                likelihoods.push(Likelihoods::new(spectrum.log_likelihoods(&prior.scales, &values)));
            }
            let shares = shares(&likelihoods, &prior.ignorant, 1.0, 20);
            let found = mean(likelihoods.iter().map(|genes| genes.mean_log(&shares)));
            if best.is_none_or(|(most, ..)| found > most) {
                best = Some((found, own, factor));
            }
        }
    }
    let (own, factor) = best.map_or((0.0, 1.0), |(_, own, factor)| (own, factor));
    process.doses.own = own;
    process.shifts.noise = noise.into_iter().map(|noise| noise * factor).collect();
    Ok(factor)
}

/// Genes that suffice for means over genes: evenly spaced in the order of their variances.
fn enough_genes(process: &Process) -> Vec<usize> {
    let deviations = &process.shifts.deviations;
    let mut order: Vec<usize> = (0..deviations.len()).collect();
    order.sort_by(|one, other| deviations[*one].total_cmp(&deviations[*other]));
    evenly_spaced(order.len(), ENOUGH_GENES).into_iter().map(|at| order[at]).collect()
}

/// Fits the shares of scales to all perturbations together, and then to each gene.
///
/// # Errors
/// Numbers that are not finite.
pub(crate) fn fit_scales(process: &Process, prior: &mut ScalePrior) -> Result<()> {
    let mut likelihoods = Vec::new();
    for at in evenly_spaced(process.shifts.perturbations.len(), ENOUGH_FOR_SCALES) {
        let of = &process.shifts.perturbations[at];
        let rows = if of.alone.is_empty() { &of.all } else { &of.alone };
        let spectrum = process.spectrum(at, USUAL_KERNEL, rows)?;
        likelihoods.push(Likelihoods::new(spectrum.log_likelihoods(&prior.scales, &process.beyond_background(rows))));
    }
    prior.shares = shares(&likelihoods, &prior.ignorant, 1.0, 60);
    if likelihoods.len() > FEW_PERTURBATIONS {
        prior.of_genes = Some(relative_shares(&likelihoods, &prior.shares));
    }
    Ok(())
}

/// For each gene, ln of how much more likely each scale is than over all genes. Some genes respond to almost
/// anything, and expecting that of them saves evidence.
fn relative_shares(likelihoods: &[Likelihoods], shares: &[f64]) -> Matrix {
    let genes = likelihoods[0].genes();
    let mut of_genes = Matrix::from_fn(genes, shares.len(), |_, scale| shares[scale]);
    for _ in 0..4 {
        let mut counts = Matrix::from_fn(genes, shares.len(), |_, scale| PRIOR_OF_GENES * shares[scale]);
        for perturbation in likelihoods {
            counts += perturbation.responsibilities_by_gene(&of_genes);
        }
        of_genes = counts / (crate::real(likelihoods.len()) + PRIOR_OF_GENES);
    }
    Matrix::from_fn(genes, shares.len(), |gene, scale| (of_genes[(gene, scale)] / shares[scale].max(1e-12) + 1e-6).ln())
}

/// The kernels between contexts, weighed by marginal likelihood and by how well they predict contexts that are left
/// out.
///
/// # Errors
/// Numbers that are not finite.
pub(crate) fn weigh_kernels(process: &Process, prior: &ScalePrior) -> Result<Vec<WeighedKernel>> {
    let in_contexts = |rows: &[Exposure]| PerturbationRows::vary(rows, |row| row.context);
    let perturbations = &process.shifts.perturbations;
    let several: Vec<usize> = (0..perturbations.len()).filter(|at| in_contexts(&perturbations[*at].all)).collect();
    if several.is_empty() {
        return Ok(vec![WeighedKernel { kernel: USUAL_KERNEL, weight: 1.0 }]);
    }
    let genes = enough_genes(process);
    let variances = || genes.iter().map(|gene| process.shifts.deviations[*gene].powi(2));
    let mean_variance = mean(variances());
    let gene_weights: Vec<f64> = variances().map(|variance| variance / mean_variance).collect();
    let (mut likelihood, mut left_out) = (vec![0.0; process.kernels.len()], LeftOut::new(process.kernels.len()));
    for at in evenly_spaced(several.len(), ENOUGH_FOR_KERNELS) {
        let perturbation = several[at];
        let rows = &perturbations[perturbation].alone;
        if rows.len() < 2 {
            continue;
        }
        let values = process.beyond_background(rows).select_rows(&genes);
        for (kernel, likelihood) in likelihood.iter_mut().enumerate() {
            let spectrum = process.spectrum(perturbation, kernel, rows)?;
            let genes = [Likelihoods::new(spectrum.log_likelihoods(&prior.scales, &values))];
            *likelihood += genes[0].mean_log(&shares(&genes, &prior.shares, PRIOR_OF_SCALES, 8));
        }
        if in_contexts(rows) {
            left_out.add(process, prior, perturbation, &gene_weights, &values)?;
        }
    }
    let evidence = |kernel: usize| {
        let error = left_out.errors[kernel] / left_out.count.max(1.0);
        let of_left_out = 0.5 * left_out.count * LEFT_OUT_WEIGHT * error.max(1e-9).ln();
        LIKELIHOOD_WEIGHT * likelihood[kernel] - of_left_out
    };
    Ok(heaviest(process, &(0..process.kernels.len()).map(evidence).collect::<Vec<_>>()))
}

/// The kernels with the largest posterior weights, given the logarithms of the evidence.
fn heaviest(process: &Process, evidence: &[f64]) -> Vec<WeighedKernel> {
    let most = evidence.iter().fold(f64::NEG_INFINITY, |most: f64, evidence| most.max(*evidence));
    let weight = |(kernel, evidence): (usize, &f64)| WeighedKernel {
        kernel,
        weight: process.kernels[kernel].prior * (evidence - most).exp(),
    };
    let mut kept: Vec<WeighedKernel> = evidence.iter().enumerate().map(weight).collect();
    let total: f64 = kept.iter().map(|kept| kept.weight).sum();
    kept.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    kept.truncate(MOST_KERNELS);
    kept.retain(|kept| kept.weight > SMALLEST_WEIGHT * total);
    let total: f64 = kept.iter().map(|kept| kept.weight).sum();
    kept.iter_mut().for_each(|kept| kept.weight /= total);
    kept
}

/// Errors of predictions of contexts that were left out.
struct LeftOut {
    /// For each kernel, the sum over left-out contexts of the mean squared error, in units of the squared values.
    errors: Vec<f64>,
    /// Number of left-out contexts.
    count: f64,
}

impl LeftOut {
    fn new(kernels: usize) -> Self {
        Self { errors: vec![0.0; kernels], count: 0.0 }
    }

    /// Predicts a perturbation's rows in each context from those in its other contexts; `values` are its rows beyond
    /// the background.
    fn add(
        &mut self,
        process: &Process,
        prior: &ScalePrior,
        perturbation: usize,
        gene_weights: &[f64],
        values: &Matrix,
    ) -> Result<()> {
        let rows = &process.shifts.perturbations[perturbation].alone;
        let mut contexts: Vec<usize> = rows.iter().map(|row| row.context).collect();
        contexts.sort_unstable();
        contexts.dedup();
        let square = values.column_iter().map(|row| row.iter().zip(gene_weights).map(|(y, w)| y * y * w).sum::<f64>());
        let squares: Vec<f64> = square.map(|sum| sum / crate::real(gene_weights.len())).collect();
        for context in contexts {
            let (out, kept): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|at| rows[*at].context == context);
            let noise_of = |at: &usize| process.shifts.noise[rows[*at].row] + process.background.control_noise[context];
            let noises: Vec<f64> = out.iter().map(noise_of).collect();
            // The average over all rows is of the unit in which errors of this perturbation are counted.
            let beyond_noise = (mean(squares.iter().copied()) - mean(noises.iter().copied())).max(0.0);
            let [targets, sources] = [&out, &kept].map(|places| places.iter().map(|at| rows[*at]).collect::<Vec<_>>());
            let [truth, known] = [&out, &kept].map(|places| values.select_columns(places));
            for (kernel, error) in self.errors.iter_mut().enumerate() {
                let mut missed = truth.clone();
                if !process.kernels[kernel].separate {
                    let spectrum = process.spectrum(perturbation, kernel, &sources)?;
                    let genes = [Likelihoods::new(spectrum.log_likelihoods(&prior.scales, &known))];
                    let shares = shares(&genes, &prior.shares, PRIOR_OF_SCALES, 8);
                    let weights = spectrum.weights(&prior.scales, &known, &genes[0].responsibilities(&shares));
                    missed -= weights * process.covariances(perturbation, kernel, &sources, &targets);
                }
                *error += mean(missed.column_iter().zip(&noises).map(|(row, noise)| {
                    mean(row.iter().zip(gene_weights).map(|(miss, weight)| miss * miss * weight))
                        / (noise + beyond_noise)
                }));
            }
            self.count += 1.0;
        }
        Ok(())
    }
}
