//! The covariances of rows, and the current estimates.

use schemas::Result;

use crate::{
    Matrix,
    background::Background,
    contexts::ContextKernel,
    doses::DoseKernel,
    mixture::Spectrum,
    shifts::{Exposure, Shifts},
};

/// A process over contexts and doses for each perturbation.
#[derive(Debug)]
pub(crate) struct Process {
    /// The data.
    pub(crate) shifts: Shifts,
    /// The response that all perturbations of a context share.
    pub(crate) background: Background,
    /// The kernels between contexts that are tried.
    pub(crate) kernels: Vec<ContextKernel>,
    /// The kernel between doses.
    pub(crate) doses: DoseKernel,
    /// How much of the shared response each row has: the sum over its parts of their shares of the size at the largest dose.
    pub(crate) amounts: Vec<f64>,
    /// Variance of combinations' rows beyond their noise (ν).
    pub(crate) misfit: f64,
}

impl Process {
    /// The covariance of a perturbation's effect in two rows.
    pub(crate) fn covariance(&self, perturbation: usize, kernel: usize, one: &Exposure, other: &Exposure) -> f64 {
        let between_contexts = self.kernels[kernel].between[(one.context, other.context)];
        between_contexts * self.doses.between(perturbation, one.dose, other.dose)
    }

    /// The covariances of a perturbation's effect between rows.
    pub(crate) fn covariances(
        &self,
        perturbation: usize,
        kernel: usize,
        rows: &[Exposure],
        columns: &[Exposure],
    ) -> Matrix {
        Matrix::from_fn(rows.len(), columns.len(), |row, column| {
            self.covariance(perturbation, kernel, &rows[row], &columns[column])
        })
    }

    /// The noise of rows: their own, with the misfit of combinations if they have one, and that of the controls that
    /// the rows of a context share.
    pub(crate) fn noise(&self, rows: &[usize], misfit: f64) -> Matrix {
        Matrix::from_fn(rows.len(), rows.len(), |row, column| {
            let [one, other] = [row, column].map(|at| &self.shifts.rows[rows[at]]);
            let shared = if one.context == other.context { self.background.control_noise[one.context] } else { 0.0 };
            let misfit = if one.is_combination() { misfit } else { 0.0 };
            if row == column { self.shifts.noise[rows[row]] + misfit + shared } else { shared }
        })
    }

    /// The spectrum of a perturbation's effect over some rows.
    ///
    /// # Errors
    /// Numbers that are not finite.
    pub(crate) fn spectrum(&self, perturbation: usize, kernel: usize, rows: &[Exposure]) -> Result<Spectrum> {
        let numbers: Vec<usize> = rows.iter().map(|exposure| exposure.row).collect();
        let noise = self.noise(&numbers, self.misfit);
        Spectrum::new(&self.covariances(perturbation, kernel, rows, rows), noise)
    }

    /// The background of a gene of a row: what is known of its controls' noise, and the shared response as often as the
    /// row has it.
    pub(crate) fn background(&self, row: usize, gene: usize) -> f64 {
        let at = (gene, self.shifts.rows[row].context);
        self.background.of_controls[at] + self.amounts[row] * self.background.shared[at]
    }

    /// Rows less their background, `genes × rows`.
    pub(crate) fn beyond_background(&self, rows: &[Exposure]) -> Matrix {
        Matrix::from_fn(self.shifts.genes(), rows.len(), |gene, at| {
            self.shifts.values[(gene, rows[at].row)] - self.background(rows[at].row, gene)
        })
    }
}
