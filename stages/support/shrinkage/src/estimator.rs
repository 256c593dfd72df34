//! The estimator: fitted once, asked often.

use std::ops::Range;

use schemas::{Error, Result};

use crate::{
    background::Background,
    choice,
    contexts::candidates,
    doses::{self, DoseKernel},
    effects::{EffectPlace, Effects},
    mixture::ScalePrior,
    noise::GeneVariances,
    process::Process,
    real,
    shifts::Shifts,
    sums::{DosedPart, TrainingSums, refused, sorted_parts},
};

/// Shifts of any condition in any context, estimated from sums of groups.
///
/// It keeps at most six numbers per gene and part of a group, and `genes × (contexts + groups)` more; while it is
/// fitted, a number for each pair of groups and some twenty per gene for each of at most sixty perturbations besides.
#[derive(Debug)]
pub struct AdaptiveShrinkage {
    variances: GeneVariances,
    process: Process,
    effects: Effects,
    noise_factor: f64,
    kernel_weights: Vec<f64>,
}

/// A condition in a context.
#[derive(Clone, Copy, Debug)]
pub struct ShiftTarget<'a> {
    /// The perturbations and doses, in any order.
    pub parts: &'a [DosedPart],
    /// Index of the context, into [`TrainingSums::controls`]. One without controls, or beyond these, is answered for
    /// as a context of which nothing is known.
    pub context: usize,
}

/// An estimated shift.
#[derive(Clone, Debug, PartialEq)]
pub struct ShiftEstimate {
    /// The posterior mean of each gene's shift against the controls of the context, in the unit of the values.
    pub shift: Vec<f64>,
    /// Number of parts that training had in no context with controls: they contribute what all perturbations share.
    pub unseen: usize,
}

/// Parameters fitted to all groups together.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedParameters {
    /// Variance of each gene within groups, moderated.
    pub variances: Vec<f64>,
    /// Weights of the kernels between contexts that were kept, descending.
    pub kernel_weights: Vec<f64>,
    /// The half-effect dose of each perturbation seen at several doses, ascending by perturbation.
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
    /// Estimates everything from the sums. Groups of contexts without controls count for the noise only.
    ///
    /// # Errors
    /// Sums that are not finite numbers of all genes, empty groups, doses that are not positive, a condition that is
    /// twice in a context; no group with two cells; no context with controls and perturbed cells.
    pub fn fit(training: &TrainingSums) -> Result<Self> {
        training.check()?;
        let training = training.in_order()?;
        let variances = GeneVariances::new(&training)?;
        let shifts = Shifts::new(&training, &variances)?;
        let kernels = candidates(&shifts, &variances);
        let mut prior = ScalePrior::new(&shifts.values, &shifts.noise);
        let background = Background::new(&shifts, &prior, None)?;
        let curves = doses::curves(&shifts, &background);
        let doses = DoseKernel { curves, own: 0.0 };
        let mut process = Process { shifts, background, kernels, doses, misfit: 0.0 };
        let noise_factor = doses::choose(&mut process, &prior)?;
        choice::fit_scales(&process, &mut prior)?;
        let weighed = choice::weigh_kernels(&process, &prior, &variances)?;
        let effects = Effects::fit(&mut process, &prior, &weighed)?;
        let kernel_weights = weighed.iter().map(|kernel| kernel.weight).collect();
        Ok(Self { variances, process, effects, noise_factor, kernel_weights })
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
        let curves = process.shifts.perturbations.iter().zip(&process.doses.curves);
        FittedParameters {
            variances: self.variances.variances.clone(),
            kernel_weights: self.kernel_weights.clone(),
            half_effects: curves.filter_map(|(of, curve)| Some((of.perturbation, curve.as_ref()?.half))).collect(),
            own_of_doses: process.doses.own,
            noise_factor: self.noise_factor,
            slope: self.effects.combinations.slope,
            misfit: process.misfit,
        }
    }

    /// The shift of a condition in a context, for a range of genes; ranges can be asked for in any order and on any
    /// thread.
    ///
    /// The shared response counts once a part, effects are summed, and a combination's sum is multiplied by the slope.
    ///
    /// # Errors
    /// No part, a perturbation twice, a dose that is not positive, and genes that there are not.
    pub fn predict(&self, target: &ShiftTarget, genes: Range<usize>) -> Result<ShiftEstimate> {
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
        shift.iter_mut().for_each(|shared| *shared *= real(parts.len()));
        let times = if parts.len() > 1 { self.effects.combinations.slope } else { 1.0 };
        let mut unseen = 0;
        for part in &parts {
            let found = process.shifts.perturbations.binary_search_by_key(&part.perturbation, |of| of.perturbation);
            let Ok(perturbation) = found else {
                unseen += 1;
                continue;
            };
            let place = EffectPlace { process, perturbation, dose: part.dose, context };
            self.effects.of_perturbations[perturbation].add_to(&mut shift, genes.start, times, &place);
        }
        self.effects.combinations.add_own(&mut shift, genes.start, process, &parts, context);
        shift.iter_mut().zip(&self.variances.deviations[genes]).for_each(|(shift, deviation)| *shift *= deviation);
        if shift.iter().any(|shift| !shift.is_finite()) {
            return Err(Error::Bug("an estimated shift is not finite".into()));
        }
        Ok(ShiftEstimate { shift, unseen })
    }
}
