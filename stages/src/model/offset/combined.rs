//! What combinations do that were trained nowhere, and parts of them that were never seen alone: told from all that was trained.
//!
//! A Gaussian process over conditions (kernel ridge regression): two conditions are alike as far as they share perturbations, and two pairs also
//! as far as their parts shift alike, so that what pairs do beyond the sum of their parts is told from pairs that resemble them. Its
//! mean is a weighted sum of trained shifts.

use std::collections::BTreeMap;

use schemas::numbers::to_i64;
use tch::{Kind, Tensor};

use super::layout::Layout;

/// Conditions that are learned from at most: with more, a combination is the sum of its parts.
const MOST_CONDITIONS: usize = 1500;
/// How much pairs are alike that share or resemble one part only, beside those that do in both.
const ONE_PART: f64 = 0.3;
/// Fewer combinations don't say what tells them best.
const FEWEST_JUDGED: usize = 5;
/// Penalties that are tried.
const PENALTIES: [f64; 5] = [0.01, 0.03, 0.1, 0.3, 1.0];
/// Weights of the likeness of pairs that are tried, beside that of shared perturbations.
const PAIRS: [f64; 6] = [0.0, 0.03, 0.1, 0.3, 1.0, 3.0];
/// What combinations have of their own that is tried.
const OWN: [f64; 4] = [0.0, 0.3, 1.0, 3.0];

/// A perturbation, by its code, and the share of its largest effect that its dose has.
pub(super) type Part = (u32, f64);

/// What tells conditions from each other, in units of a single perturbation's likeness to itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Chosen {
    /// The noise of every shift: the ridge's penalty.
    pub(super) penalty: f64,
    /// The weight of the likeness of pairs.
    pub(super) pairs: f64,
    /// What each combination has that no other condition tells of.
    pub(super) own: f64,
}

impl Chosen {
    /// Where nothing tells.
    pub(super) const USUAL: Self = Self { penalty: 0.1, pairs: 0.0, own: 1.0 };
}

/// Trained conditions, and how others are told from them.
#[derive(Debug)]
pub(super) struct Combined {
    conditions: Vec<Vec<Part>>,
    /// The direction of each single perturbation's shift.
    directions: BTreeMap<u32, Vec<f32>>,
    pub(super) chosen: Chosen,
    /// (K + D)⁻¹, `conditions × conditions`; D has the penalty on its diagonal, and of combinations what they have of their own.
    inverse: Vec<f64>,
}

impl Combined {
    /// What is told by these numbers from these conditions; none where they are too many.
    pub(super) fn new(
        layout: &Layout,
        conditions: Vec<Vec<Part>>,
        chosen: Chosen,
        row: &dyn Fn(usize) -> Vec<f32>,
    ) -> Option<Self> {
        if conditions.is_empty() || MOST_CONDITIONS < conditions.len() {
            return None;
        }
        let directions = directions(layout, row);
        let mut all = Self { conditions, directions, chosen, inverse: Vec::new() };
        all.inverse = numbers(&all.likenesses().inverse(chosen));
        Some(all)
    }

    /// The same with the numbers that miss trained combinations least, each left out in turn; `shifts` are those of the conditions,
    /// `[conditions, genes]`, in some contexts.
    ///
    /// What a left-out condition is missed by is [(K + D)⁻¹ Y]ᵢ / [(K + D)⁻¹]ᵢᵢ.
    pub(super) fn fitted(self, shifts: &[Tensor]) -> Self {
        let judged: Vec<i64> =
            (0_i64..).zip(&self.conditions).filter(|(_, parts)| self.is_told(parts)).map(|(at, _)| at).collect();
        if judged.len() < FEWEST_JUDGED {
            return self;
        }
        let judged = Tensor::from_slice(&judged);
        let likenesses = self.likenesses();
        let error = |chosen: Chosen| {
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
            .flat_map(|penalty| PAIRS.map(|pairs| OWN.map(|own| Chosen { penalty, pairs, own })).concat());
        let best = tried.map(|chosen| (chosen, error(chosen))).filter(|(_, error)| error.is_finite());
        let Some((chosen, _)) = best.min_by(|a, b| a.1.total_cmp(&b.1)) else { return self };
        let inverse = numbers(&likenesses.inverse(chosen));
        Self { chosen, inverse, ..self }
    }

    /// What each trained condition counts for, and the share of the square that stays open; none if nothing trained is like it.
    pub(super) fn told(&self, parts: &[Part]) -> Option<(Vec<f64>, f64)> {
        let count = self.conditions.len();
        let likeness: Vec<f64> = self.conditions.iter().map(|known| self.likeness(parts, known)).collect();
        let known = |part: &Part| self.conditions.iter().any(|other| other.iter().any(|(code, _)| *code == part.0));
        if !parts.iter().all(known) {
            return None;
        }
        let row =
            |at: usize| -> f64 { self.inverse[at * count..][..count].iter().zip(&likeness).map(|(a, b)| a * b).sum() };
        let weights: Vec<f64> = (0..count).map(row).collect();
        let explained: f64 = weights.iter().zip(&likeness).map(|(a, b)| a * b).sum();
        let own = self.likeness(parts, parts) + if 1 < parts.len() { self.chosen.own } else { 0.0 };
        Some((weights, (1.0 - explained / own).clamp(0.0, 1.0)))
    }

    /// Whether it is a combination each part of which another condition holds as well. What is left of any other, once it is left out,
    /// asks for nothing but to be shrunk.
    fn is_told(&self, parts: &[Part]) -> bool {
        let holds = |held: &&Vec<Part>, code: u32| held.iter().any(|(of, _)| *of == code);
        let elsewhere = |code: u32| 1 < self.conditions.iter().filter(|held| holds(held, code)).count();
        1 < parts.len() && parts.iter().all(|(code, _)| elsewhere(*code))
    }

    fn likeness(&self, a: &[Part], b: &[Part]) -> f64 {
        let pairs = self.chosen.pairs;
        shared(a, b) + if 0.0 < pairs { pairs * self.alike(a, b) } else { 0.0 }
    }

    /// How much two pairs are alike by the directions of their parts; 0 of all that are no pairs.
    fn alike(&self, a: &[Part], b: &[Part]) -> f64 {
        let ([(a, x), (b, y)], [(c, z), (d, w)]) = (a, b) else { return 0.0 };
        let alike = |a: &u32, b: &u32| match (self.directions.get(a), self.directions.get(b)) {
            _ if a == b => 1.0,
            (Some(a), Some(b)) => a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum(),
            _ => 0.0,
        };
        let [ac, ad, bc, bd] = [alike(a, c), alike(a, d), alike(b, c), alike(b, d)];
        (f64::midpoint(ac * bd, ad * bc) + ONE_PART * (ac + ad + bc + bd) / 4.0) * x * y * z * w
    }

    fn likenesses(&self) -> Likenesses {
        let count = to_i64(self.conditions.len());
        let all = |of: &dyn Fn(&[Part], &[Part]) -> f64| {
            let pairs = self.conditions.iter().flat_map(|a| self.conditions.iter().map(move |b| of(a, b)));
            Tensor::from_slice(&pairs.collect::<Vec<f64>>()).view([count, count])
        };
        let combinations = self.conditions.iter().map(|parts| f64::from(u8::from(1 < parts.len())));
        Likenesses {
            shared: all(&shared),
            pairs: all(&|a, b| self.alike(a, b)),
            combinations: Tensor::from_slice(&combinations.collect::<Vec<_>>()),
        }
    }
}

/// Likenesses of all trained conditions, `[conditions, conditions]`.
struct Likenesses {
    /// By shared perturbations.
    shared: Tensor,
    /// Of pairs.
    pairs: Tensor,
    /// 1 of combinations, 0 of single perturbations, `[conditions]`.
    combinations: Tensor,
}

impl Likenesses {
    /// (K + D)⁻¹.
    fn inverse(&self, chosen: Chosen) -> Tensor {
        let own = &self.combinations * chosen.own + chosen.penalty;
        (&self.shared + &self.pairs * chosen.pairs + own.diag(0)).inverse()
    }
}

/// How much two conditions are alike by the perturbations that they share.
fn shared(a: &[Part], b: &[Part]) -> f64 {
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b))).filter(|(a, b)| a.0 == b.0);
    pairs.map(|((_, x), (_, y))| x * y).sum()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.contiguous().view([-1])).unwrap_or_default()
}

/// The mean direction of each single perturbation's shifts over contexts, at its largest dose in each.
fn directions(layout: &Layout, row: &dyn Fn(usize) -> Vec<f32>) -> BTreeMap<u32, Vec<f32>> {
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
