//! The expected logarithm of a count, instead of the logarithm of the expected count.
//!
//! For a count x with mean μ and only counting noise (Poisson), E ln(1 + x) = ∫₀¹ (1 − exp(−μ s)) / (−ln(1 −
//! s)) ds, which follows from ln(1 + x) = ∫ (1 − exp(−t x)) exp(−t) / t dt over t > 0. It is computed once on
//! a grid of ln μ, and interpolated.

use tch::{Device, Kind, Tensor};

/// The smallest ln μ of the grid: below it, the expectation is μ ln 2 up to rounding, and above the grid it
/// is close to ln(1 + μ).
const LOWEST: f64 = -11.5;
const STEP: f64 = 0.05;
const STEPS: u32 = 450;
/// Number of points of the integral, denser towards 0.
const POINTS: u32 = 400;
const DENSITY: i32 = 4;

/// Expectations on the grid.
#[derive(Debug)]
pub(super) struct CountedLog {
    table: Tensor,
}

impl CountedLog {
    /// Computes the table, on this device.
    pub(super) fn new(device: Device) -> Self {
        let table: Vec<f64> = (0..=STEPS).map(|at| expected(step_exp(at))).collect();
        Self { table: Tensor::from_slice(&table).to_kind(Kind::Float).to_device(device) }
    }

    /// E ln(1 + x) for counts with these means, in the same shape.
    pub(super) fn expectation(&self, means: &Tensor) -> Tensor {
        let place = (means.clamp_min(1e-30).log() - LOWEST) / STEP;
        let place = place.clamp(0.0, f64::from(STEPS) - 1e-3);
        let below = place.floor();
        let share = (&place - &below).view([-1]);
        let at = below.to_kind(Kind::Int64).view([-1]);
        let (low, high) = (self.table.index_select(0, &at), self.table.index_select(0, &(at + 1)));
        let inside = (&low + (high - &low) * share).view_as(means);
        let small = means * std::f64::consts::LN_2;
        let large = means.log1p();
        let inside = small.where_self(&means.lt(LOWEST.exp()), &inside);
        large.where_self(&means.gt(step_exp(STEPS)), &inside).to_kind(means.kind())
    }
}

fn step_exp(at: u32) -> f64 {
    (LOWEST + STEP * f64::from(at)).exp()
}

/// The integral by the midpoint rule in u, where s is a power of u.
fn expected(mean: f64) -> f64 {
    let width = 1.0 / f64::from(POINTS);
    let at = |point: u32| {
        let u = (f64::from(point) + 0.5) * width;
        let s = u.powi(DENSITY);
        let slope = f64::from(DENSITY) * u.powi(DENSITY - 1);
        -(-mean * s).exp_m1() / -(-s).ln_1p() * slope * width
    };
    (0..POINTS).map(at).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum over all counts, directly from the definition.
    fn by_definition(mean: f64) -> f64 {
        let (mut chance, mut sum) = ((-mean).exp(), 0.0);
        for count in 1..4000_u32 {
            chance *= mean / f64::from(count);
            sum += chance * f64::from(count).ln_1p();
        }
        sum
    }

    #[test]
    fn the_expectation_is_that_of_the_definition() {
        let means = [1e-7, 1e-3, 0.05, 0.4, 1.0, 3.7, 20.0, 150.0, 600.0];
        let found = CountedLog::new(Device::Cpu).expectation(&Tensor::from_slice(&means).view([3, 3]));
        for (at, mean) in (0..).zip(means) {
            let (found, expected) = (found.double_value(&[at / 3, at % 3]), by_definition(mean));
            assert!((found - expected).abs() <= 2e-3 * expected, "at {mean} it is {found}, not {expected}");
        }
    }
}
