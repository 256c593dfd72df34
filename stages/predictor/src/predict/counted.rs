//! The expected logarithm of a scaled count, and its variance, instead of the logarithm of the expected count.
//!
//! Divided by ln(1 + s), or its square, both change slowly with the scale s. They are computed once on a grid of ln μ and ln s,
//! and interpolated.

use std::sync::OnceLock;

use statistics::counted_log::{self, LARGE_MEAN};
use tch::{Device, Kind, Tensor};

/// The smallest ln μ of the grid: below it, the expectation is μ ln(1 + s) up to rounding, and above the grid it
/// is close to ln(1 + s μ).
const LOWEST: f64 = -11.5;
const STEP: f64 = 0.05;
const STEPS: u32 = 450;
/// The smallest ln s of the grid, from 0.0003, and its largest, 3,000: cells of 3 to 33,000,000 counts that are scaled to ten
/// thousand.
const LOWEST_SCALE: f64 = -8.0;
const SCALE_STEP: f64 = 0.125;
const SCALE_STEPS: u32 = 128;
/// Expectations on the grid.
#[derive(Debug)]
pub(super) struct CountedLog {
    /// E ln(1 + s x) / ln(1 + s), `[scales, means]`.
    table: Tensor,
    /// The variance of ln(1 + s x), divided by ln(1 + s)², `[scales, means]`.
    variances: Tensor,
}

impl CountedLog {
    /// Computes the table, on this device.
    pub(super) fn new(device: Device) -> Self {
        // Half a second of work, the same for all devices.
        static TABLES: OnceLock<[Vec<f32>; 2]> = OnceLock::new();
        let tables = TABLES.get_or_init(|| [share_of_largest, variance_of_share].map(on_grid));
        let [table, variances] = tables.each_ref().map(|values| {
            Tensor::from_slice(values).view([i64::from(SCALE_STEPS) + 1, i64::from(STEPS) + 1]).to_device(device)
        });
        Self { table, variances }
    }

    /// E ln(1 + x) for counts with these means, `[cells, genes]`.
    pub(super) fn expectation(&self, means: &Tensor) -> Tensor {
        self.scaled_expectation(means, &means.ones_like().narrow(1, 0, 1))
    }

    /// E ln(1 + s x) for counts with these means, `[cells, genes]`, and the scale s of each cell, `[cells, 1]`.
    pub(super) fn scaled_expectation(&self, means: &Tensor, scales: &Tensor) -> Tensor {
        let inside = interpolated(&self.table, means, scales) * scales.log1p();
        (means * scales).log1p().where_self(&means.gt(step_exp(STEPS)), &inside).to_kind(means.kind())
    }

    /// The variance of ln(1 + s x), in the same shape.
    pub(super) fn scaled_variance(&self, means: &Tensor, scales: &Tensor) -> Tensor {
        let inside = interpolated(&self.variances, means, scales) * scales.log1p().square();
        let large = means * (scales / (means * scales + 1.0)).square();
        large.where_self(&means.gt(LARGE_MEAN), &inside).to_kind(means.kind())
    }
}

/// A function of mean and scale on the grid, `[scales, means]`.
#[expect(clippy::cast_possible_truncation, reason = "a table of f32")]
fn on_grid(value: fn(f64, f64) -> f64) -> Vec<f32> {
    let scales = (0..=SCALE_STEPS).map(|at| (LOWEST_SCALE + SCALE_STEP * f64::from(at)).exp());
    scales.flat_map(|scale| (0..=STEPS).map(move |at| value(step_exp(at), scale) as f32)).collect()
}

/// Values of a table for these means `[cells, genes]` and scales `[cells, 1]`; below the grid, the mean itself, as for a count
/// that is hardly ever more than 1.
fn interpolated(table: &Tensor, means: &Tensor, scales: &Tensor) -> Tensor {
    let (below, share) = between(&scales.view([-1]).log(), LOWEST_SCALE, SCALE_STEP, SCALE_STEPS);
    let row = |at: &Tensor| table.index_select(0, at);
    let (low, high) = (row(&below), row(&(&below + 1)));
    let table = &low + (high - &low) * share.view([-1, 1]);

    let (below, share) = between(&means.clamp_min(1e-30).log(), LOWEST, STEP, STEPS);
    let (low, high) = (table.gather(1, &below, false), table.gather(1, &(below + 1), false));
    let inside = &low + (high - &low) * share;
    means.where_self(&means.lt(LOWEST.exp()), &inside)
}

/// The grid points below values, and how far each value is on the way to the next.
fn between(values: &Tensor, lowest: f64, step: f64, steps: u32) -> (Tensor, Tensor) {
    let place = ((values - lowest) / step).clamp(0.0, f64::from(steps) - 1e-3);
    let below = place.floor();
    (below.to_kind(Kind::Int64), &place - &below)
}

fn step_exp(at: u32) -> f64 {
    (LOWEST + STEP * f64::from(at)).exp()
}

/// E ln(1 + s x) / ln(1 + s).
fn share_of_largest(mean: f64, scale: f64) -> f64 {
    counted_log::expectation(mean, scale) / scale.ln_1p()
}

/// Var ln(1 + s x) / ln(1 + s)².
fn variance_of_share(mean: f64, scale: f64) -> f64 {
    counted_log::variance(mean, scale) / scale.ln_1p().powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_grid_points_both_are_those_that_the_grid_was_computed_from() {
        let means = [1e-7, 1e-3, 0.05, 0.4, 1.0, 3.7, 20.0, 150.0, 600.0];
        for scale in [0.001, 0.07, 1.0, 2.2, 33.0, 1500.0] {
            let cells = Tensor::from_slice(&means).view([3, 3]);
            let scales = Tensor::from_slice(&[scale; 3]).view([3, 1]);
            let counted = CountedLog::new(Device::Cpu);
            let found = [counted.scaled_expectation(&cells, &scales), counted.scaled_variance(&cells, &scales)];
            for (at, mean) in (0..).zip(means) {
                let found = found.each_ref().map(|found| found.double_value(&[at / 3, at % 3]));
                let expected = [counted_log::expectation(mean, scale), counted_log::variance(mean, scale)];
                for ((found, expected), most) in found.into_iter().zip(expected).zip([2e-3, 2e-2]) {
                    let error = (found - expected).abs() / expected;
                    assert!(error <= most, "at {mean} times {scale} it is {found}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn each_cell_has_a_scale_of_its_own() {
        let counted = CountedLog::new(Device::Cpu);
        let means = Tensor::from_slice(&[0.5, 2.0, 0.5, 2.0]).view([2, 2]);
        let found = counted.scaled_expectation(&means, &Tensor::from_slice(&[1.0, 8.0]).view([2, 1]));
        assert!(found.get(0).allclose(&counted.expectation(&means).get(0), 1e-12, 1e-12, false));
        assert!((found.double_value(&[1, 1]) - counted_log::expectation(2.0, 8.0)).abs() < 5e-3);
    }
}
