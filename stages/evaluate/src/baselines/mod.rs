//! The baselines: predictions without a network, from the mean profiles of the training cells.
//!
//! The same arithmetic works on every scale (means of log1p values, pseudobulk, plain values): it turns
//! profiles into a profile. A *context* is a combination of covariate values; a *shift* is a perturbed
//! profile minus the control profile of its own context. If a perturbation was trained only at other doses, its shift
//! is interpolated between them; for a combination, the nearest doses are used instead.

mod linear;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use linear::{DoseRidge, control_ridge};
use schemas::ids::PerturbationId;
use statistics::metrics;

/// How strongly `additive_similar` prefers contexts whose controls correlate with the target's.
const SIMILARITY_SHARPNESS: f64 = 20.0;

/// A perturbation and its dose.
pub type PerturbationDose = (PerturbationId, f64);

/// The mean of the training cells of one condition in one context.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingProfile {
    /// The perturbations of the cells, in any order; empty for control.
    pub parts: Vec<PerturbationDose>,
    /// Their combination of covariate values.
    pub context: usize,
    /// Number of cells.
    pub cells: u64,
    /// The mean of each gene.
    pub mean: Vec<f64>,
    /// The mean of the context's training controls, divided among batches like these cells; if it is not given, the
    /// context's control profile.
    pub control: Option<Arc<[f64]>>,
}

impl TrainingProfile {
    /// The profile minus that of the controls.
    fn shift(&self) -> Option<Vec<f64>> {
        Some(metrics::difference(&self.mean, self.control.as_deref()?))
    }
}

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct BaselineTarget<'a> {
    /// The perturbations of the cells, in any order; empty for control.
    pub parts: &'a [PerturbationDose],
    /// Their combination of covariate values; it need not have been trained.
    pub context: usize,
    /// The mean of the control cells to start from.
    pub start: &'a [f64],
}

/// A prediction method without a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// Nothing changes.
    Control,
    /// The start plus the mean shift of the perturbed training profiles of the context (of all contexts, if it has
    /// none), with equal weights.
    PerturbedMean,
    /// The start plus the shift of each single perturbation: the one seen in the context, otherwise the mean of
    /// those seen in other contexts. Undefined for a perturbation that was never seen alone: dividing a
    /// combination's shift would be a guess about the very interactions that this baseline ignores.
    Additive,
    /// [`Additive`](Self::Additive), but means over other contexts are weighted by the softmax of 20 × the
    /// correlation between their control profile and the start.
    AdditiveSimilar,
    /// Ridge regression: on the control profile, if the combination was trained in some context; otherwise on the
    /// doses' indicators, within the context. Undefined for a perturbation that the context never saw.
    Linear,
}

impl Baseline {
    /// All baselines, simplest first.
    pub const ALL: [Self; 5] =
        [Self::Control, Self::PerturbedMean, Self::Additive, Self::AdditiveSimilar, Self::Linear];

    /// Its name in JSON and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::PerturbedMean => "perturbed_mean",
            Self::Additive => "additive",
            Self::AdditiveSimilar => "additive_similar",
            Self::Linear => "linear",
        }
    }
}

/// The mean profiles of all training data, the only input of baselines.
pub struct TrainingProfiles {
    profiles: Vec<TrainingProfile>,
    /// The control profile of each context that has one.
    controls: BTreeMap<usize, Arc<[f64]>>,
    /// The perturbed profiles of each combination.
    combinations: HashMap<Vec<PerturbationId>, Vec<usize>>,
    /// The ridge on indicators of each context, computed on first use.
    ridges: BTreeMap<usize, OnceLock<Option<DoseRidge>>>,
}

impl TrainingProfiles {
    /// Takes one profile for each condition and context, all over the same genes; profiles without cells are
    /// ignored.
    #[must_use]
    pub fn new(mut profiles: Vec<TrainingProfile>) -> Self {
        profiles.retain(|profile| profile.cells > 0);
        let mut controls: BTreeMap<usize, Arc<[f64]>> = BTreeMap::new();
        for profile in profiles.iter().filter(|profile| profile.parts.is_empty()) {
            controls.entry(profile.context).or_insert_with(|| profile.mean.as_slice().into());
        }
        let mut combinations: HashMap<_, Vec<usize>> = HashMap::new();
        let mut ridges = BTreeMap::new();
        for (index, profile) in profiles.iter_mut().enumerate() {
            profile.parts.sort_by_key(|(perturbation, _)| *perturbation);
            ridges.entry(profile.context).or_default();
            if !profile.parts.is_empty() {
                profile.control = profile.control.take().or_else(|| controls.get(&profile.context).cloned());
                combinations.entry(perturbations(&profile.parts)).or_default().push(index);
            }
        }
        Self { profiles, controls, combinations, ridges }
    }

    /// The target's profile as predicted by a baseline; `None` if the baseline is undefined.
    #[must_use]
    pub fn predict(&self, baseline: Baseline, target: BaselineTarget<'_>) -> Option<Vec<f64>> {
        let mut parts = target.parts.to_vec();
        parts.sort_by_key(|(perturbation, _)| *perturbation);
        let target = BaselineTarget { parts: &parts, ..target };
        if parts.is_empty() || baseline == Baseline::Control {
            return Some(target.start.to_vec());
        }
        let shift = match baseline {
            Baseline::AdditiveSimilar => self.additive(target, |control| {
                let similarity = metrics::pearson(control, target.start).unwrap_or(0.0);
                // A correlation is at most 1, so the exponent is at most 0 and can't overflow.
                (SIMILARITY_SHARPNESS * (similarity - 1.0)).exp()
            }),
            Baseline::Linear => self.linear(target),
            Baseline::PerturbedMean => self.mean_shift(target.context),
            _ => self.additive(target, |_| 1.0),
        }?;
        Some(target.start.iter().zip(shift).map(|(start, shift)| start + shift).collect())
    }

    fn mean_shift(&self, context: usize) -> Option<Vec<f64>> {
        let mean = |is_used: &dyn Fn(&TrainingProfile) -> bool| {
            let perturbed = self.profiles.iter().filter(|profile| !profile.parts.is_empty() && is_used(profile));
            let shifts: Vec<Vec<f64>> = perturbed.filter_map(TrainingProfile::shift).collect();
            weighted_mean(shifts.iter().map(|shift| (1.0, &**shift)))
        };
        mean(&|profile| profile.context == context).or_else(|| mean(&|_| true))
    }

    /// The sum of the single shifts; those of other contexts are weighted by their control profile.
    fn additive(&self, target: BaselineTarget<'_>, weight: impl Fn(&[f64]) -> f64) -> Option<Vec<f64>> {
        let mut sum = vec![0.0; target.start.len()];
        for part in target.parts {
            let mut shifts = self.shifts(std::slice::from_ref(part));
            let shift = match shifts.remove(&target.context) {
                Some(own) => own,
                None => weighted_mean(
                    shifts
                        .iter()
                        .filter_map(|(context, shift)| Some((weight(self.control(*context)?), shift.as_slice()))),
                )?,
            };
            sum.iter_mut().zip(shift).for_each(|(sum, shift)| *sum += shift);
        }
        Some(sum)
    }

    fn linear(&self, target: BaselineTarget<'_>) -> Option<Vec<f64>> {
        let shifts = self.shifts(target.parts);
        if !shifts.is_empty() {
            let trained: Vec<(&[f64], &[f64])> =
                shifts.iter().filter_map(|(context, shift)| Some((self.control(*context)?, &**shift))).collect();
            return control_ridge(&trained, target.start);
        }
        let perturbed = || {
            let here = self.profiles.iter().filter(|profile| profile.context == target.context);
            here.filter(|profile| !profile.parts.is_empty() && profile.control.is_some())
        };
        let ridge = self
            .ridges
            .get(&target.context)?
            .get_or_init(|| DoseRidge::new(perturbed().map(|trained| &*trained.parts)));
        let weights = ridge.as_ref()?.weights(target.parts)?;
        let mut sum = vec![0.0; target.start.len()];
        for (profile, weight) in perturbed().zip(weights) {
            let shift = profile.shift().unwrap_or_default();
            sum.iter_mut().zip(shift).for_each(|(sum, shift)| *sum += weight * shift);
        }
        Some(sum)
    }

    /// The shift at these doses in each context that saw this combination and has controls: interpolated between the
    /// doses of a single perturbation, otherwise that at the nearest doses.
    fn shifts(&self, parts: &[PerturbationDose]) -> BTreeMap<usize, Vec<f64>> {
        let mut seen: BTreeMap<usize, Vec<&TrainingProfile>> = BTreeMap::new();
        for index in self.combinations.get(&perturbations(parts)).into_iter().flatten() {
            let profile = &self.profiles[*index];
            seen.entry(profile.context).or_default().push(profile);
        }
        let shift = |(context, profiles): (usize, Vec<&TrainingProfile>)| match parts {
            [(_, dose)] => Some((context, shift_at(&profiles, *dose)?)),
            _ => {
                let nearest = profiles.into_iter().min_by(|a, b| {
                    dose_distance(&a.parts, parts)
                        .partial_cmp(&dose_distance(&b.parts, parts))
                        .unwrap_or(Ordering::Equal)
                })?;
                Some((context, nearest.shift()?))
            }
        };
        seen.into_iter().filter_map(shift).collect()
    }

    fn control(&self, context: usize) -> Option<&[f64]> {
        self.controls.get(&context).map(|control| &**control)
    }
}

fn perturbations(parts: &[PerturbationDose]) -> Vec<PerturbationId> {
    parts.iter().map(|(perturbation, _)| *perturbation).collect()
}

/// The shift of one perturbation at a dose: interpolated between the two nearest doses on a logarithmic scale (on the
/// plain scale, if one is 0), falling to no change below the smallest dose, and constant above the largest.
fn shift_at(profiles: &[&TrainingProfile], dose: f64) -> Option<Vec<f64>> {
    let dose_of = |profile: &TrainingProfile| profile.parts[0].1;
    let below =
        profiles.iter().filter(|profile| dose_of(profile) <= dose).max_by(|a, b| dose_of(a).total_cmp(&dose_of(b)));
    let above =
        profiles.iter().filter(|profile| dose_of(profile) >= dose).min_by(|a, b| dose_of(a).total_cmp(&dose_of(b)));
    let mixed = |from: Vec<f64>, to: Vec<f64>, share: f64| {
        Some(from.iter().zip(&to).map(|(from, to)| from + share * (to - from)).collect())
    };
    match (below, above) {
        (Some(below), Some(above)) => {
            let (low, high) = (dose_of(below), dose_of(above));
            let share = match (low, high) {
                _ if low == high => return below.shift(),
                (low, _) if low > 0.0 => (dose / low).ln() / (high / low).ln(),
                _ => (dose - low) / (high - low),
            };
            mixed(below.shift()?, above.shift()?, share)
        }
        (None, Some(above)) => {
            let shift = above.shift()?;
            mixed(vec![0.0; shift.len()], shift, dose / dose_of(above))
        }
        (below, None) => below?.shift(),
    }
}

/// The distance in dose between two conditions of one combination: first by factors, then by differences, so
/// that a dose of 0, which has no factor, still has a nearest one.
fn dose_distance(a: &[PerturbationDose], b: &[PerturbationDose]) -> (f64, f64) {
    let doses = || a.iter().zip(b).map(|((_, a), (_, b))| (*a, *b)).filter(|(a, b)| a != b);
    (doses().map(|(a, b)| (a.ln() - b.ln()).abs()).sum(), doses().map(|(a, b)| (a - b).abs()).sum())
}

/// The weighted mean of some profiles; `None` without profiles.
fn weighted_mean<'a>(profiles: impl Iterator<Item = (f64, &'a [f64])>) -> Option<Vec<f64>> {
    let mut total = 0.0;
    let mut sum: Vec<f64> = Vec::new();
    for (weight, profile) in profiles {
        sum.resize(profile.len(), 0.0);
        sum.iter_mut().zip(profile).for_each(|(sum, value)| *sum += weight * value);
        total += weight;
    }
    (total > 0.0).then(|| sum.into_iter().map(|sum| sum / total).collect())
}

#[cfg(test)]
mod tests;
