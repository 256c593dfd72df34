//! Shifts of combinations that were not trained in any context, and of parts that were never seen alone,
//! predicted from all trained conditions.
//!
//! A Gaussian process over conditions (kernel ridge regression): two conditions are similar if they share
//! perturbations, and two pairs also if their parts have similar shifts, so that the interaction of a pair is
//! predicted from similar pairs. Its mean is a weighted sum of trained shifts.

use std::collections::BTreeMap;

use schemas::numbers::to_i64;
use tch::{Kind, Tensor};

use super::layout::OffsetLayout;

/// Maximum number of conditions to learn from: with more, a combination is the sum of its parts.
const MOST_CONDITIONS: usize = 1500;
/// Similarity of pairs that share or resemble only one part, relative to pairs with two such parts.
const ONE_PART: f64 = 0.3;
/// With fewer combinations, the parameters can't be chosen.
const FEWEST_JUDGED: usize = 5;
/// Candidate penalties.
const PENALTIES: [f64; 5] = [0.01, 0.03, 0.1, 0.3, 1.0];
/// Candidate weights of the similarity of pairs, relative to that of shared perturbations.
const PAIRS: [f64; 6] = [0.0, 0.03, 0.1, 0.3, 1.0, 3.0];
/// Candidate variances of a combination's individual part.
const OWN: [f64; 4] = [0.0, 0.3, 1.0, 3.0];

/// A perturbation, by its code, and the share of its largest effect at its dose.
pub(super) type PerturbationShare = (u32, f64);

/// The kernel's parameters, in units of a single perturbation's similarity to itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct KernelParameters {
    /// The noise of every shift: the ridge's penalty.
    pub(super) penalty: f64,
    /// The weight of the similarity of pairs.
    pub(super) pairs: f64,
    /// The variance of each combination's individual part, which no other condition predicts.
    pub(super) own: f64,
}

impl KernelParameters {
    /// The parameters if there are too few data to choose them.
    pub(super) const USUAL: Self = Self { penalty: 0.1, pairs: 0.0, own: 1.0 };
}

/// Trained conditions, and the prediction of others from them.
#[derive(Debug)]
pub(super) struct GaussianProcess {
    conditions: Vec<Vec<PerturbationShare>>,
    /// The direction of each single perturbation's shift.
    directions: BTreeMap<u32, Vec<f32>>,
    pub(super) chosen: KernelParameters,
    /// (K + D)⁻¹, `conditions × conditions`; D has the penalty on its diagonal, plus the individual variance for combinations.
    inverse: Vec<f64>,
}

impl GaussianProcess {
    /// A process with these parameters and conditions; `None` if there are too many conditions.
    pub(super) fn new(
        layout: &OffsetLayout,
        conditions: Vec<Vec<PerturbationShare>>,
        chosen: KernelParameters,
        row: &dyn Fn(usize) -> Vec<f32>,
    ) -> Option<Self> {
        if conditions.is_empty() || conditions.len() > MOST_CONDITIONS {
            return None;
        }
        let directions = directions(layout, row);
        let mut all = Self { conditions, directions, chosen, inverse: Vec::new() };
        all.inverse = numbers(&all.likenesses().inverse(chosen));
        Some(all)
    }

    /// The same process with the parameters that have the smallest leave-one-out error over trained combinations;
    /// `shifts` are the shifts of the conditions, `[conditions, genes]`, in some contexts.
    ///
    /// The error of a left-out condition is [(K + D)⁻¹ Y]ᵢ / [(K + D)⁻¹]ᵢᵢ.
    pub(super) fn fitted(self, shifts: &[Tensor]) -> Self {
        let judged: Vec<i64> = (0_i64..)
            .zip(&self.conditions)
            .filter(|(_, parts)| self.has_individual_effect(parts))
            .map(|(at, _)| at)
            .collect();
        if judged.len() < FEWEST_JUDGED {
            return self;
        }
        let judged = Tensor::from_slice(&judged);
        let likenesses = self.likenesses();
        let error = |chosen: KernelParameters| {
            let inverse = likenesses.inverse(chosen);
            let own = inverse.diag(0).index_select(0, &judged).unsqueeze(-1);
            let rows = inverse.index_select(0, &judged);
            shifts
                .iter()
                .map(|shifts| (rows.matmul(shifts) / &own).square().sum(Kind::Double).double_value(&[]))
                .sum::<f64>()
        };
        let tried = PENALTIES
            .into_iter()
            .flat_map(|penalty| PAIRS.map(|pairs| OWN.map(|own| KernelParameters { penalty, pairs, own })).concat());
        let best = tried.map(|chosen| (chosen, error(chosen))).filter(|(_, error)| error.is_finite());
        let Some((chosen, _)) = best.min_by(|a, b| a.1.total_cmp(&b.1)) else { return self };
        let inverse = numbers(&likenesses.inverse(chosen));
        Self { chosen, inverse, ..self }
    }

    /// The weight of each trained condition, and the uncertain share of the square; `None` if a part occurs in no
    /// trained condition.
    pub(super) fn weights_and_uncertainty(&self, parts: &[PerturbationShare]) -> Option<(Vec<f64>, f64)> {
        let count = self.conditions.len();
        let likeness: Vec<f64> = self.conditions.iter().map(|known| self.likeness(parts, known)).collect();
        let known = |part: &PerturbationShare| {
            self.conditions.iter().any(|other| other.iter().any(|(code, _)| *code == part.0))
        };
        if !parts.iter().all(known) {
            return None;
        }
        let row =
            |at: usize| -> f64 { self.inverse[at * count..][..count].iter().zip(&likeness).map(|(a, b)| a * b).sum() };
        let weights: Vec<f64> = (0..count).map(row).collect();
        let explained: f64 = weights.iter().zip(&likeness).map(|(a, b)| a * b).sum();
        let own = self.likeness(parts, parts) + if parts.len() > 1 { self.chosen.own } else { 0.0 };
        Some((weights, (1.0 - explained / own).clamp(0.0, 1.0)))
    }

    /// Whether this is a combination of which every part also occurs in another condition. Leaving out any other
    /// condition would only favour shrinkage.
    fn has_individual_effect(&self, parts: &[PerturbationShare]) -> bool {
        let holds = |held: &&Vec<PerturbationShare>, code: u32| held.iter().any(|(other, _)| *other == code);
        let elsewhere = |code: u32| self.conditions.iter().filter(|held| holds(held, code)).count() > 1;
        parts.len() > 1 && parts.iter().all(|(code, _)| elsewhere(*code))
    }

    fn likeness(&self, a: &[PerturbationShare], b: &[PerturbationShare]) -> f64 {
        let pairs = self.chosen.pairs;
        shared(a, b) + if pairs > 0.0 { pairs * self.alike(a, b) } else { 0.0 }
    }

    /// The similarity of two pairs by the directions of their parts; 0 for all other conditions.
    fn alike(&self, a: &[PerturbationShare], b: &[PerturbationShare]) -> f64 {
        let ([(a, x), (b, y)], [(c, z), (d, w)]) = (a, b) else { return 0.0 };
        let alike = |a: &u32, b: &u32| match (self.directions.get(a), self.directions.get(b)) {
            _ if a == b => 1.0,
            (Some(a), Some(b)) => a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum(),
            _ => 0.0,
        };
        let [ac, ad, bc, bd] = [alike(a, c), alike(a, d), alike(b, c), alike(b, d)];
        (f64::midpoint(ac * bd, ad * bc) + ONE_PART * (ac + ad + bc + bd) / 4.0) * x * y * z * w
    }

    fn likenesses(&self) -> ConditionSimilarities {
        let count = to_i64(self.conditions.len());
        let all = |covariance: &dyn Fn(&[PerturbationShare], &[PerturbationShare]) -> f64| {
            let pairs = self.conditions.iter().flat_map(|a| self.conditions.iter().map(move |b| covariance(a, b)));
            Tensor::from_slice(&pairs.collect::<Vec<f64>>()).view([count, count])
        };
        let combinations = self.conditions.iter().map(|parts| f64::from(u8::from(parts.len() > 1)));
        ConditionSimilarities {
            shared: all(&shared),
            pairs: all(&|a, b| self.alike(a, b)),
            combinations: Tensor::from_slice(&combinations.collect::<Vec<_>>()),
        }
    }
}

/// Similarities of all trained conditions, `[conditions, conditions]`.
struct ConditionSimilarities {
    /// By shared perturbations.
    shared: Tensor,
    /// Of pairs.
    pairs: Tensor,
    /// 1 for combinations, 0 for single perturbations, `[conditions]`.
    combinations: Tensor,
}

impl ConditionSimilarities {
    /// (K + D)⁻¹.
    fn inverse(&self, chosen: KernelParameters) -> Tensor {
        let own = &self.combinations * chosen.own + chosen.penalty;
        (&self.shared + &self.pairs * chosen.pairs + own.diag(0)).inverse()
    }
}

/// The similarity of two conditions by shared perturbations.
fn shared(a: &[PerturbationShare], b: &[PerturbationShare]) -> f64 {
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b))).filter(|(a, b)| a.0 == b.0);
    pairs.map(|((_, x), (_, y))| x * y).sum()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.contiguous().view([-1])).unwrap_or_default()
}

/// The mean direction of each single perturbation's shifts over contexts, at its largest dose in each.
fn directions(layout: &OffsetLayout, row: &dyn Fn(usize) -> Vec<f32>) -> BTreeMap<u32, Vec<f32>> {
    let mut directions = BTreeMap::new();
    for (codes, rows) in &layout.by_combination {
        let [code] = codes[..] else { continue };
        let mut largest: BTreeMap<usize, usize> = BTreeMap::new();
        for at in rows {
            let kept = largest.entry(layout.rows[*at].context).or_insert(*at);
            if layout.rows[*kept].parts[0].1 < layout.rows[*at].parts[0].1 {
                *kept = *at;
            }
        }
        let mut sum: Vec<f32> = Vec::new();
        for at in largest.values() {
            let row = row(*at);
            sum.resize(row.len(), 0.0);
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        sum.iter_mut().for_each(|value| *value /= length);
        directions.insert(code, sum);
    }
    directions
}
