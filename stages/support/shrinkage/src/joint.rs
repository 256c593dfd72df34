//! Where backfitting starts if perturbations were combined: the posterior mean of all effects under one Gaussian
//! process with a single scale. Two parts that only occur together get halves of what both do.

use nalgebra::DVector;
use schemas::{Error, Result};

use crate::{Matrix, choice::WeighedKernel, mean, process::Process, real};

/// Conjugate gradients end once the residual of each gene has this share of its right-hand side, or after so many steps: what
/// is left then is for backfitting.
const TOLERANCE: f64 = 1e-10;
const MOST_STEPS: usize = 300;

/// The effect of each perturbation in its rows, `genes × rows`.
///
/// # Errors
/// Numbers that are not finite.
pub(crate) fn first_effects(process: &Process, kernel: WeighedKernel) -> Result<Vec<Matrix>> {
    let shifts = &process.shifts;
    let count = shifts.rows.len();
    let values =
        Matrix::from_fn(shifts.genes(), count, |gene, row| shifts.values[(gene, row)] - process.background(row, gene));
    let of_perturbations: Vec<Matrix> = (0..shifts.perturbations.len())
        .map(|at| {
            let rows = &shifts.perturbations[at].all;
            process.covariances(at, kernel.kernel, rows, rows)
        })
        .collect();
    let diagonal =
        of_perturbations.iter().flat_map(|of| of.diagonal().iter().copied().collect::<Vec<_>>()).sum::<f64>();
    let effect = |(at, row): (usize, nalgebra::DVectorView<f64>)| {
        let control_noise = process.background.control_noise[shifts.rows[at].context];
        row.norm_squared() / real(shifts.genes()) - shifts.noise[at] - control_noise
    };
    let size = mean(values.column_iter().enumerate().map(effect)) / (diagonal / real(count));
    let scale = size.max(1e-3 * mean(shifts.noise.iter().copied()));
    let covariance = RowCovariance { process, of_perturbations, scale };
    let weights = covariance.solved(&values)?;
    let effects = shifts.perturbations.iter().zip(&covariance.of_perturbations).map(|(of, own)| {
        let rows: Vec<usize> = of.all.iter().map(|exposure| exposure.row).collect();
        weights.select_columns(&rows) * own * scale
    });
    Ok(effects.collect())
}

/// The covariance of all rows: a small matrix for each perturbation's rows, and the noise.
struct RowCovariance<'a> {
    process: &'a Process,
    /// The covariance of each perturbation's effects in its rows.
    of_perturbations: Vec<Matrix>,
    /// The scale of all effects.
    scale: f64,
}

impl RowCovariance<'_> {
    /// The product of `vectors` (`genes × rows`) with the covariance.
    fn times(&self, vectors: &Matrix) -> Matrix {
        let shifts = &self.process.shifts;
        let mut product = Matrix::zeros(vectors.nrows(), vectors.ncols());
        let mut of_contexts = Matrix::zeros(vectors.nrows(), shifts.contexts());
        for (row, at) in shifts.rows.iter().enumerate() {
            let misfit = if at.is_combination() { self.process.misfit } else { 0.0 };
            product.column_mut(row).axpy(shifts.noise[row] + misfit, &vectors.column(row), 0.0);
            let control_noise = self.process.background.control_noise[at.context];
            of_contexts.column_mut(at.context).axpy(control_noise, &vectors.column(row), 1.0);
        }
        for (row, at) in shifts.rows.iter().enumerate() {
            product.column_mut(row).axpy(1.0, &of_contexts.column(at.context), 1.0);
        }
        for (of, own) in shifts.perturbations.iter().zip(&self.of_perturbations) {
            let rows: Vec<usize> = of.all.iter().map(|exposure| exposure.row).collect();
            let of_rows = vectors.select_columns(&rows) * own;
            for (row, of_row) in rows.iter().zip(of_rows.column_iter()) {
                product.column_mut(*row).axpy(self.scale, &of_row, 1.0);
            }
        }
        product
    }

    /// The vectors whose products with the covariance are `values`: conjugate gradients, gene by gene at once.
    fn solved(&self, values: &Matrix) -> Result<Matrix> {
        let mut found = Matrix::zeros(values.nrows(), values.ncols());
        let (mut left, mut direction) = (values.clone(), values.clone());
        let start = products(&left, &left);
        let mut squares = start.clone();
        for _ in 0..MOST_STEPS {
            if squares.iter().zip(&start).all(|(left, start)| *left <= TOLERANCE * TOLERANCE * start) {
                break;
            }
            let moved = self.times(&direction);
            let lengths = ratios(&squares, &products(&direction, &moved));
            add(&mut found, &lengths, &direction);
            add(&mut left, &-lengths, &moved);
            let next = products(&left, &left);
            let kept = ratios(&next, &squares);
            for (mut direction, left) in direction.column_iter_mut().zip(left.column_iter()) {
                direction.component_mul_assign(&kept);
                direction += left;
            }
            squares = next;
        }
        let finite = found.iter().all(|number| number.is_finite());
        finite
            .then_some(found)
            .ok_or_else(|| Error::Bug(format!("the effects of {} shifts are not finite", values.ncols())))
    }
}

/// The product of each gene's vectors.
fn products(one: &Matrix, other: &Matrix) -> DVector<f64> {
    let mut sum = DVector::zeros(one.nrows());
    for (one, other) in one.column_iter().zip(other.column_iter()) {
        sum.cmpy(1.0, &one, &other, 1.0);
    }
    sum
}

/// Ratios of the genes' numbers; 0 for a gene that is solved.
fn ratios(one: &DVector<f64>, other: &DVector<f64>) -> DVector<f64> {
    one.zip_map(other, |one, other| if other == 0.0 { 0.0 } else { one / other })
}

/// Adds each gene's vector times a number.
fn add(to: &mut Matrix, times: &DVector<f64>, vectors: &Matrix) {
    for (mut to, of) in to.column_iter_mut().zip(vectors.column_iter()) {
        to.cmpy(1.0, times, &of, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AdaptiveShrinkage, DosedPart, MeasuredControls, MeasuredShift, MeasuredShifts};

    #[test]
    fn conjugate_gradients_solve_what_a_factor_of_the_whole_covariance_solves() {
        let part = |perturbation| DosedPart { perturbation, dose: 1.0 };
        let parts = (0..4).map(|at| vec![part(at)]).chain([
            vec![part(0), part(1)],
            vec![part(1), part(4)],
            vec![part(4), part(5)],
        ]);
        let shift = |(at, parts): (usize, Vec<DosedPart>), context| MeasuredShift {
            shift: (0..6).map(|gene| (real(at * 7 + gene * 3 + context) * 1.3).sin()).collect(),
            noise: 0.01 + 0.02 * real(at % 3),
            parts,
            context,
        };
        let shifts =
            (0..2).flat_map(|context| parts.clone().enumerate().map(move |of| shift(of, context)).collect::<Vec<_>>());
        let controls = |noise| Some(MeasuredControls { mean: vec![1.0; 6], noise });
        let measured = MeasuredShifts {
            variances: vec![1.0; 6],
            controls: vec![controls(0.003), controls(0.02)],
            shifts: shifts.collect(),
        };
        let process = AdaptiveShrinkage::fit(measured).expect("the shifts are sound").into_process();
        let count = process.shifts.rows.len();
        let of_perturbations: Vec<Matrix> = process
            .shifts
            .perturbations
            .iter()
            .enumerate()
            .map(|(at, of)| process.covariances(at, 2, &of.all, &of.all))
            .collect();
        let mut whole = process.noise(&(0..count).collect::<Vec<_>>(), process.misfit);
        for (of, own) in process.shifts.perturbations.iter().zip(&of_perturbations) {
            for (i, one) in of.all.iter().enumerate() {
                for (j, other) in of.all.iter().enumerate() {
                    whole[(one.row, other.row)] += 0.7 * own[(i, j)];
                }
            }
        }
        let covariance = RowCovariance { process: &process, of_perturbations, scale: 0.7 };
        let values = process.shifts.values.clone();
        assert!((covariance.times(&values) - &values * &whole).amax() < 1e-12);
        let expected = &values * whole.try_inverse().expect("it is positive definite");
        let found = covariance.solved(&values).expect("it is finite");
        assert!((found - &expected).amax() < 1e-6 * expected.amax());
    }
}
