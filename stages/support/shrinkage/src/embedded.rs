//! Effects of perturbations that were not seen, from vectors that are known of them and of those that were.
//!
//! With z a perturbation's vector, the effects of a gene have the covariance λ[ρ k(z, z′) + (1 − ρ)δ], for a linear k and
//! for a squared exponential. The shares ρ and both kernels are averaged by their marginal likelihood, ρ = 0 among them: vectors
//! that say nothing are found out.

use std::collections::BTreeMap;

use nalgebra::{DVector, Dyn, SymmetricEigen};
use schemas::{Error, Result};

use crate::{
    Matrix,
    choice::{LIKELIHOOD_WEIGHT, PRIOR_OF_SCALES, SMALLEST_WEIGHT},
    evenly_spaced,
    likelihoods::{Likelihoods, shares},
    mean,
    measured::refused,
    median,
    mixture::{PosteriorVariance, ScalePrior, Spectrum},
    process::Process,
};

/// Shares ρ of an effect that follow from the vector.
const FROM_VECTORS: [f64; 7] = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97];
/// Perturbations with more noise than this many times the median are left out.
const MOST_NOISE: f64 = 4.0;
/// Numbers of perturbations that are needed, and that suffice.
const FEWEST: usize = 5;
const ENOUGH: usize = 1_500;

/// The effects of perturbations by their vectors.
#[derive(Debug)]
pub(crate) struct EmbeddedEffects {
    /// Vectors of perturbations that were not seen, no farther from the centre than the farthest that was: how a linear effect
    /// goes on from there is not known.
    unseen: BTreeMap<u32, DVector<f64>>,
    /// Vectors of those that were, `width × perturbations`.
    seen: Matrix,
    likeness: Likeness,
    kept: Vec<WeighedShare>,
}

/// How alike vectors are.
#[derive(Debug)]
struct Likeness {
    /// Mean of the seen vectors.
    centre: DVector<f64>,
    /// Their mean squared distance to it.
    scale: f64,
    /// The median squared distance between two of them.
    distance: f64,
}

/// The kernels between vectors.
#[derive(Clone, Copy, Debug)]
enum VectorKernel {
    Linear,
    SquaredExponential,
}

/// A kernel with a share ρ, and its fit.
#[derive(Debug)]
struct WeighedShare {
    kernel: VectorKernel,
    share: f64,
    weight: f64,
    /// Weights of the seen perturbations, `genes × perturbations`, times its own.
    weights: Matrix,
    variance: PosteriorVariance,
}

impl Likeness {
    fn new(vectors: &Matrix) -> Option<Self> {
        let centre = vectors.column_mean();
        let scale = mean(vectors.column_iter().map(|vector| (vector - &centre).norm_squared()));
        let pairs = evenly_spaced(vectors.ncols(), 200);
        let between = |at: usize, other: &usize| (vectors.column(pairs[at]) - vectors.column(*other)).norm_squared();
        let distances = (0..pairs.len()).flat_map(|at| pairs[..at].iter().map(move |other| between(at, other)));
        let distance = median(distances.filter(|distance| *distance > 0.0).collect())?;
        (scale > 0.0).then_some(Self { centre, scale, distance })
    }

    /// The kernels of each column of `vectors` with each of `others`.
    fn between(&self, kernel: VectorKernel, vectors: &Matrix, others: &Matrix) -> Matrix {
        let centred =
            |of: &Matrix| Matrix::from_fn(of.nrows(), of.ncols(), |at, column| of[(at, column)] - self.centre[at]);
        let (one, other) = (centred(vectors), centred(others));
        let products = one.tr_mul(&other);
        match kernel {
            VectorKernel::Linear => products / self.scale,
            VectorKernel::SquaredExponential => {
                let squares = |of: &Matrix| of.column_iter().map(|vector| vector.norm_squared()).collect::<Vec<_>>();
                let (of_one, of_other) = (squares(&one), squares(&other));
                Matrix::from_fn(products.nrows(), products.ncols(), |row, column| {
                    let distance = (of_one[row] + of_other[column] - 2.0 * products[(row, column)]).max(0.0);
                    (-distance / self.distance).exp()
                })
            }
        }
    }
}

impl EmbeddedEffects {
    /// The effects by the vectors of perturbations, of which all have as many finite numbers; `None` if too few perturbations
    /// with a vector were seen alone.
    ///
    /// # Errors
    /// Vectors of different lengths, or with numbers that are not finite.
    pub(crate) fn new(
        process: &Process,
        prior: &ScalePrior,
        vectors: &BTreeMap<u32, Vec<f64>>,
    ) -> Result<Option<Self>> {
        let width = vectors.values().next().map_or(0, Vec::len);
        if let Some((code, _)) = vectors.iter().find(|(_, of)| of.len() != width || !of.iter().all(|of| of.is_finite()))
        {
            let message = format!("the vector of perturbation {code} does not have {width} finite numbers");
            return Err(refused(message, "give as many finite numbers for each perturbation"));
        }
        let of = |at: &usize| vectors.get(&process.shifts.perturbations[*at].perturbation);
        let measured: Vec<(usize, f64)> = (0..process.shifts.perturbations.len())
            .filter(|at| of(at).is_some())
            .filter_map(|at| Some((at, noise(process, at)?)))
            .collect();
        let Some(typical) = median(measured.iter().map(|(_, noise)| *noise).collect()) else { return Ok(None) };
        let precise: Vec<usize> =
            measured.iter().filter(|(_, noise)| *noise <= MOST_NOISE * typical).map(|(at, _)| *at).collect();
        if precise.len() < FEWEST {
            return Ok(None);
        }
        let chosen: Vec<usize> = evenly_spaced(precise.len(), ENOUGH).into_iter().map(|at| precise[at]).collect();
        let columns: Vec<DVector<f64>> =
            chosen.iter().filter_map(of).map(|vector| DVector::from_column_slice(vector)).collect();
        let seen = Matrix::from_columns(&columns);
        let Some(likeness) = Likeness::new(&seen) else { return Ok(None) };
        let effects = Matrix::from_columns(&chosen.iter().map(|at| measured_effect(process, *at)).collect::<Vec<_>>());
        let kept = fitted(process, prior, &likeness, &seen, &effects, typical)?;
        let is_unseen = |(code, _): &(&u32, &Vec<f64>)| process.shifts.number_of(**code).is_none();
        let farthest = seen.column_iter().map(|vector| (vector - &likeness.centre).norm()).fold(0.0, f64::max);
        let within = |(code, vector): (&u32, &Vec<f64>)| {
            let beyond = DVector::from_column_slice(vector) - &likeness.centre;
            let shorter = (farthest / beyond.norm().max(f64::MIN_POSITIVE)).min(1.0);
            (*code, &likeness.centre + beyond * shorter)
        };
        let unseen = vectors.iter().filter(is_unseen).map(within).collect();
        Ok(Some(Self { unseen, seen, likeness, kept }))
    }

    /// Adds `times` the effect of a perturbation on a range of genes, if it has a vector.
    pub(crate) fn add_to(&self, sum: &mut [f64], first_gene: usize, times: f64, perturbation: u32) {
        let Some(vector) = self.unseen.get(&perturbation) else { return };
        for of in &self.kept {
            let alike = self.alike(of, vector) * times;
            let effect = of.weights.rows(first_gene, sum.len()) * alike;
            sum.iter_mut().zip(effect.iter()).for_each(|(sum, effect)| *sum += effect);
        }
    }

    /// The posterior variance of the effect of a perturbation, in units of the genes' variances; `None` without a vector.
    pub(crate) fn variance(&self, perturbation: u32) -> Option<f64> {
        let vector = self.unseen.get(&perturbation)?;
        let of_kernel = |of: &WeighedShare| {
            let vector = Matrix::from_columns(std::slice::from_ref(vector));
            let own = of.share * self.likeness.between(of.kernel, &vector, &vector)[(0, 0)] + 1.0 - of.share;
            of.weight * of.variance.at(own, &self.alike(of, &vector.column(0).into_owned()))
        };
        Some(self.kept.iter().map(of_kernel).sum())
    }

    /// The covariances of a vector's effect with those of the seen perturbations, where an effect has variance 1.
    fn alike(&self, of: &WeighedShare, vector: &DVector<f64>) -> DVector<f64> {
        let vector = Matrix::from_columns(std::slice::from_ref(vector));
        self.likeness.between(of.kernel, &self.seen, &vector).column(0) * of.share
    }
}

/// A kernel and a share that are tried.
struct KernelCandidate<'a> {
    kernel: VectorKernel,
    /// The kernel's eigenvectors.
    eigen: &'a SymmetricEigen<f64, Dyn>,
    share: f64,
}

impl KernelCandidate<'_> {
    /// The spectrum of effects with this noise.
    fn spectrum(&self, noise: f64) -> Spectrum {
        Spectrum::of_eigenvectors(self.eigen, noise, |value| self.share * value + 1.0 - self.share)
    }
}

/// The posterior means of all kernels and shares that have some weight. `effects` are `genes × perturbations`, each with
/// this noise.
fn fitted(
    process: &Process,
    prior: &ScalePrior,
    likeness: &Likeness,
    seen: &Matrix,
    effects: &Matrix,
    noise: f64,
) -> Result<Vec<WeighedShare>> {
    let mut eigen = Vec::new();
    for kernel in [VectorKernel::Linear, VectorKernel::SquaredExponential] {
        let found = SymmetricEigen::try_new(likeness.between(kernel, seen, seen), f64::EPSILON, 100_000);
        let none = || Error::Bug(format!("the kernel of {} vectors has no eigenvalues", seen.ncols()));
        eigen.push((kernel, found.ok_or_else(none)?));
    }
    let of_kernel = |(kernel, eigen)| FROM_VECTORS.map(|share| KernelCandidate { kernel, eigen, share });
    let candidates: Vec<KernelCandidate> =
        eigen.iter().map(|(kernel, eigen)| (*kernel, eigen)).flat_map(of_kernel).collect();
    let likelihoods = |spectrum: &Spectrum| {
        let genes = [Likelihoods::new(spectrum.log_likelihoods(&prior.scales, effects))];
        let shares = shares(&genes, &prior.shares, PRIOR_OF_SCALES, 25);
        let [genes] = genes;
        (genes, shares)
    };
    let evidence = |candidate: &KernelCandidate| {
        let (genes, shares) = likelihoods(&candidate.spectrum(noise));
        LIKELIHOOD_WEIGHT * genes.mean_log(&shares)
    };
    let evidence: Vec<f64> = candidates.iter().map(evidence).collect();
    let most = evidence.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = evidence.iter().map(|evidence| (evidence - most).exp()).sum();
    let variances: Vec<f64> = process.shifts.deviations.iter().map(|deviation| deviation.powi(2)).collect();
    let weighed = candidates.iter().zip(evidence).map(|(of, evidence)| (of, (evidence - most).exp() / total));
    let fit = |(of, weight): (&KernelCandidate, f64)| {
        let spectrum = of.spectrum(noise);
        let (genes, shares) = likelihoods(&spectrum);
        let responsibilities = genes.responsibilities(&shares);
        let weights = spectrum.weights(&prior.scales, effects, &responsibilities) * weight;
        let variance = spectrum.variance(&prior.scales, effects, &responsibilities, &variances);
        WeighedShare { kernel: of.kernel, share: of.share, weight, weights, variance }
    };
    Ok(weighed.filter(|(_, weight)| *weight > SMALLEST_WEIGHT).map(fit).collect())
}

/// The noise of what was measured of a perturbation's effect; `None` if it was not seen alone.
fn noise(process: &Process, perturbation: usize) -> Option<f64> {
    let precisions = precisions(process, perturbation);
    (!precisions.is_empty()).then(|| 1.0 / precisions.iter().map(|(.., precision)| precision).sum::<f64>())
}

/// The rows of a perturbation alone, with their size at the dose and the precision with which they measure the effect.
fn precisions(process: &Process, perturbation: usize) -> Vec<(usize, f64, f64)> {
    let of_row = |exposure: &crate::shifts::Exposure| {
        let size = process.doses.size(perturbation, exposure.dose);
        let noise = process.shifts.noise[exposure.row] + process.background.control_noise[exposure.context];
        (exposure.row, size, size * size / noise)
    };
    process.shifts.perturbations[perturbation].alone.iter().map(of_row).collect()
}

/// The least squares estimate of a perturbation's effect at its largest dose, over contexts and doses: a number per gene.
fn measured_effect(process: &Process, perturbation: usize) -> DVector<f64> {
    let rows = precisions(process, perturbation);
    let total: f64 = rows.iter().map(|(.., precision)| precision).sum();
    let mut effect = DVector::zeros(process.shifts.genes());
    for (row, size, precision) in rows {
        for (gene, effect) in effect.iter_mut().enumerate() {
            *effect += precision / size / total * (process.shifts.values[(gene, row)] - process.background(row, gene));
        }
    }
    effect
}
