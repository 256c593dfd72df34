//! How effects grow with the dose.
//!
//! At dose d, an effect has the share u(d) = d/(d + K) (Hill 1910) of its size, relative to the largest dose, and a
//! part of its own: the covariance of two doses is u(d)u(d′)[(1 − ω) + ω exp(−|ln d/d′| / ln 10)].

use std::f64::consts::LN_10;

use schemas::Result;

use crate::{
    Matrix,
    background::Background,
    evenly_spaced, mean, median,
    mixture::{Likelihoods, ScalePrior, shares},
    process::Process,
    real,
    shifts::{Exposure, PerturbationRows, Shifts},
};

/// Number of half-effect doses that are tried, over four decades around the median dose.
const HALVES: usize = 25;
/// Shares ω and factors of the noise that are tried.
const OWN_SHARES: [f64; 4] = [0.03, 0.15, 0.35, 0.7];
const NOISE_FACTORS: [f64; 4] = [1.0, 1.4, 2.0, 3.0];
/// The share where no perturbation has two rows in one context.
const USUAL_OWN_SHARE: f64 = 0.15;
/// Number of perturbations that suffice to choose among them.
const ENOUGH: usize = 50;
/// The kernel between contexts by which they are compared: of equals, a fifth of a context's own.
const COMPARED_BY: usize = 3;

/// A saturating curve of one perturbation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HillCurve {
    /// K, the dose with half of the full effect.
    pub(crate) half: f64,
    /// The largest dose that was seen, where the curve is 1.
    top: f64,
}

impl HillCurve {
    fn at(self, dose: f64) -> f64 {
        dose / (dose + self.half) * (self.top + self.half) / self.top
    }
}

/// The covariance between doses.
#[derive(Clone, Debug)]
pub(crate) struct DoseKernel {
    /// The curve of each perturbation; `None` where one dose was seen.
    pub(crate) curves: Vec<Option<HillCurve>>,
    /// ω, the share that a dose has of its own.
    pub(crate) own: f64,
}

impl DoseKernel {
    /// The covariance of a perturbation's effects at two doses.
    pub(crate) fn between(&self, perturbation: usize, one: f64, other: f64) -> f64 {
        let sizes = self.curves[perturbation].map_or(1.0, |curve| curve.at(one) * curve.at(other));
        let near = (-(one.ln() - other.ln()).abs() / LN_10).exp();
        sizes * ((1.0 - self.own) + self.own * near)
    }
}

/// The curve of each perturbation that was seen at several doses.
pub(crate) fn curves(shifts: &Shifts, background: &Background) -> Vec<Option<HillCurve>> {
    let varies = |of: &PerturbationRows| PerturbationRows::vary(&of.all, |row| row.dose);
    let varied: Vec<&PerturbationRows> = shifts.perturbations.iter().filter(|of| varies(of)).collect();
    let all_doses = varied.iter().flat_map(|of| of.all.iter().map(|row| row.dose)).collect();
    let Some(typical) = median(all_doses) else {
        return vec![None; shifts.perturbations.len()];
    };
    let (low, high) = (1e-2_f64.ln(), 1e2_f64.ln());
    let halves: Vec<f64> =
        (0..HALVES).map(|at| typical * (low + (high - low) * real(at) / real(HALVES - 1)).exp()).collect();

    let losses: Vec<Option<Vec<f64>>> = shifts
        .perturbations
        .iter()
        .map(|of| varies(of).then(|| losses(of, &halves, shifts, background)).flatten())
        .collect();
    let measured = losses.iter().flatten().count();
    let pooled: Vec<f64> = (0..HALVES).map(|at| losses.iter().flatten().map(|losses| losses[at]).sum()).collect();
    let curve = |(of, own): (&PerturbationRows, &Option<Vec<f64>>)| {
        if !varies(of) {
            return None;
        }
        let top = of.all.iter().fold(0.0, |top: f64, row| top.max(row.dose));
        let half = if measured == 0 { typical } else { weighted_half(&halves, own.as_deref(), &pooled, measured) };
        Some(HillCurve { half, top })
    };
    shifts.perturbations.iter().zip(&losses).map(curve).collect()
}

/// The geometric mean of half-effect doses, weighted by how well they fit: a perturbation's own loss counts once, the
/// mean of all twice.
fn weighted_half(halves: &[f64], own: Option<&[f64]>, pooled: &[f64], measured: usize) -> f64 {
    let loss = |at: usize| own.map_or(0.0, |own| own[at]) + 2.0 * pooled[at] / real(measured);
    let least = (0..halves.len()).map(loss).fold(f64::INFINITY, f64::min);
    let weights: Vec<f64> = (0..halves.len()).map(|at| (-0.5 * (loss(at) - least)).exp()).collect();
    let logarithms: f64 = halves.iter().zip(&weights).map(|(half, weight)| weight * half.ln()).sum();
    (logarithms / weights.iter().sum::<f64>()).exp()
}

/// How badly each half-effect dose explains the products of shifts at two doses in one context, in units of their
/// noise;
/// `None` with fewer than two products. The noise of the controls, which both shifts share, is taken off.
fn losses(of: &PerturbationRows, halves: &[f64], shifts: &Shifts, background: &Background) -> Option<Vec<f64>> {
    let top = of.all.iter().fold(0.0, |top: f64, row| top.max(row.dose));
    let mut products: Vec<(f64, f64, f64)> = Vec::new();
    for (at, one) in of.alone.iter().enumerate() {
        for other in of.alone[..at].iter().filter(|other| other.dose != one.dose && other.context == one.context) {
            let common = background.own.column(one.context);
            let [a, b] = [one, other].map(|exposure| shifts.values.column(exposure.row));
            let product = mean((0..shifts.genes()).map(|gene| (a[gene] - common[gene]) * (b[gene] - common[gene])));
            products.push((one.dose, other.dose, product - background.control_noise[one.context]));
        }
    }
    if products.len() < 2 {
        return None;
    }
    let scale = products.iter().fold(1e-9, |most: f64, (.., product)| most.max(product.abs()));
    let noise_of_rows = mean(of.alone.iter().map(|exposure| shifts.noise[exposure.row]));
    let noise = (noise_of_rows / scale).powi(2) / real(shifts.genes()) * 20.0 + 0.02 * 0.02;
    let loss = |half: &f64| {
        let curve = HillCurve { half: *half, top };
        let expected = |one: f64, other: f64| curve.at(one) * curve.at(other);
        let squares: f64 = products.iter().map(|(one, other, _)| expected(*one, *other).powi(2)).sum();
        let fitted: f64 = products.iter().map(|(one, other, product)| expected(*one, *other) * product / scale).sum();
        let slope = fitted / squares;
        let miss = |(one, other, product): &(f64, f64, f64)| (product / scale - slope * expected(*one, *other)).powi(2);
        products.iter().map(miss).sum::<f64>() / noise
    };
    Some(halves.iter().map(loss).collect())
}

/// Chooses ω and a factor of the noise of all rows: those with the largest marginal likelihood. Perturbations with
/// several rows in one context are compared; without any, the noise stays as it is.
///
/// Returns the factor.
///
/// # Errors
/// Numbers that are not finite.
pub(crate) fn choose(process: &mut Process, prior: &ScalePrior) -> Result<f64> {
    let repeats = |rows: &[Exposure]| {
        rows.iter().enumerate().any(|(at, row)| rows[..at].iter().any(|other| other.context == row.context))
    };
    let compared = |at: &usize| process.doses.curves[*at].is_some() && repeats(&process.shifts.perturbations[*at].all);
    let chosen: Vec<usize> = (0..process.shifts.perturbations.len()).filter(compared).collect();
    if chosen.is_empty() {
        let varied = process.doses.curves.iter().any(Option::is_some);
        process.doses.own = if varied { USUAL_OWN_SHARE } else { 0.0 };
        return Ok(1.0);
    }
    let noise = process.shifts.noise.clone();
    let mut best: Option<(f64, f64, f64)> = None;
    for own in OWN_SHARES {
        for factor in NOISE_FACTORS {
            process.doses.own = own;
            process.shifts.noise = noise.iter().map(|noise| noise * factor).collect();
            let mut likelihoods = Vec::new();
            for at in evenly_spaced(chosen.len(), ENOUGH) {
                let rows = &process.shifts.perturbations[chosen[at]].alone;
                if rows.is_empty() {
                    likelihoods.push(Likelihoods::new(Matrix::zeros(process.shifts.genes(), prior.scales.len())));
                    continue;
                }
                let spectrum = process.spectrum(chosen[at], COMPARED_BY, rows)?;
                let logarithms = spectrum.log_likelihoods(&prior.scales, &process.beyond_background(rows));
                likelihoods.push(Likelihoods::new(logarithms));
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
