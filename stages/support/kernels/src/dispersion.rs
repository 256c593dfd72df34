//! Terms of the negative binomial that depend on the dispersion alone.

use simd::Portable;

use super::{negative_binomial::EPSILON, real::Real};

/// Per-gene terms that depend only on the dispersion.
#[derive(Debug)]
pub struct DispersionTerms<T> {
    pub(super) theta: Vec<T>,
    /// 1 / (θ + ε).
    pub(super) inverse: Vec<T>,
    pub(super) log_gamma: Vec<T>,
    pub(super) digamma: Vec<T>,
}

impl<T: Real> DispersionTerms<T> {
    /// The terms for logarithms of the inverse dispersion, `[genes]`. They are computed in float64, since lnΓ(x+θ) − lnΓ(θ) and
    /// ψ(x+θ) − ψ(θ) are small differences of large numbers.
    #[must_use]
    pub fn new(logarithms: &[T]) -> Self {
        let genes = logarithms.len();
        let [mut theta, mut inverse, mut log_gamma, mut digamma] = std::array::from_fn(|_| Vec::with_capacity(genes));
        for logarithm in logarithms {
            let of_gene = T::from_f64(logarithm.wide().exp()).wide();
            let [log, slope] = of_gene.log_gamma_and_slope::<Portable>();
            theta.push(T::from_f64(of_gene));
            inverse.push(T::from_f64(1.0 / (of_gene + EPSILON)));
            log_gamma.push(T::from_f64(log));
            digamma.push(T::from_f64(slope));
        }
        Self { theta, inverse, log_gamma, digamma }
    }

    /// Turns the loss's gradient with respect to θ into the one with respect to its logarithm.
    pub fn slopes(&self, by_theta: &[f64], slopes: &mut [T]) {
        for ((slope, by_theta), theta) in slopes.iter_mut().zip(by_theta).zip(&self.theta) {
            *slope = T::from_f64(by_theta * theta.wide());
        }
    }
}
