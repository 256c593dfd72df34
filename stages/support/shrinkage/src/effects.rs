//! The effects of perturbations, each estimated from what the others left in the pass before: backfitting, all at once, so
//! that the order of perturbations does not matter.

use nalgebra::DVector;
use schemas::Result;

use crate::{
    Matrix,
    background::Background,
    choice::{PRIOR_OF_SCALES, WeighedKernel},
    combinations::{Combinations, beyond_sums, fit_slope},
    joint::first_effects,
    likelihoods::{Likelihoods, shares},
    mean,
    mixture::{PosteriorVariance, ScalePrior, Spectrum},
    process::Process,
    real,
    shifts::Exposure,
};

/// Passes over all perturbations if some were combined, and if not.
const PASSES: [usize; 2] = [4, 2];
/// The posterior mean of one perturbation's effect under each kernel.
#[derive(Debug)]
pub(crate) struct PerturbationEffect {
    of_kernels: Vec<KernelEffect>,
}

/// The posterior of one perturbation's effect under one kernel.
#[derive(Debug)]
struct KernelEffect {
    /// The kernel's number, and its weight.
    kernel: WeighedKernel,
    /// Weights of the rows, `genes × rows`, times the kernel's own.
    weights: Matrix,
    /// The variance, averaged over genes by their variances.
    variance: PosteriorVariance,
}

impl PerturbationEffect {
    /// The effect of perturbation number `perturbation` given its rows less all else, `genes × rows`.
    fn new(
        process: &Process,
        prior: &ScalePrior,
        kernels: &[WeighedKernel],
        perturbation: usize,
        rows: &Matrix,
    ) -> Result<Self> {
        let of_kernel = |kernel: &WeighedKernel| {
            let (spectrum, responsibilities) = fitted(process, prior, kernel, perturbation, rows)?;
            let weights = spectrum.weights(&prior.scales, rows, &responsibilities) * kernel.weight;
            let variances: Vec<f64> = process.shifts.deviations.iter().map(|deviation| deviation.powi(2)).collect();
            let variance = spectrum.variance(&prior.scales, rows, &responsibilities, &variances);
            Ok(KernelEffect { kernel: *kernel, weights, variance })
        };
        Ok(Self { of_kernels: kernels.iter().map(of_kernel).collect::<Result<_>>()? })
    }

    /// The kernels that were kept.
    fn kernels(&self) -> impl Iterator<Item = WeighedKernel> {
        self.of_kernels.iter().map(|of| of.kernel)
    }

    /// The effect at some rows, `genes × rows`.
    fn at(&self, process: &Process, perturbation: usize, targets: &[Exposure]) -> Matrix {
        let exposures = &process.shifts.perturbations[perturbation].all;
        let mut effect = Matrix::zeros(process.shifts.genes(), targets.len());
        for KernelEffect { kernel, weights, .. } in &self.of_kernels {
            effect.gemm(1.0, weights, &process.covariances(perturbation, kernel.kernel, exposures, targets), 1.0);
        }
        effect
    }

    /// Adds `times` the effect on a range of genes at a dose in a context, `None` for one without controls.
    pub(crate) fn add_to(&self, sum: &mut [f64], first_gene: usize, times: f64, place: &EffectPlace) {
        let EffectPlace { process, perturbation, dose, context } = *place;
        for KernelEffect { kernel, weights, .. } in &self.of_kernels {
            for (exposure, weights) in process.shifts.perturbations[perturbation].all.iter().zip(weights.column_iter())
            {
                let alike = process.kernels[kernel.kernel].to(exposure.context, context);
                let covariance = times * alike * process.doses.between(perturbation, exposure.dose, dose);
                let weights = weights.rows(first_gene, sum.len());
                sum.iter_mut().zip(weights.iter()).for_each(|(sum, weight)| *sum += covariance * weight);
            }
        }
    }
}

impl PerturbationEffect {
    /// The posterior variance of the effect at a place, in units of the genes' variances and averaged over genes by these: within
    /// kernels and between them, and what is not known of its size at the dose.
    pub(crate) fn variance(&self, place: &EffectPlace) -> f64 {
        let EffectPlace { process, perturbation, dose, .. } = *place;
        let deviations = &process.shifts.deviations;
        let total: f64 = deviations.iter().map(|deviation| deviation.powi(2)).sum();
        let mut mean = vec![0.0; deviations.len()];
        let (mut within, mut squares) = (0.0, 0.0);
        for KernelEffect { kernel, weights, variance } in &self.of_kernels {
            let (own, to_rows) = place.covariances(kernel);
            within += kernel.weight * variance.at(own, &to_rows);
            let of_kernel = weights * &to_rows;
            for ((mean, of_gene), deviation) in mean.iter_mut().zip(of_kernel.iter()).zip(deviations) {
                *mean += of_gene;
                squares += (of_gene * deviation).powi(2) / kernel.weight.max(f64::MIN_POSITIVE);
            }
        }
        let of_mean: f64 = mean.iter().zip(deviations).map(|(mean, deviation)| (mean * deviation).powi(2)).sum();
        let of_size = process.doses.unknown_size(perturbation, dose).powi(2) * of_mean;
        within + ((squares - of_mean).max(0.0) + of_size) / total
    }
}

/// The spectrum of a perturbation's rows, and how likely each scale is for each gene given these (`genes × rows`).
fn fitted(
    process: &Process,
    prior: &ScalePrior,
    kernel: &WeighedKernel,
    perturbation: usize,
    rows: &Matrix,
) -> Result<(Spectrum, Matrix)> {
    let spectrum = process.spectrum(perturbation, kernel.kernel, &process.shifts.perturbations[perturbation].all)?;
    let mut logarithms = spectrum.log_likelihoods(&prior.scales, rows);
    if let Some(of_genes) = &prior.of_genes {
        logarithms += of_genes;
    }
    let genes = [Likelihoods::new(logarithms)];
    let shares = shares(&genes, &prior.shares, PRIOR_OF_SCALES, 25);
    let responsibilities = genes[0].responsibilities(&shares);
    Ok((spectrum, responsibilities))
}

/// Where an effect is wanted.
#[derive(Clone, Copy)]
pub(crate) struct EffectPlace<'a> {
    /// The process.
    pub(crate) process: &'a Process,
    /// The perturbation's number.
    pub(crate) perturbation: usize,
    /// Its dose.
    pub(crate) dose: f64,
    /// The context, numbered among those with controls.
    pub(crate) context: Option<usize>,
}

/// The effects of all perturbations, and what combinations have beyond their sum.
#[derive(Debug)]
pub(crate) struct Effects {
    /// In the order of the perturbations.
    pub(crate) of_perturbations: Vec<PerturbationEffect>,
    /// The part of combinations beyond the sums.
    pub(crate) combinations: Combinations,
}

impl Effects {
    /// Estimates the effects; the process gets a background without them, and the misfit of combinations.
    ///
    /// # Errors
    /// Numbers that are not finite.
    pub(crate) fn fit(process: &mut Process, prior: &ScalePrior, kernels: &[WeighedKernel]) -> Result<Self> {
        let combined = process.shifts.rows.iter().any(|row| row.is_combination());
        let genes = process.shifts.genes();
        let mut parts = if combined {
            first_effects(process, kernels[0])?
        } else {
            let rows = process.shifts.perturbations.iter().map(|of| of.all.len());
            rows.map(|rows| Matrix::zeros(genes, rows)).collect()
        };
        let mut beyond = Matrix::zeros(genes, process.shifts.rows.len());
        let mut slope = 1.0;
        let mut of_perturbations = Vec::new();
        let mut sums = summed(process, &parts);
        for pass in 0..PASSES[usize::from(!combined)] {
            // The estimates of the pass before are only known by their effects in rows.
            of_perturbations.clear();
            for (at, part) in parts.iter_mut().enumerate() {
                let exposures = &process.shifts.perturbations[at].all;
                let mut left = process.beyond_background(exposures);
                for (place, exposure) in exposures.iter().enumerate() {
                    let mut left = left.column_mut(place);
                    left -= sums.column(exposure.row) - part.column(place);
                    left -= beyond.column(exposure.row);
                }
                let effect = PerturbationEffect::new(process, prior, kernels, at, &left)?;
                // Parts that share rows all move, so each goes its share of the way.
                let most = exposures.iter().map(|exposure| process.shifts.rows[exposure.row].parts.len()).max();
                let step = 1.0 / real(most.unwrap_or(1));
                *part += (effect.at(process, at, exposures) - &*part) * step;
                of_perturbations.push(effect);
            }
            sums = summed(process, &parts);
            if combined {
                slope = fit_slope(process, &sums);
                beyond = beyond_sums(process, &sums, slope);
            }
            if pass == 0 {
                let explained = &sums + &beyond;
                process.background = Background::new(&process.shifts, &process.amounts, prior, Some(&explained))?;
            }
        }
        let combinations = Combinations::new(process, prior, kernels[0], &sums, slope)?;
        Ok(Self { of_perturbations, combinations })
    }
}

impl Effects {
    /// The mean square of the perturbations' effects in a context, each at its largest dose.
    pub(crate) fn typical_square(&self, process: &Process, context: Option<usize>) -> f64 {
        let deviations = &process.shifts.deviations;
        let total: f64 = deviations.iter().map(|deviation| deviation.powi(2)).sum();
        mean(self.of_perturbations.iter().enumerate().map(|(perturbation, effect)| {
            let dose = process.shifts.perturbations[perturbation].largest_dose();
            let place = EffectPlace { process, perturbation, dose, context };
            let mut shift = vec![0.0; deviations.len()];
            effect.add_to(&mut shift, 0, 1.0, &place);
            let squares = shift.iter().zip(deviations).map(|(shift, deviation)| (shift * deviation).powi(2));
            squares.sum::<f64>() / total + effect.variance(&place)
        }))
    }
}

impl Effects {
    /// The kernels that were kept: the same for all perturbations.
    pub(crate) fn kernels(&self) -> Vec<WeighedKernel> {
        self.of_perturbations.first().map_or_else(Vec::new, |effect| effect.kernels().collect())
    }

    /// The rows of a perturbation less all else that is estimated of them, `genes × rows`.
    fn own_rows(&self, process: &Process, perturbation: usize) -> Matrix {
        let exposures = &process.shifts.perturbations[perturbation].all;
        let mut left = process.beyond_background(exposures);
        for (place, exposure) in exposures.iter().enumerate() {
            let row = &process.shifts.rows[exposure.row];
            if !row.is_combination() {
                continue;
            }
            for part in &row.parts {
                let Some(number) = process.shifts.number_of(part.perturbation) else { continue };
                let at = Exposure { dose: part.dose, ..*exposure };
                let effect = self.of_perturbations[number].at(process, number, &[at]);
                let slope = self.combinations.slope - if number == perturbation { 1.0 } else { 0.0 };
                left.column_mut(place).axpy(-slope, &effect.column(0), 1.0);
            }
        }
        left
    }

    /// The posterior variance of each gene's effect at a place, in units of the genes' variances: within kernels and between them, and
    /// what is not known of its size at the dose.
    ///
    /// # Errors
    /// Numbers that are not finite.
    pub(crate) fn gene_variances(&self, prior: &ScalePrior, place: &EffectPlace) -> Result<DVector<f64>> {
        let EffectPlace { process, perturbation, dose, .. } = *place;
        let rows = self.own_rows(process, perturbation);
        let genes = process.shifts.genes();
        let [mut mean, mut squares] = [DVector::zeros(genes), DVector::zeros(genes)];
        for kernel in self.kernels() {
            let (spectrum, responsibilities) = fitted(process, prior, &kernel, perturbation, &rows)?;
            let (own, to_rows) = place.covariances(&kernel);
            let [of_kernel, variance] = spectrum.posterior(&prior.scales, &rows, &responsibilities, own, &to_rows);
            squares += (variance + of_kernel.component_mul(&of_kernel)) * kernel.weight;
            mean += of_kernel * kernel.weight;
        }
        let of_mean = mean.component_mul(&mean);
        let of_size = process.doses.unknown_size(perturbation, dose).powi(2);
        Ok((squares - &of_mean).map(|variance| variance.max(0.0)) + of_mean * of_size)
    }
}

impl EffectPlace<'_> {
    /// The covariance of the effect at the place with itself, and with that in the perturbation's rows.
    fn covariances(&self, kernel: &WeighedKernel) -> (f64, DVector<f64>) {
        let EffectPlace { process, perturbation, dose, context } = *self;
        let rows = &process.shifts.perturbations[perturbation].all;
        let contexts = &process.kernels[kernel.kernel];
        let covariance =
            |row: &Exposure| contexts.to(row.context, context) * process.doses.between(perturbation, row.dose, dose);
        let own = context.map_or(1.0, |context| contexts.between[(context, context)])
            * process.doses.between(perturbation, dose, dose);
        (own, DVector::from_iterator(rows.len(), rows.iter().map(covariance)))
    }
}

/// The sum of the parts' effects in each row, `genes × rows`.
fn summed(process: &Process, parts: &[Matrix]) -> Matrix {
    let mut sums = Matrix::zeros(process.shifts.genes(), process.shifts.rows.len());
    for (of, part) in process.shifts.perturbations.iter().zip(parts) {
        for (exposure, effect) in of.all.iter().zip(part.column_iter()) {
            let mut sum = sums.column_mut(exposure.row);
            sum += effect;
        }
    }
    sums
}
