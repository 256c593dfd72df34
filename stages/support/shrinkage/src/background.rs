//! The common part of a context's shifts. It has two sources: cells respond to being perturbed at all, and the same
//! controls are subtracted every time, with their noise.

use schemas::Result;

use crate::{
    Matrix, mean, median,
    mixture::{Likelihoods, ScalePrior, Spectrum, shares},
    real,
    shifts::Shifts,
};

/// Number of groups of single perturbations from which a context's mean says something.
const ENOUGH_GROUPS: usize = 5;
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
    /// The shared response, `genes × contexts`.
    pub(crate) shared: Matrix,
    /// The shared response of a context without controls, one number per gene.
    pub(crate) elsewhere: Vec<f64>,
    /// The shared response and the part of the controls' noise that is known, `genes × contexts`.
    pub(crate) own: Matrix,
    /// The variance of the controls' noise that is not known, for each context.
    pub(crate) control_noise: Vec<f64>,
}

impl Background {
    /// No shared response, and nothing known of the controls' noise.
    pub(crate) fn none(shifts: &Shifts) -> Self {
        let zeros = Matrix::zeros(shifts.genes(), shifts.contexts());
        let elsewhere = vec![0.0; shifts.genes()];
        Self { shared: zeros.clone(), elsewhere, own: zeros, control_noise: shifts.control_noise.clone() }
    }

    /// The background of single perturbations, less what is `explained` (`genes × rows`) by their effects once these
    /// are estimated. There is none without a context that has enough groups, and where doses differ.
    ///
    /// # Errors
    /// Numbers that are not finite.
    pub(crate) fn new(shifts: &Shifts, prior: &ScalePrior, explained: Option<&Matrix>) -> Result<Self> {
        let mut background = Self::none(shifts);
        let contexts: Vec<usize> =
            (0..shifts.contexts()).filter(|context| shifts.alone_in(*context).len() >= ENOUGH_GROUPS).collect();
        // A response that all share grows with the dose, too: taken for constant, it would be predicted at any dose, and what is
        // left of the shifts would follow another curve.
        if contexts.is_empty() || shifts.has_doses() {
            return Ok(background);
        }
        let (means, noises): (Vec<_>, Vec<_>) =
            contexts.iter().map(|context| weighted_mean(shifts, *context, explained)).unzip();
        let means = Matrix::from_columns(&means);

        let covariance = |one: usize, other: usize| if one == other { 1.0 } else { ACROSS_CONTEXTS };
        let kernel = Matrix::from_fn(contexts.len(), contexts.len(), covariance);
        let control_noise = |at: usize| shifts.control_noise[contexts[at]];
        let noise = Matrix::from_fn(contexts.len(), contexts.len(), |one, other| {
            if one == other { noises[one] + control_noise(one) } else { 0.0 }
        });
        let spectrum = Spectrum::new(&kernel, noise)?;
        let likelihoods = [Likelihoods::new(spectrum.log_likelihoods(&prior.scales, &means))];
        let of_scales = |scale: usize| {
            if scale == 0 { 1.0 - SHARE_OF_GENES } else { SHARE_OF_GENES / real(prior.scales.len() - 1) }
        };
        let expected: Vec<f64> = (0..prior.scales.len()).map(of_scales).collect();
        let shares = shares(&likelihoods, &expected, PRIOR_STRENGTH, 25);
        let weights = spectrum.weights(&prior.scales, &means, &likelihoods[0].responsibilities(&shares));
        let to_known = Matrix::from_fn(contexts.len(), shifts.contexts(), |at, other| covariance(contexts[at], other));
        background.shared = &weights * to_known;
        background.elsewhere = (weights.column_sum() * ACROSS_CONTEXTS).as_slice().to_vec();

        background.own.copy_from(&background.shared);
        for (at, context) in contexts.iter().enumerate() {
            // What the mean has beyond the shared response is noise, its own or the controls', in these proportions.
            let all = control_noise(at) + noises[at];
            let share = control_noise(at) / all;
            let beyond = (means.column(at) - background.shared.column(*context)) * share;
            let mut own = background.own.column_mut(*context);
            own += beyond;
            background.control_noise[*context] = control_noise(at) * noises[at] / all;
        }
        Ok(background)
    }
}

/// The weighted mean of a context's single perturbations, and its noise apart from the controls'. Rows weigh by the
/// inverse of their variance around the mean.
fn weighted_mean(shifts: &Shifts, context: usize, explained: Option<&Matrix>) -> (nalgebra::DVector<f64>, f64) {
    let rows = shifts.alone_in(context);
    let genes = shifts.genes();
    let value = |gene: usize, row: usize| shifts.values[(gene, row)] - explained.map_or(0.0, |sums| sums[(gene, row)]);
    let effect = |row: &usize| {
        let square = mean((0..genes).map(|gene| value(gene, *row).powi(2)));
        (square - shifts.noise[*row] - shifts.control_noise[context]).max(0.0)
    };
    let typical = median(rows.iter().map(effect).collect()).unwrap_or(0.0);
    let mut weights: Vec<f64> = rows.iter().map(|row| 1.0 / (shifts.noise[*row] + typical + 1e-12)).collect();
    let total: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= total);

    let mut sum = nalgebra::DVector::<f64>::zeros(genes);
    for (row, weight) in rows.iter().zip(&weights) {
        sum.iter_mut().enumerate().for_each(|(gene, sum)| *sum += weight * value(gene, *row));
    }
    let weighted = |of_row: &dyn Fn(usize) -> f64| -> f64 {
        rows.iter().zip(&weights).map(|(row, weight)| weight * weight * of_row(*row)).sum()
    };
    let noise = if explained.is_none() {
        FIRST_INFLATION * weighted(&|row| mean((0..genes).map(|gene| (value(gene, row) - sum[gene]).powi(2))))
    } else {
        let differences = |row: usize| mean((0..genes).map(|gene| (shifts.values[(gene, row)] - sum[gene]).powi(2)));
        INFLATION * weighted(&|row| shifts.noise[row]) + PART_OF_DIFFERENCES * weighted(&differences)
    };
    (sum, noise)
}
