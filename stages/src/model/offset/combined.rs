//! What combinations do that were trained nowhere, and parts of them that were never seen alone: told from all that was trained.
//!
//! A Gaussian process over conditions (kernel ridge regression): two conditions are alike as far as they share perturbations, and two pairs also
//! as far as their parts shift alike, so that what pairs do beyond the sum of their parts is told from pairs that resemble them. Its
//! mean is a weighted sum of trained shifts.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::layout::Layout;

/// Conditions that are learned from at most: with more, a combination is the sum of its parts.
const MOST_CONDITIONS: usize = 1500;
/// How much pairs are alike that share or resemble one part only, beside those that do in both.
const ONE_PART: f64 = 0.3;
/// Penalties that are tried, in units of a single perturbation's likeness to itself.
const PENALTIES: [f64; 6] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0];
/// Weights of the likeness of pairs that are tried, beside that of shared perturbations.
const PAIRS: [f64; 6] = [0.0, 0.03, 0.1, 0.3, 1.0, 3.0];
/// The two where nothing tells.
pub(super) const USUAL: (f64, f64) = (0.1, 0.0);

/// A perturbation, by its code, and the share of its largest effect that its dose has.
pub(super) type Part = (u32, f64);

/// Trained conditions, and how others are told from them.
#[derive(Debug)]
pub(super) struct Combined {
    conditions: Vec<Vec<Part>>,
    /// The direction of each single perturbation's shift.
    directions: BTreeMap<u32, Vec<f32>>,
    /// The penalty.
    pub(super) penalty: f64,
    /// The weight of the likeness of pairs.
    pub(super) pairs: f64,
    /// (K + λ I)⁻¹, `conditions × conditions`.
    inverse: Vec<f64>,
}

impl Combined {
    /// What is told by these numbers from these conditions; none where they are too many.
    pub(super) fn new(
        layout: &Layout,
        conditions: Vec<Vec<Part>>,
        (penalty, pairs): (f64, f64),
        row: &dyn Fn(usize) -> Vec<f32>,
    ) -> Option<Self> {
        if conditions.is_empty() || MOST_CONDITIONS < conditions.len() {
            return None;
        }
        let directions = directions(layout, row);
        let mut all = Self { conditions, directions, penalty, pairs, inverse: Vec::new() };
        let [shared, alike] = all.likenesses();
        all.inverse = numbers(&inverse(&shared, &alike, (penalty, pairs)));
        Some(all)
    }

    /// The same with the numbers that miss trained combinations least, each left out in turn; `shifts` are those of the conditions,
    /// `[conditions, genes]`, in some contexts.
    ///
    /// What a left-out condition is missed by is [(K + λ)⁻¹ Y]ᵢ / [(K + λ)⁻¹]ᵢᵢ.
    pub(super) fn chosen(self, shifts: &[Tensor]) -> Self {
        let judged: Vec<i64> =
            (0_i64..).zip(&self.conditions).filter(|(_, parts)| 1 < parts.len()).map(|(at, _)| at).collect();
        let judged = Tensor::from_slice(&judged);
        let [shared, alike] = self.likenesses();
        let error = |chosen: (f64, f64)| {
            let inverse = inverse(&shared, &alike, chosen);
            let own = inverse.diag(0).index_select(0, &judged).unsqueeze(-1);
            let rows = inverse.index_select(0, &judged);
            shifts
                .iter()
                .map(|shifts| (rows.matmul(shifts) / &own).square().sum(Kind::Double).double_value(&[]))
                .sum::<f64>()
        };
        let tried = PENALTIES.iter().flat_map(|penalty| PAIRS.iter().map(move |pairs| (*penalty, *pairs)));
        let best = tried.map(|chosen| (chosen, error(chosen))).filter(|(_, error)| error.is_finite());
        let Some((chosen, _)) = best.min_by(|a, b| a.1.total_cmp(&b.1)) else { return self };
        let inverse = numbers(&inverse(&shared, &alike, chosen));
        Self { penalty: chosen.0, pairs: chosen.1, inverse, ..self }
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
        let own = self.likeness(parts, parts);
        Some((weights, (1.0 - explained / own).clamp(0.0, 1.0)))
    }

    fn likeness(&self, a: &[Part], b: &[Part]) -> f64 {
        shared(a, b) + if 0.0 < self.pairs { self.pairs * self.alike(a, b) } else { 0.0 }
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

    /// Likenesses of all trained conditions: by shared perturbations, and of pairs.
    fn likenesses(&self) -> [Tensor; 2] {
        let count = i64::try_from(self.conditions.len()).unwrap_or(i64::MAX);
        let all = |of: &dyn Fn(&[Part], &[Part]) -> f64| {
            let pairs = self.conditions.iter().flat_map(|a| self.conditions.iter().map(move |b| of(a, b)));
            Tensor::from_slice(&pairs.collect::<Vec<f64>>()).view([count, count])
        };
        [all(&shared), all(&|a, b| self.alike(a, b))]
    }
}

/// How much two conditions are alike by the perturbations that they share.
fn shared(a: &[Part], b: &[Part]) -> f64 {
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b))).filter(|(a, b)| a.0 == b.0);
    pairs.map(|((_, x), (_, y))| x * y).sum()
}

fn inverse(shared: &Tensor, alike: &Tensor, (penalty, pairs): (f64, f64)) -> Tensor {
    let kernel = shared + alike * pairs;
    let unit = Tensor::eye(kernel.size()[0], (Kind::Double, kernel.device()));
    (kernel + unit * penalty).inverse()
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
