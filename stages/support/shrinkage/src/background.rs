//! The common part of a context's shifts. It has two sources: cells respond to being perturbed at all, the more so the
//! larger the dose, and the same controls are subtracted every time, with their noise.

use std::collections::BTreeMap;

use nalgebra::DVector;
use schemas::Result;

use crate::{
    Matrix,
    likelihoods::{Likelihoods, shares},
    mean, median,
    mixture::{ScalePrior, Spectrum},
    real,
    shifts::Shifts,
};

/// Number of perturbations from which a context's mean says something.
const ENOUGH_PERTURBATIONS: usize = 5;
/// A dose at which effects have less than this share of their size says nothing about the shared response.
const LEAST_AMOUNT: f64 = 0.01;
/// The covariance of the shared responses of two contexts, where one has variance 1 with itself.
const ACROSS_CONTEXTS: f64 = 0.7;
/// How many genes' worth of evidence speaks for a shared response of this few genes: noise that all rows of a context seem to share
/// would be predicted for every condition, twice for pairs.
const PRIOR_STRENGTH: f64 = 30.0;
const SHARE_OF_GENES: f64 = 0.01;
/// Once effects are known, the noise of a mean is that of its rows, somewhat inflated, with part of how much they
/// differ.
const INFLATION: f64 = 1.3;
const PART_OF_DIFFERENCES: f64 = 0.3;
/// Before that it is how much the rows differ, somewhat inflated.
const FIRST_INFLATION: f64 = 1.1;

/// The shared response of each context, and the noise of its controls.
#[derive(Clone, Debug)]
pub(crate) struct Background {
    /// The shared response at the largest dose, `genes × contexts`.
    pub(crate) shared: Matrix,
    /// The shared response of a context without controls, one number per gene.
    pub(crate) elsewhere: Vec<f64>,
    /// The part of the controls' noise that is known, as it is in shifts, `genes × contexts`.
    pub(crate) of_controls: Matrix,
    /// The variance of the controls' noise that is not known, for each context.
    pub(crate) control_noise: Vec<f64>,
}

impl Background {
    /// No shared response, and nothing known of the controls' noise.
    pub(crate) fn none(shifts: &Shifts) -> Self {
        let zeros = Matrix::zeros(shifts.genes(), shifts.contexts());
        let elsewhere = vec![0.0; shifts.genes()];
        Self { shared: zeros.clone(), elsewhere, of_controls: zeros, control_noise: shifts.control_noise.clone() }
    }

    /// The background of single perturbations, less what is `explained` (`genes × rows`) by their effects once these
    /// are estimated. Row number `r` has `amounts[r]` of the shared response. There is none without a context that has
    /// enough perturbations.
    ///
    /// # Errors
    /// Numbers that are not finite.
    pub(crate) fn new(
        shifts: &Shifts,
        amounts: &[f64],
        prior: &ScalePrior,
        explained: Option<&Matrix>,
    ) -> Result<Self> {
        let mut background = Self::none(shifts);
        let of_context = |context: usize| Some((context, ContextMean::new(shifts, amounts, context, explained)?));
        let found: Vec<(usize, ContextMean)> = (0..shifts.contexts()).filter_map(of_context).collect();
        if found.is_empty() {
            return Ok(background);
        }
        let means = Matrix::from_columns(&found.iter().map(|(_, of)| of.mean.clone()).collect::<Vec<_>>());
        let covariance = |one: usize, other: usize| if one == other { 1.0 } else { ACROSS_CONTEXTS };
        let kernel = Matrix::from_fn(found.len(), found.len(), covariance);
        let noise = found.iter().map(|(context, of)| of.noise + of.controls.powi(2) * shifts.control_noise[*context]);
        let noise = Matrix::from_diagonal(&DVector::from_iterator(found.len(), noise));
        let spectrum = Spectrum::new(&kernel, noise)?;
        let likelihoods = [Likelihoods::new(spectrum.log_likelihoods(&prior.scales, &means))];
        let of_scales = |scale: usize| {
            if scale == 0 { 1.0 - SHARE_OF_GENES } else { SHARE_OF_GENES / real(prior.scales.len() - 1) }
        };
        let expected: Vec<f64> = (0..prior.scales.len()).map(of_scales).collect();
        let shares = shares(&likelihoods, &expected, PRIOR_STRENGTH, 25);
        let weights = spectrum.weights(&prior.scales, &means, &likelihoods[0].responsibilities(&shares));
        let to_known = Matrix::from_fn(found.len(), shifts.contexts(), |at, context| covariance(found[at].0, context));
        background.shared = &weights * to_known;
        background.elsewhere = (weights.column_sum() * ACROSS_CONTEXTS).as_slice().to_vec();

        for (context, of) in &found {
            // What the mean has beyond the shared response is noise, its own or the controls', in these proportions.
            let control_noise = shifts.control_noise[*context];
            let all = of.controls.powi(2) * control_noise + of.noise;
            let known = (&of.mean - background.shared.column(*context)) * (of.controls * control_noise / all);
            background.of_controls.set_column(*context, &known);
            background.control_noise[*context] = control_noise * of.noise / all;
        }
        Ok(background)
    }
}

/// An estimate of the shared response from the single perturbations of one context.
struct ContextMean {
    /// The estimate, one number per gene.
    mean: DVector<f64>,
    /// Its noise apart from the controls'.
    noise: f64,
    /// How often the controls' noise is in it: once, or more where the doses are small.
    controls: f64,
}

impl ContextMean {
    /// The weighted mean over perturbations of their shifts over amounts; `None` without enough perturbations.
    /// Perturbations weigh by the inverse of their variance around it.
    fn new(shifts: &Shifts, amounts: &[f64], context: usize, explained: Option<&Matrix>) -> Option<Self> {
        let perturbations = PerturbationMean::of_context(shifts, amounts, context, explained);
        if perturbations.len() < ENOUGH_PERTURBATIONS {
            return None;
        }
        let effect = |of: &PerturbationMean| {
            let square = mean(of.left.iter().map(|left| left * left));
            (square - of.noise - of.controls.powi(2) * shifts.control_noise[context]).max(0.0)
        };
        let typical = median(perturbations.iter().map(effect).collect()).unwrap_or(0.0);
        let mut weights: Vec<f64> = perturbations.iter().map(|of| 1.0 / (of.noise + typical + 1e-12)).collect();
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);

        let mut sum = DVector::<f64>::zeros(shifts.genes());
        for (of, weight) in perturbations.iter().zip(&weights) {
            sum.axpy(*weight, &of.left, 1.0);
        }
        let weighted = |number: &dyn Fn(&PerturbationMean) -> f64| -> f64 {
            perturbations.iter().zip(&weights).map(|(of, weight)| weight * weight * number(of)).sum()
        };
        let differences = |of: &DVector<f64>| (of - &sum).norm_squared() / real(shifts.genes());
        let noise = if explained.is_none() {
            FIRST_INFLATION * weighted(&|of| differences(&of.left))
        } else {
            INFLATION * weighted(&|of| of.noise) + PART_OF_DIFFERENCES * weighted(&|of| differences(&of.whole))
        };
        let controls = perturbations.iter().zip(&weights).map(|(of, weight)| weight * of.controls).sum();
        Some(Self { mean: sum, noise, controls })
    }
}

/// The shifts of one perturbation's doses in a context, each over its amount, and their weighted mean.
struct PerturbationMean {
    /// The mean of what is not explained.
    left: DVector<f64>,
    /// The mean with what is explained.
    whole: DVector<f64>,
    /// Its noise apart from the controls'.
    noise: f64,
    /// How often the controls' noise is in it.
    controls: f64,
}

impl PerturbationMean {
    /// The single perturbations of a context whose doses say something.
    fn of_context(shifts: &Shifts, amounts: &[f64], context: usize, explained: Option<&Matrix>) -> Vec<Self> {
        let mut rows: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for row in shifts.alone_in(context).into_iter().filter(|row| amounts[*row] >= LEAST_AMOUNT) {
            rows.entry(shifts.rows[row].parts[0].perturbation).or_default().push(row);
        }
        rows.values().map(|rows| Self::new(shifts, amounts, rows, explained)).collect()
    }

    /// The least squares estimate of y from the shifts, which are amount · y + noise.
    fn new(shifts: &Shifts, amounts: &[f64], rows: &[usize], explained: Option<&Matrix>) -> Self {
        let precision = |row: &usize| amounts[*row].powi(2) / shifts.noise[*row];
        let total: f64 = rows.iter().map(precision).sum();
        let mut of = Self {
            left: DVector::zeros(shifts.genes()),
            whole: DVector::zeros(shifts.genes()),
            noise: 1.0 / total,
            controls: 0.0,
        };
        for row in rows {
            let weight = precision(row) / amounts[*row] / total;
            of.whole.axpy(weight, &shifts.values.column(*row), 1.0);
            if let Some(explained) = explained {
                of.left.axpy(-weight, &explained.column(*row), 1.0);
            }
            of.controls += weight;
        }
        of.left += &of.whole;
        of
    }
}
