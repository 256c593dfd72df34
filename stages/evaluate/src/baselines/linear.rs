//! Ridge regression: of shifts on control profiles across contexts, and of shifts on doses within a context.

use statistics::{metrics::difference, solve::Cholesky};

use super::{PerturbationDose, dose_distance, weighted_mean};

/// The penalty that pulls the shift towards its mean over contexts; chosen on real data with few contexts.
const CONTROL_PENALTY: f64 = 10.0;

/// The penalty that pulls the effect of a dose towards zero: by a tenth, if a single profile shows it alone.
const DOSE_PENALTY: f64 = 0.1;

/// The shift in a context with this control profile, given (control profile, shift) pairs of the contexts
/// that saw it.
///
/// Kernel ridge: Ȳ + (a − ā) Aᵀ (A Aᵀ + λ I)⁻¹ (Y − Ȳ), where the rows of A are the control profiles minus
/// their mean ā and those of Y are the shifts; λ = 10. `None` without contexts.
pub(super) fn control_ridge(trained: &[(&[f64], &[f64])], control: &[f64]) -> Option<Vec<f64>> {
    let mean_control = weighted_mean(trained.iter().map(|(control, _)| (1.0, *control)))?;
    let mean_shift = weighted_mean(trained.iter().map(|(_, shift)| (1.0, *shift)))?;
    let centred: Vec<Vec<f64>> = trained.iter().map(|(control, _)| difference(control, &mean_control)).collect();
    let penalty = |row, column| if row == column { CONTROL_PENALTY } else { 0.0 };
    let kernel = |row: usize, column: usize| dot(&centred[row], &centred[column]) + penalty(row, column);
    let factor = Cholesky::new(trained.len(), kernel)?;
    let deviation = difference(control, &mean_control);
    let likeness: Vec<f64> = centred.iter().map(|centred| dot(centred, &deviation)).collect();
    let mut shift = mean_shift.clone();
    for ((_, context), weight) in trained.iter().zip(factor.solve(&likeness)) {
        for ((shift, value), mean) in shift.iter_mut().zip(*context).zip(&mean_shift) {
            *shift += weight * (value - mean);
        }
    }
    Some(shift)
}

/// Ridge regression of the shifts of one context on indicators of the doses given.
///
/// The coefficients are (AᵀA + λI)⁻¹AᵀY, where A indicates the doses that each profile was given; λ = 0.1. Y
/// is not stored, so a prediction is a list of weights of the profiles.
pub(super) struct DoseRidge {
    /// The columns of A.
    doses: Vec<PerturbationDose>,
    /// The non-zero columns of each row of A.
    given: Vec<Vec<usize>>,
    factor: Cholesky,
}

impl DoseRidge {
    /// Takes the perturbations and doses of each perturbed profile of the context.
    pub(super) fn new<'a>(profiles: impl Iterator<Item = &'a [PerturbationDose]>) -> Option<Self> {
        let mut doses: Vec<PerturbationDose> = Vec::new();
        let mut column = |part: &PerturbationDose| {
            doses.iter().position(|known| known == part).unwrap_or_else(|| {
                doses.push(*part);
                doses.len() - 1
            })
        };
        let given: Vec<Vec<usize>> = profiles.map(|parts| parts.iter().map(&mut column).collect()).collect();
        let mut together = vec![0.0; doses.len() * doses.len()];
        for columns in &given {
            for (a, b) in columns.iter().flat_map(|a| columns.iter().map(move |b| (a, b))) {
                together[a * doses.len() + b] += 1.0;
            }
        }
        let penalty = |row, column| if row == column { DOSE_PENALTY } else { 0.0 };
        let factor =
            Cholesky::new(doses.len(), |row, column| together[row * doses.len() + column] + penalty(row, column))?;
        Some(Self { doses, given, factor })
    }

    /// The weight of each profile's shift for a target; `None` if one of its perturbations was never seen.
    pub(super) fn weights(&self, parts: &[PerturbationDose]) -> Option<Vec<f64>> {
        let mut target = vec![0.0; self.doses.len()];
        for part in parts {
            target[self.nearest(part)?] = 1.0;
        }
        let coefficients = self.factor.solve(&target);
        Some(self.given.iter().map(|columns| columns.iter().map(|column| coefficients[*column]).sum()).collect())
    }

    fn nearest(&self, part: &PerturbationDose) -> Option<usize> {
        let mut nearest = None;
        for (column, known) in self.doses.iter().enumerate().filter(|(_, known)| known.0 == part.0) {
            let distance = dose_distance(&[*known], &[*part]);
            if nearest.is_none_or(|(_, best)| distance < best) {
                nearest = Some((column, distance));
            }
        }
        nearest.map(|(column, _)| column)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
