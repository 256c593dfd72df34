//! Normal priors of unknown scale: y ~ Σ_k π_k N(0, λ_k K + D), gene by gene.
//!
//! y has a gene's rows, K says how alike rows are a priori and D is their noise. As L⁻¹KL⁻ᵀ = QEQᵀ with D = LLᵀ is the
//! same for all genes and scales, a rotation P = QᵀL⁻¹ makes the rows of Py independent, with variances 1 + λ_k e. The
//! shares π are fitted to all genes by expectation maximisation (Stephens 2017; Urbut et al. 2019).

use nalgebra::{Cholesky, SymmetricEigen};
use schemas::{Error, Result};

use crate::{Matrix, real};

/// Number of genes that are worked on at a time, so that their numbers stay in the processor's caches.
const BLOCK: usize = 1_024;

/// Prior variances of effects, and how likely each is.
#[derive(Clone, Debug)]
pub(crate) struct ScalePrior {
    /// λ, ascending from 0.
    pub(crate) scales: Vec<f64>,
    /// Their shares π if nothing is known: half of the genes have no effect.
    pub(crate) ignorant: Vec<f64>,
    /// Their shares over all perturbations.
    pub(crate) shares: Vec<f64>,
    /// For each gene, ln of how much more likely a scale is than for all genes; `genes × scales`.
    pub(crate) of_genes: Option<Matrix>,
}

impl ScalePrior {
    /// Scales in steps of 3, from a twentieth of the smallest noise to beyond the largest square of the values.
    pub(crate) fn new(values: &Matrix, noise: &[f64]) -> Self {
        let mut largest: Vec<f64> =
            values.row_iter().map(|gene| gene.iter().fold(0.0, |most: f64, value| most.max(value * value))).collect();
        largest.sort_unstable_by(f64::total_cmp);
        let top = (1.5 * quantile(&largest, 0.999)).max(1e-9);
        let lowest = noise.iter().fold(f64::INFINITY, |least, noise| least.min(*noise)).max(1e-12) / 20.0;
        // The range is at least a factor of 4.
        let mut scales = vec![0.0, lowest];
        let mut covered = 1.0;
        while covered < (top / lowest).max(4.0) {
            covered *= 3.0;
            scales.push(lowest * covered);
        }
        let count = real(scales.len() - 1);
        let ignorant: Vec<f64> = (0..scales.len()).map(|at| if at == 0 { 0.5 } else { 0.5 / count }).collect();
        Self { scales, shares: ignorant.clone(), ignorant, of_genes: None }
    }
}

impl ScalePrior {
    /// The mean scale over all perturbations and genes.
    pub(crate) fn typical_scale(&self) -> f64 {
        self.shares.iter().zip(&self.scales).map(|(share, scale)| share * scale).sum()
    }
}

/// A quantile of ascending numbers, with linear interpolation.
fn quantile(ascending: &[f64], share: f64) -> f64 {
    let last = ascending.len() - 1;
    let place = share * real(last);
    let below = (0..=last).rev().find(|at| real(*at) <= place).unwrap_or(0);
    let above = (below + 1).min(last);
    ascending[below] + (place - real(below)) * (ascending[above] - ascending[below])
}

/// The spectrum of K relative to D.
#[derive(Debug)]
pub(crate) struct Spectrum {
    /// The eigenvalues e, none below 0.
    values: Vec<f64>,
    /// Pᵀ = L⁻ᵀQ.
    basis: Matrix,
    /// ln |L|.
    log_determinant: f64,
}

impl Spectrum {
    /// Diagonalises both matrices at once.
    ///
    /// # Errors
    /// A noise that is not positive definite, or an eigenvalue that is not found; neither happens with finite numbers.
    pub(crate) fn new(kernel: &Matrix, noise: Matrix) -> Result<Self> {
        let broken = |what: &str| Error::Bug(format!("the {what} of {} shifts has no factor", kernel.nrows()));
        let factor = Cholesky::new(noise).ok_or_else(|| broken("noise"))?.unpack();
        let half = factor.solve_lower_triangular(kernel).ok_or_else(|| broken("noise"))?;
        let whitened = factor.solve_lower_triangular(&half.transpose()).ok_or_else(|| broken("noise"))?;
        let whitened = (&whitened + whitened.transpose()) * 0.5;
        let eigen = SymmetricEigen::try_new(whitened, f64::EPSILON, 100_000).ok_or_else(|| broken("kernel"))?;
        let basis = factor.tr_solve_lower_triangular(&eigen.eigenvectors).ok_or_else(|| broken("noise"))?;
        let values = eigen.eigenvalues.iter().map(|value| value.max(0.0)).collect();
        let log_determinant = factor.diagonal().iter().map(|entry| entry.ln()).sum();
        Ok(Self { values, basis, log_determinant })
    }

    /// The spectrum of a kernel of these eigenvectors, with these values for its eigenvalues, relative to the same noise for all rows.
    pub(crate) fn of_eigenvectors(
        eigen: &SymmetricEigen<f64, nalgebra::Dyn>,
        noise: f64,
        value: impl Fn(f64) -> f64,
    ) -> Self {
        Self {
            values: eigen.eigenvalues.iter().map(|of| value(of.max(0.0)) / noise).collect(),
            basis: &eigen.eigenvectors / noise.sqrt(),
            log_determinant: 0.5 * real(eigen.eigenvalues.len()) * noise.ln(),
        }
    }

    /// How likely each gene's rows are under each scale, up to a constant. `rows` is `genes × rows`.
    pub(crate) fn log_likelihoods(&self, scales: &[f64], rows: &Matrix) -> Matrix {
        let variance = |row: usize, scale: usize| 1.0 + scales[scale] * self.values[row];
        let precisions = Matrix::from_fn(self.values.len(), scales.len(), |row, scale| -0.5 / variance(row, scale));
        let mut out = Matrix::zeros(rows.nrows(), scales.len());
        for (scale, mut column) in out.column_iter_mut().enumerate() {
            let logarithms: f64 = (0..self.values.len()).map(|row| variance(row, scale).ln()).sum();
            column.fill(-0.5 * logarithms - self.log_determinant);
        }
        for (start, count) in blocks(rows.nrows()) {
            let mut rotated = rows.rows(start, count) * &self.basis;
            rotated.apply(|value| *value *= *value);
            out.rows_mut(start, count).gemm(1.0, &rotated, &precisions, 1.0);
        }
        out
    }

    /// Weights A of the rows, `genes × rows`, such that the posterior mean at a point with covariances k to the rows is
    /// Ak: (λ_k K + D)⁻¹y λ_k, mixed over the scales by the responsibilities (`genes × scales`).
    pub(crate) fn weights(&self, scales: &[f64], rows: &Matrix, responsibilities: &Matrix) -> Matrix {
        let shrinkage = Matrix::from_fn(scales.len(), self.values.len(), |scale, row| {
            scales[scale] / (1.0 + scales[scale] * self.values[row])
        });
        let mut out = Matrix::zeros(rows.nrows(), self.values.len());
        for (start, count) in blocks(rows.nrows()) {
            let mut rotated = rows.rows(start, count) * &self.basis;
            rotated.component_mul_assign(&(responsibilities.rows(start, count) * &shrinkage));
            out.rows_mut(start, count).gemm(1.0, &rotated, &self.basis.transpose(), 0.0);
        }
        out
    }
}

/// The posterior variance of an effect, averaged over genes with weights, under one spectrum.
#[derive(Debug)]
pub(crate) struct PosteriorVariance {
    /// The mean prior variance.
    prior: f64,
    /// How much each rotated row takes away, less what the scales differ by in their means.
    explained: Vec<f64>,
    /// Pᵀ.
    basis: Matrix,
}

impl PosteriorVariance {
    /// The variance at a point whose covariance with itself is `own`, and with the rows `to_rows`.
    pub(crate) fn at(&self, own: f64, to_rows: &nalgebra::DVector<f64>) -> f64 {
        let rotated = self.basis.tr_mul(to_rows);
        let explained: f64 = rotated.iter().zip(&self.explained).map(|(at, explained)| at * at * explained).sum();
        (self.prior * own - explained).max(0.0)
    }
}

impl Spectrum {
    /// The posterior variance, given each gene's rows (`genes × rows`), responsibilities (`genes × scales`) and weight. Rotated rows
    /// are independent under every scale; over genes, their products are taken to average out.
    pub(crate) fn variance(
        self,
        scales: &[f64],
        rows: &Matrix,
        responsibilities: &Matrix,
        gene_weights: &[f64],
    ) -> PosteriorVariance {
        let weighted = nalgebra::DVector::from_column_slice(gene_weights) / gene_weights.iter().sum::<f64>();
        let of_scales = responsibilities.tr_mul(&weighted);
        let shrinkage = Matrix::from_fn(scales.len(), self.values.len(), |scale, row| {
            scales[scale] / (1.0 + scales[scale] * self.values[row])
        });
        let prior = of_scales.iter().zip(scales).map(|(share, scale)| share * scale).sum();
        let scaled =
            Matrix::from_fn(scales.len(), self.values.len(), |scale, row| scales[scale] * shrinkage[(scale, row)]);
        let mut explained = scaled.tr_mul(&of_scales);
        for (start, count) in blocks(rows.nrows()) {
            let rotated = rows.rows(start, count) * &self.basis;
            let responsibilities = responsibilities.rows(start, count);
            let means = responsibilities * &shrinkage;
            let squares = responsibilities * shrinkage.component_mul(&shrinkage);
            for (row, explained) in explained.iter_mut().enumerate() {
                let of_gene = |gene: usize| {
                    let between = squares[(gene, row)] - means[(gene, row)].powi(2);
                    weighted[start + gene] * rotated[(gene, row)].powi(2) * between
                };
                *explained -= (0..count).map(of_gene).sum::<f64>();
            }
        }
        PosteriorVariance { prior, explained: explained.as_slice().to_vec(), basis: self.basis }
    }
}

impl Spectrum {
    /// The posterior mean and variance of each gene, the means of the scales being different, at a point whose covariance with itself is
    /// `own`, and with the rows `to_rows`.
    pub(crate) fn posterior(
        &self,
        scales: &[f64],
        rows: &Matrix,
        responsibilities: &Matrix,
        own: f64,
        to_rows: &nalgebra::DVector<f64>,
    ) -> [nalgebra::DVector<f64>; 2] {
        let rotated_point = self.basis.tr_mul(to_rows);
        let shrunken = Matrix::from_fn(self.values.len(), scales.len(), |row, scale| {
            scales[scale] / (1.0 + scales[scale] * self.values[row]) * rotated_point[row]
        });
        let within = |scale: usize| {
            let known: f64 = (0..self.values.len()).map(|row| shrunken[(row, scale)] * rotated_point[row]).sum();
            scales[scale] * (own - known).max(0.0)
        };
        let within = nalgebra::DVector::from_iterator(scales.len(), (0..scales.len()).map(within));
        let mut mean = nalgebra::DVector::zeros(rows.nrows());
        let mut variance = responsibilities * within;
        for (start, count) in blocks(rows.nrows()) {
            let of_scales = rows.rows(start, count) * &self.basis * &shrunken;
            let shares = responsibilities.rows(start, count);
            for gene in 0..count {
                let [first, second] = (0..scales.len()).fold([0.0, 0.0], |[first, second], scale| {
                    let (share, of_scale) = (shares[(gene, scale)], of_scales[(gene, scale)]);
                    [first + share * of_scale, second + share * of_scale * of_scale]
                });
                mean[start + gene] = first;
                variance[start + gene] += (second - first * first).max(0.0);
            }
        }
        [mean, variance]
    }
}

/// Ranges of genes, as start and length.
fn blocks(genes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..genes).step_by(BLOCK).map(move |start| (start, BLOCK.min(genes - start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(quantile(&[5.0], 0.999), 5.0);
    }

    #[test]
    fn one_scale_is_the_posterior_mean_of_a_normal() {
        let kernel = Matrix::from_row_slice(2, 2, &[1.0, 0.5, 0.5, 1.0]);
        let noise = Matrix::from_row_slice(2, 2, &[0.5, 0.1, 0.1, 0.3]);
        let rows = Matrix::from_row_slice(1, 2, &[1.0, -2.0]);
        let spectrum = Spectrum::new(&kernel, noise.clone()).expect("it is positive definite");
        let weights = spectrum.weights(&[0.7], &rows, &Matrix::from_element(1, 1, 1.0));
        let inverse = (&kernel * 0.7 + &noise).try_inverse().expect("it is positive definite");
        let expected = (inverse * rows.transpose() * 0.7).transpose();
        assert!((&weights - expected).amax() < 1e-12);

        let covariance = &kernel * 0.7 + noise;
        let quadratic = (&rows * covariance.clone().try_inverse().expect("so is this") * rows.transpose())[(0, 0)];
        let expected = -0.5 * (covariance.determinant().ln() + quadratic);
        assert!((spectrum.log_likelihoods(&[0.7], &rows)[(0, 0)] - expected).abs() < 1e-12);
    }
}
