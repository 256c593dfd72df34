//! The errors of a predicted shift gene by gene, and whether the measured shifts differ from none: computed when asked for, since they
//! need more numbers than the estimator keeps.

use nalgebra::{Cholesky, DVector};
use schemas::{Error, Result};

use crate::{
    AdaptiveShrinkage, Matrix,
    effects::EffectPlace,
    estimator::ShiftTarget,
    measured::{DosedPart, sorted_parts},
};

/// The errors of a predicted shift.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneErrors {
    /// The standard deviation of each gene's posterior, in the unit of the values.
    pub standard_error: Vec<f64>,
    /// A standard normal number for each gene where no measured group with these perturbations, and no others, is shifted:
    /// the combination of their shifts that the prediction for an effect of typical size is made of, over its noise. `None` if one of the
    /// perturbations was only measured together with others, or if the groups say nothing about the context.
    pub z: Option<Vec<f64>>,
}

impl AdaptiveShrinkage {
    /// The errors of each gene's shift; `None` if a perturbation was not measured, of which nothing is known gene by gene.
    ///
    /// # Errors
    /// As [`predict`](Self::predict); numbers that are not finite.
    pub fn gene_errors(&self, target: &ShiftTarget) -> Result<Option<GeneErrors>> {
        let parts = sorted_parts(target.parts)?;
        let (process, context) = (&self.process, self.process.shifts.numbers.get(target.context).copied().flatten());
        let numbers = parts.iter().map(|part| process.shifts.number_of(part.perturbation));
        let Some(numbers) = numbers.collect::<Option<Vec<usize>>>() else { return Ok(None) };
        let beyond = if parts.len() > 1 && !self.effects.combinations.has_seen(&parts) { process.misfit } else { 0.0 };
        let mut variance = DVector::from_element(self.genes(), beyond);
        for (part, perturbation) in parts.iter().zip(&numbers) {
            let place = EffectPlace { process, perturbation: *perturbation, dose: part.dose, context };
            variance += self.effects.gene_variances(&self.prior, &place)?;
        }
        let deviations = &process.shifts.deviations;
        let standard_error = variance.iter().zip(deviations).map(|(variance, of)| variance.max(0.0).sqrt() * of);
        let (standard_error, z) = (standard_error.collect(), self.evidence(&parts, &numbers, context)?);
        Ok(Some(GeneErrors { standard_error, z }))
    }

    /// The standard normal numbers of [`GeneErrors`].
    fn evidence(&self, parts: &[DosedPart], numbers: &[usize], context: Option<usize>) -> Result<Option<Vec<f64>>> {
        let shifts = &self.process.shifts;
        let is_asked = |part: &DosedPart| parts.iter().any(|asked| asked.perturbation == part.perturbation);
        let first = numbers.iter().flat_map(|number| &shifts.perturbations[*number].all).map(|exposure| exposure.row);
        let mut rows: Vec<usize> = first.filter(|row| shifts.rows[*row].parts.iter().all(is_asked)).collect();
        rows.sort_unstable();
        rows.dedup();
        let has = |row: &usize, part: &DosedPart| {
            shifts.rows[*row].parts.iter().find(|own| own.perturbation == part.perturbation).map(|own| own.dose)
        };
        if !parts.iter().all(|part| rows.iter().any(|row| has(row, part).is_some())) {
            return Ok(None);
        }
        let kernels = self.effects.kernels();
        let mut between = Matrix::zeros(rows.len(), rows.len());
        let mut to_target = DVector::zeros(rows.len());
        for (part, number) in parts.iter().zip(numbers) {
            let doses = |one: f64, other: f64| self.process.doses.between(*number, one, other);
            for kernel in &kernels {
                let contexts = &self.process.kernels[kernel.kernel];
                for (at, row) in rows.iter().enumerate() {
                    let Some(dose) = has(row, part) else { continue };
                    let here = shifts.rows[*row].context;
                    to_target[at] += kernel.weight * contexts.to(here, context) * doses(dose, part.dose);
                    for (other_at, other) in rows.iter().enumerate() {
                        let Some(other_dose) = has(other, part) else { continue };
                        let alike = contexts.between[(here, shifts.rows[*other].context)];
                        between[(at, other_at)] += kernel.weight * alike * doses(dose, other_dose);
                    }
                }
            }
        }
        // If nothing is shifted, the noise of the controls is all that rows of a context share.
        let noise = Matrix::from_fn(rows.len(), rows.len(), |at, other| {
            let [one, two] = [at, other].map(|at| shifts.rows[rows[at]].context);
            let shared = if one == two { shifts.control_noise[one] } else { 0.0 };
            if at == other { shifts.noise[rows[at]] + shared } else { shared }
        });
        let factor = Cholesky::new(between * self.prior.typical_scale() + &noise)
            .ok_or_else(|| Error::Bug(format!("the covariance of {} shifts has no factor", rows.len())))?;
        let weights = factor.solve(&to_target);
        let deviation = weights.dot(&(&noise * &weights)).max(0.0).sqrt();
        let sums = shifts.values.select_columns(&rows) * weights;
        Ok((deviation > 0.0).then(|| (sums / deviation).as_slice().to_vec()))
    }
}
