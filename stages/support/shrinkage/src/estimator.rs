//! The estimator: fitted once, asked often.

use std::{collections::BTreeMap, ops::Range};

use schemas::{Error, Result};

use crate::{
    background::Background,
    choice,
    contexts::candidates,
    doses::DoseKernel,
    effects::{EffectPlace, Effects},
    embedded::EmbeddedEffects,
    mean,
    measured::{DosedPart, MeasuredShifts, refused, sorted_parts},
    mixture::ScalePrior,
    process::Process,
    shifts::Shifts,
};

/// Shifts of any condition in any context, estimated from sums of groups.
///
/// It keeps at most six numbers per gene and part of a group, and `genes × (contexts + groups)` more; while it is
/// fitted, four per gene and group of combined perturbations and some twenty per gene for each of at most sixty
/// perturbations besides. With vectors, a number per gene and perturbation and one per pair of at most 1,500
/// perturbations, for each kernel between vectors that is kept.
#[derive(Debug)]
pub struct AdaptiveShrinkage {
    pub(crate) process: Process,
    pub(crate) effects: Effects,
    pub(crate) prior: ScalePrior,
    /// `None` without vectors.
    embedded: Option<EmbeddedEffects>,
    noise_factor: f64,
    kernel_weights: Vec<f64>,
}

/// A condition in a context.
#[derive(Clone, Copy, Debug)]
pub struct ShiftTarget<'a> {
    /// The perturbations and doses, in any order.
    pub parts: &'a [DosedPart],
    /// Index of the context, into [`MeasuredShifts::controls`]. One without controls, or beyond these, is answered for
    /// as a context of which nothing is known.
    pub context: usize,
}

/// Parameters fitted to all groups together.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedParameters {
    /// Weights of the kernels between contexts that were kept, descending.
    pub kernel_weights: Vec<f64>,
    /// The half-effect dose of each perturbation, ascending by perturbation; empty where none was seen at several doses.
    pub half_effects: Vec<(u32, f64)>,
    /// The share of its effect that a dose has of its own.
    pub own_of_doses: f64,
    /// Factor of the noise of groups, beyond what follows from the variance of their cells.
    pub noise_factor: f64,
    /// The factor of the sum of effects in combinations.
    pub slope: f64,
    /// The mean variance of combinations beyond sum and noise, in units of the genes' variances.
    pub misfit: f64,
}

impl AdaptiveShrinkage {
    /// Estimates everything from the measurements.
    ///
    /// # Errors
    /// Means that are not finite numbers of all genes, noise and variances and doses that are not positive, a condition that is
    /// twice in a context, no context with controls and perturbed cells.
    pub fn fit(measured: MeasuredShifts) -> Result<Self> {
        Self::fit_with_vectors(measured, &BTreeMap::new())
    }

    /// The same, and effects of perturbations that were not measured: from their vectors (chemical fingerprints, embeddings of
    /// genes), if those of measured ones say something. Vectors of any unit, of the same length for all perturbations.
    ///
    /// # Errors
    /// As [`fit`](Self::fit); vectors of different lengths, or with numbers that are not finite.
    pub fn fit_with_vectors(measured: MeasuredShifts, vectors: &BTreeMap<u32, Vec<f64>>) -> Result<Self> {
        measured.check()?;
        let shifts = Shifts::new(&measured.in_order()?)?;
        let kernels = candidates(&shifts);
        let mut prior = ScalePrior::new(&shifts.values, &shifts.noise);
        let doses = DoseKernel::new(&shifts);
        let amounts = doses.amounts(&shifts);
        let background = Background::new(&shifts, &amounts, &prior, None)?;
        let mut process = Process { shifts, background, kernels, doses, amounts, misfit: 0.0 };
        let noise_factor = choice::choose_doses(&mut process, &prior)?;
        choice::fit_scales(&process, &mut prior)?;
        let weighed = choice::weigh_kernels(&process, &prior)?;
        let effects = Effects::fit(&mut process, &prior, &weighed)?;
        let kernel_weights = weighed.iter().map(|kernel| kernel.weight).collect();
        let embedded = EmbeddedEffects::new(&process, &prior, vectors)?;
        Ok(Self { process, effects, prior, embedded, noise_factor, kernel_weights })
    }

    /// The expected squared error of a predicted shift, averaged over genes, in the unit of the values: the posterior variance of the
    /// parts' effects, with the misfit of a combination that was not seen. A part that training lacks varies as all others do.
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    pub fn variance(&self, target: &ShiftTarget) -> Result<f64> {
        let parts = sorted_parts(target.parts)?;
        let process = &self.process;
        let context = process.shifts.numbers.get(target.context).copied().flatten();
        let of_part = |part: &DosedPart| {
            let of_known = |perturbation: usize| {
                let place = EffectPlace { process, perturbation, dose: part.dose, context };
                self.effects.of_perturbations[perturbation].variance(&place)
            };
            let known = process.shifts.number_of(part.perturbation);
            let by_vector = || self.embedded.as_ref()?.variance(part.perturbation);
            let at_largest = || by_vector().unwrap_or_else(|| self.effects.typical_square(process, context));
            let of_unknown = || at_largest() * process.doses.size_of_unseen(part.dose).powi(2);
            known.map_or_else(of_unknown, of_known)
        };
        let beyond = if parts.len() > 1 && !self.effects.combinations.has_seen(&parts) { process.misfit } else { 0.0 };
        let in_variances = parts.iter().map(of_part).sum::<f64>() + beyond;
        Ok(in_variances * mean(process.shifts.deviations.iter().map(|deviation| deviation.powi(2))))
    }

    /// The fitted process.
    #[cfg(test)]
    pub(crate) fn into_process(self) -> Process {
        self.process
    }

    /// Number of genes.
    #[must_use]
    pub fn genes(&self) -> usize {
        self.process.shifts.genes()
    }

    /// Parameters fitted to all groups together.
    #[must_use]
    pub fn parameters(&self) -> FittedParameters {
        let process = &self.process;
        let halves = process.shifts.perturbations.iter().enumerate();
        FittedParameters {
            kernel_weights: self.kernel_weights.clone(),
            half_effects: halves.filter_map(|(at, of)| Some((of.perturbation, process.doses.half(at)?))).collect(),
            own_of_doses: process.doses.own,
            noise_factor: self.noise_factor,
            slope: self.effects.combinations.slope,
            misfit: process.misfit,
        }
    }

    /// The posterior mean of each gene's shift against the controls of the context, in the unit of the values, for a range of genes.
    /// A part that training had in no context with controls contributes what all perturbations share and, if it has a
    /// vector, what follows from it. Ranges can be asked for in any order and on any thread.
    ///
    /// The shared response counts once a part, as much as the part's dose has of the effect at its largest dose; effects
    /// are summed, and a combination's sum is multiplied by the slope.
    ///
    /// # Errors
    /// No part, a perturbation twice, a dose that is not positive, and genes that there are not.
    pub fn predict(&self, target: &ShiftTarget, genes: Range<usize>) -> Result<Vec<f64>> {
        let parts = sorted_parts(target.parts)?;
        if genes.start > genes.end || genes.end > self.genes() {
            let message = format!("genes {} to {} are not among {}", genes.start, genes.end, self.genes());
            return Err(refused(message, "ask for genes that were fitted"));
        }
        let process = &self.process;
        let context = process.shifts.numbers.get(target.context).copied().flatten();
        let background = &process.background;
        let mut shift: Vec<f64> = match context {
            Some(context) => background.shared.column(context).rows_range(genes.clone()).iter().copied().collect(),
            None => background.elsewhere[genes.clone()].to_vec(),
        };
        let known = |part: &DosedPart| process.shifts.number_of(part.perturbation);
        let unseen = |part: &DosedPart| process.doses.size_of_unseen(part.dose);
        let amount =
            |part: &DosedPart| known(part).map_or_else(|| unseen(part), |known| process.doses.size(known, part.dose));
        let amount: f64 = parts.iter().map(amount).sum();
        shift.iter_mut().for_each(|shared| *shared *= amount);
        let times = if parts.len() > 1 { self.effects.combinations.slope } else { 1.0 };
        for part in &parts {
            let Some(perturbation) = known(part) else {
                if let Some(embedded) = &self.embedded {
                    embedded.add_to(&mut shift, genes.start, times * unseen(part), part.perturbation);
                }
                continue;
            };
            let place = EffectPlace { process, perturbation, dose: part.dose, context };
            self.effects.of_perturbations[perturbation].add_to(&mut shift, genes.start, times, &place);
        }
        self.effects.combinations.add_own(&mut shift, genes.start, process, &parts, context);
        shift.iter_mut().zip(&process.shifts.deviations[genes]).for_each(|(shift, deviation)| *shift *= deviation);
        if shift.iter().any(|shift| !shift.is_finite()) {
            return Err(Error::Bug("an estimated shift is not finite".into()));
        }
        Ok(shift)
    }
}
