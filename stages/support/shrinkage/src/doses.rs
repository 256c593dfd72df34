//! How effects grow with the dose.
//!
//! At dose d, an effect has the share u(d) = d/(d + K) (Hill 1910) of its size, relative to the largest dose, and a
//! part of its own: the covariance of two doses is u(d)u(d′)[(1 − ω) + ω exp(−|ln d/d′| / ln 10)].

use std::f64::consts::LN_10;

use crate::{
    mean, median, real,
    shifts::{PerturbationRows, Shifts},
};

/// Number of half-effect doses that are tried, over four decades around the median dose.
const HALVES: usize = 25;

/// A saturating curve of one perturbation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HillCurve {
    /// K, the dose with half of the full effect.
    pub(crate) half: f64,
    /// The largest dose that was seen, where the curve is 1.
    top: f64,
    /// The dose from which it is flat: of a perturbation that was seen at one dose, nothing says that it does more at larger
    /// ones.
    flat_from: f64,
}

impl HillCurve {
    fn at(self, dose: f64) -> f64 {
        self.unlimited(dose.min(self.flat_from))
    }

    /// The size if the curve went on.
    fn unlimited(self, dose: f64) -> f64 {
        dose / (dose + self.half) * (self.top + self.half) / self.top
    }
}

/// The covariance between doses.
#[derive(Clone, Debug)]
pub(crate) struct DoseKernel {
    /// The curve of each perturbation.
    curves: Vec<HillCurve>,
    /// The curve of a perturbation that was not seen.
    others: HillCurve,
    /// Whether some perturbation was seen at several doses.
    varies: bool,
    /// ω, the share that a dose has of its own.
    pub(crate) own: f64,
}

impl DoseKernel {
    /// The kernel by the curves of all perturbations, without a share that a dose has of its own.
    pub(crate) fn new(shifts: &Shifts) -> Self {
        let curves = curves(shifts);
        let typical = |number: fn(&HillCurve) -> f64| median(curves.iter().map(number).collect()).unwrap_or(1.0);
        let (half, top) = (typical(|curve| curve.half), typical(|curve| curve.top));
        let varies = shifts.perturbations.iter().any(PerturbationRows::has_doses);
        Self { others: HillCurve { half, top, flat_from: top }, curves, varies, own: 0.0 }
    }

    /// Whether some perturbation was seen at several doses.
    pub(crate) fn varies(&self) -> bool {
        self.varies
    }

    /// The half-effect dose of a perturbation, where doses vary.
    pub(crate) fn half(&self, perturbation: usize) -> Option<f64> {
        self.varies.then_some(self.curves[perturbation].half)
    }

    /// u, the size of a perturbation's effect at a dose, where it is 1 at the largest dose seen.
    pub(crate) fn size(&self, perturbation: usize, dose: f64) -> f64 {
        self.curves[perturbation].at(dose)
    }

    /// The size of the effect of a perturbation that was not seen: by the median of half-effect and of largest doses.
    pub(crate) fn size_of_unseen(&self, dose: f64) -> f64 {
        self.others.at(dose)
    }

    /// The unknown part of an effect's size at a dose, as a multiple of it: how much larger it would be if it went on growing
    /// beyond the only dose seen, and, where nothing shows how effects grow, the more the farther below.
    pub(crate) fn unknown_size(&self, perturbation: usize, dose: f64) -> f64 {
        let curve = self.curves[perturbation];
        let size = curve.at(dose).max(f64::MIN_POSITIVE);
        let below = if self.varies { 0.0 } else { 1.0 - size };
        curve.unlimited(dose) / size - 1.0 + below
    }

    /// The covariance of a perturbation's effects at two doses.
    pub(crate) fn between(&self, perturbation: usize, one: f64, other: f64) -> f64 {
        let flat_from = self.curves[perturbation].flat_from;
        let near = (-(one.min(flat_from).ln() - other.min(flat_from).ln()).abs() / LN_10).exp();
        self.size(perturbation, one) * self.size(perturbation, other) * ((1.0 - self.own) + self.own * near)
    }

    /// The sizes of all parts of each row together.
    pub(crate) fn amounts(&self, shifts: &Shifts) -> Vec<f64> {
        let mut amounts = vec![0.0; shifts.rows.len()];
        for (perturbation, of) in shifts.perturbations.iter().enumerate() {
            for exposure in &of.all {
                amounts[exposure.row] += self.size(perturbation, exposure.dose);
            }
        }
        amounts
    }
}

/// The curve of each perturbation. Those seen at one dose follow the others, up to that dose; if all were, the half-effect
/// dose is that dose.
fn curves(shifts: &Shifts) -> Vec<HillCurve> {
    let varied = shifts.perturbations.iter().filter(|of| of.has_doses());
    let Some(typical) = median(varied.flat_map(|of| of.all.iter().map(|row| row.dose)).collect()) else {
        let only = |of: &PerturbationRows| of.largest_dose();
        let curve = |dose: f64| HillCurve { half: dose, top: dose, flat_from: dose };
        return shifts.perturbations.iter().map(only).map(curve).collect();
    };
    let (low, high) = (1e-2_f64.ln(), 1e2_f64.ln());
    let halves: Vec<f64> =
        (0..HALVES).map(|at| typical * (low + (high - low) * real(at) / real(HALVES - 1)).exp()).collect();

    let losses: Vec<Option<Vec<f64>>> =
        shifts.perturbations.iter().map(|of| of.has_doses().then(|| losses(of, &halves, shifts)).flatten()).collect();
    let measured = losses.iter().flatten().count();
    let pooled: Vec<f64> = (0..HALVES).map(|at| losses.iter().flatten().map(|losses| losses[at]).sum()).collect();
    let curve = |(of, own): (&PerturbationRows, &Option<Vec<f64>>)| {
        let half = if measured == 0 { typical } else { weighted_half(&halves, own.as_deref(), &pooled, measured) };
        let top = of.largest_dose();
        HillCurve { half, top, flat_from: if of.has_doses() { f64::INFINITY } else { top } }
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
/// noise; `None` with fewer than two products. The noise of the controls, which both shifts share, is taken off; what
/// all perturbations share stays, since it grows with the dose as well.
fn losses(of: &PerturbationRows, halves: &[f64], shifts: &Shifts) -> Option<Vec<f64>> {
    let top = of.largest_dose();
    let mut products: Vec<(f64, f64, f64)> = Vec::new();
    for (at, one) in of.alone.iter().enumerate() {
        for other in of.alone[..at].iter().filter(|other| other.dose != one.dose && other.context == one.context) {
            let [a, b] = [one, other].map(|exposure| shifts.values.column(exposure.row));
            let product = a.dot(&b) / real(shifts.genes());
            products.push((one.dose, other.dose, product - shifts.control_noise[one.context]));
        }
    }
    if products.len() < 2 {
        return None;
    }
    let scale = products.iter().fold(1e-9, |most: f64, (.., product)| most.max(product.abs()));
    let noise_of_rows = mean(of.alone.iter().map(|exposure| shifts.noise[exposure.row]));
    let noise = (noise_of_rows / scale).powi(2) / real(shifts.genes()) * 20.0 + 0.02 * 0.02;
    let loss = |half: &f64| {
        let curve = HillCurve { half: *half, top, flat_from: f64::INFINITY };
        let expected = |one: f64, other: f64| curve.at(one) * curve.at(other);
        let squares: f64 = products.iter().map(|(one, other, _)| expected(*one, *other).powi(2)).sum();
        let fitted: f64 = products.iter().map(|(one, other, product)| expected(*one, *other) * product / scale).sum();
        let slope = fitted / squares;
        let miss = |(one, other, product): &(f64, f64, f64)| (product / scale - slope * expected(*one, *other)).powi(2);
        products.iter().map(miss).sum::<f64>() / noise
    };
    Some(halves.iter().map(loss).collect())
}
