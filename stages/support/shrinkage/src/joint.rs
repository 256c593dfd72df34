//! Where backfitting starts if perturbations were combined: the posterior mean of all effects under one Gaussian
//! process with a single scale. Two parts that only occur together get halves of what both do.

use nalgebra::Cholesky;
use schemas::{Error, Result};

use crate::{Matrix, choice::WeighedKernel, mean, process::Process, real};

/// The effect of each perturbation in its rows, `genes × rows`.
///
/// # Errors
/// Numbers that are not finite.
pub(crate) fn first_effects(process: &Process, kernel: WeighedKernel) -> Result<Vec<Matrix>> {
    let shifts = &process.shifts;
    let count = shifts.rows.len();
    let values =
        Matrix::from_fn(shifts.genes(), count, |gene, row| shifts.values[(gene, row)] - process.background(row, gene));
    let mut sum = Matrix::zeros(count, count);
    let of_perturbation = |at: usize| {
        let rows = &shifts.perturbations[at].all;
        process.covariances(at, kernel.kernel, rows, rows)
    };
    for (at, of) in shifts.perturbations.iter().enumerate() {
        let covariances = of_perturbation(at);
        for (i, one) in of.all.iter().enumerate() {
            for (j, other) in of.all.iter().enumerate() {
                sum[(one.row, other.row)] += covariances[(i, j)];
            }
        }
    }
    let effect = |(at, row): (usize, nalgebra::DVectorView<f64>)| {
        let control_noise = process.background.control_noise[shifts.rows[at].context];
        row.norm_squared() / real(shifts.genes()) - shifts.noise[at] - control_noise
    };
    let size = mean(values.column_iter().enumerate().map(effect)) / mean(sum.diagonal().iter().copied());
    let scale = size.max(1e-3 * mean(shifts.noise.iter().copied()));
    let all: Vec<usize> = (0..count).collect();
    let factor = Cholesky::new(sum * scale + process.noise(&all, process.misfit));
    let factor = factor.ok_or_else(|| Error::Bug(format!("the covariance of {count} shifts has no factor")))?;
    // There are more genes than groups, mostly, and a product is quick.
    let weights = values * factor.inverse();
    let effects = shifts.perturbations.iter().enumerate().map(|(at, of)| {
        let rows: Vec<usize> = of.all.iter().map(|exposure| exposure.row).collect();
        weights.select_columns(&rows) * of_perturbation(at) * scale
    });
    Ok(effects.collect())
}
