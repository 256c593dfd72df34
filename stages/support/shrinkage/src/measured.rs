//! The input of the estimator: measured shifts and their noise.

use schemas::{Error, Result};

/// A perturbation at a dose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DosedPart {
    /// The perturbation's index; any numbering.
    pub perturbation: u32,
    /// The dose, above 0, in any unit that all doses of the perturbation share.
    pub dose: f64,
}

/// The controls of a context.
#[derive(Clone, Debug)]
pub struct MeasuredControls {
    /// The mean of each gene.
    pub mean: Vec<f64>,
    /// The noise of these means, in units of the genes' variances ([`GeneVariances::noise_of_mean`](crate::GeneVariances::noise_of_mean)).
    pub noise: f64,
}

/// The shift of one condition in one context.
#[derive(Clone, Debug)]
pub struct MeasuredShift {
    /// The perturbations and doses, in any order: one part, or several for a combination.
    pub parts: Vec<DosedPart>,
    /// Index of the context, into [`MeasuredShifts::controls`].
    pub context: usize,
    /// The mean of each gene, less that of the controls.
    pub shift: Vec<f64>,
    /// The noise of the condition's means, without that of the controls, in units of the genes' variances.
    pub noise: f64,
}

/// All that is known of the training cells.
#[derive(Clone, Debug)]
pub struct MeasuredShifts {
    /// The variance of each gene within groups, moderated ([`GeneVariances`](crate::GeneVariances)); above 0.
    pub variances: Vec<f64>,
    /// The controls of each context; `None` for a context without controls, whose shifts are left out.
    pub controls: Vec<Option<MeasuredControls>>,
    /// The shifts, each condition at most once in a context.
    pub shifts: Vec<MeasuredShift>,
}

/// An error of the measurements that are given.
pub(crate) fn refused(message: impl Into<String>, hint: &str) -> Error {
    Error::data("shifts of groups", message, hint)
}

/// The parts of a condition in ascending order of their perturbations.
///
/// # Errors
/// No part at all, a perturbation twice, and a dose that is not a positive number.
pub(crate) fn sorted_parts(parts: &[DosedPart]) -> Result<Vec<DosedPart>> {
    if parts.is_empty() {
        return Err(refused("a condition has no part", "give cells without perturbation as controls"));
    }
    if let Some(part) = parts.iter().find(|part| !part.dose.is_finite() || part.dose <= 0.0) {
        let message = format!("the dose {} of perturbation {} is not positive", part.dose, part.perturbation);
        return Err(refused(message, "give cells at dose 0 as controls"));
    }
    let mut parts = parts.to_vec();
    parts.sort_unstable_by_key(|part| part.perturbation);
    match parts.windows(2).find(|pair| pair[0].perturbation == pair[1].perturbation) {
        Some(pair) => {
            let message = format!("a condition has perturbation {} twice", pair[0].perturbation);
            Err(refused(message, "add the doses up"))
        }
        None => Ok(parts),
    }
}

impl MeasuredShifts {
    /// Checks lengths, numbers and contexts.
    ///
    /// # Errors
    /// Measurements that don't allow an estimate.
    pub(crate) fn check(&self) -> Result<()> {
        let genes = self.variances.len();
        if genes == 0 {
            return Err(refused("there are no genes", "choose genes"));
        }
        if !self.variances.iter().all(|variance| variance.is_finite() && *variance > 0.0) {
            return Err(refused("a gene's variance is not a positive number", "give moderated variances"));
        }
        let controls = self.controls.iter().flatten().map(|controls| (&controls.mean, controls.noise));
        for (numbers, noise) in controls.chain(self.shifts.iter().map(|shift| (&shift.shift, shift.noise))) {
            if numbers.len() != genes {
                return Err(refused(format!("a group's means are not of {genes} genes"), "measure all genes"));
            }
            // The square of a number, summed over all groups, is still a number.
            if !numbers.iter().all(|number| number.abs() < 1e100) {
                return Err(refused("a group's means are not finite numbers", "leave damaged values out"));
            }
            if !(noise.is_finite() && noise > 0.0) {
                return Err(refused("the noise of a group is not a positive number", "give the noise of its mean"));
            }
        }
        match self.shifts.iter().find(|shift| shift.context >= self.controls.len()) {
            Some(shift) => {
                let message = format!("context {} is not one of {}", shift.context, self.controls.len());
                Err(refused(message, "give the controls of each context, or none"))
            }
            None => Ok(()),
        }
    }

    /// The same shifts with ascending parts, in ascending order of parts and context, so that sums over groups do not
    /// depend on the order in which these were given.
    ///
    /// # Errors
    /// Wrong parts, or a condition twice in a context.
    pub(crate) fn in_order(mut self) -> Result<Self> {
        for shift in &mut self.shifts {
            shift.parts = sorted_parts(&shift.parts)?;
        }
        // Doses are positive, so their bits are in their order.
        let key = |shift: &MeasuredShift| -> Vec<(u32, u64)> {
            shift.parts.iter().map(|part| (part.perturbation, part.dose.to_bits())).collect()
        };
        self.shifts.sort_by_cached_key(|shift| (key(shift), shift.context));
        let same = |pair: &&[MeasuredShift]| pair[0].parts == pair[1].parts && pair[0].context == pair[1].context;
        match self.shifts.windows(2).find(same) {
            Some(pair) => {
                let message = format!("context {} has a condition twice", pair[0].context);
                Err(refused(message, "add its groups up"))
            }
            None => Ok(self),
        }
    }
}
