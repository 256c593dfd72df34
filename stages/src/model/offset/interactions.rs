//! What pairs of perturbations do beyond the sum of their parts, told from other pairs that were trained on.
//!
//! A pair's shift is at first γ times the sum of its parts', γ by least squares over trained pairs. What is left of these is spread by
//! kernel ridge regression over pairs: two pairs are alike as far as their parts shift alike.

use std::collections::BTreeMap;

use super::{
    layout::Layout,
    rule::{Weights, add},
};
use crate::solve::Cholesky;

/// Pairs that are learned from at most, evenly spread.
const MOST_PAIRS: usize = 512;
/// Fewer pairs tell nothing of others.
const FEWEST_PAIRS: usize = 4;
/// How much pairs are alike that share or resemble one part only, beside those that do in both.
const ONE_PART: f64 = 0.3;
/// Penalties that are tried, in units of a pair's likeness to itself.
const PENALTIES: [f64; 8] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
/// What is left must be told this much better than by nothing, each pair left out in turn.
const WORTH_IT: f64 = 0.98;

/// Squares beneath this share of the whole are rounding's.
const ROUNDING: f64 = 1e-9;

/// Trained pairs, and how others are told from them.
#[derive(Debug)]
pub(super) struct Interactions {
    /// Codes of each pair and what it has beyond its parts, in terms of trained shifts.
    pairs: Vec<([u32; 2], Weights)>,
    /// The direction of each single perturbation's shift.
    directions: BTreeMap<u32, Vec<f32>>,
    /// What the sum of parts is multiplied by.
    pub(super) share: f64,
    /// The penalty; 0: nothing but the sum tells a pair.
    pub(super) penalty: f64,
    /// The share of a pair's square that is beyond the sum of its parts.
    pub(super) size: f64,
    factor: Option<Cholesky>,
}

/// A pair that was trained, in one context.
pub(super) struct Pair {
    pub(super) codes: [u32; 2],
    /// Its own shift.
    pub(super) whole: Weights,
    /// The sum of those of its parts.
    pub(super) parts: Weights,
}

/// The rows of pairs that are learned from.
pub(super) fn rows_of_pairs(layout: &Layout) -> Vec<usize> {
    let alone = |code: u32| layout.by_combination.contains_key(&vec![code]);
    let is_pair = |row: &usize| {
        let parts = &layout.rows[*row].parts;
        parts.len() == 2 && parts.iter().all(|(code, _)| alone(*code)) && layout.has_controls(layout.rows[*row].context)
    };
    let all: Vec<usize> = (0..layout.rows.len()).filter(is_pair).collect();
    let step = all.len().div_ceil(MOST_PAIRS).max(1);
    all.into_iter().step_by(step).collect()
}

impl Interactions {
    /// Interactions by numbers that were chosen before; none: they are chosen now.
    pub(super) fn new(
        layout: &Layout,
        pairs: Vec<Pair>,
        chosen: Option<(f64, f64)>,
        row: &dyn Fn(usize) -> Vec<f32>,
    ) -> Option<Self> {
        if pairs.len() < FEWEST_PAIRS {
            return None;
        }
        let summed = |weights: &Weights| {
            let mut sum: Vec<f64> = Vec::new();
            for (at, weight) in weights {
                let row = row(*at);
                sum.resize(row.len(), 0.0);
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * f64::from(value));
            }
            sum
        };
        let wholes: f64 = pairs.iter().map(|pair| summed(&pair.whole)).map(|whole| product(&whole, &whole)).sum();
        let share = chosen.map_or_else(
            || {
                let (mut along, mut squares) = (0.0, 0.0);
                for pair in &pairs {
                    let (whole, parts) = (summed(&pair.whole), summed(&pair.parts));
                    along += product(&whole, &parts);
                    squares += product(&parts, &parts);
                }
                if 0.0 < squares { along / squares } else { 1.0 }
            },
            |(share, _)| share,
        );
        let beyond = pairs.into_iter().map(|Pair { codes, mut whole, parts }| {
            add(&mut whole, &parts, -share);
            (codes, whole)
        });
        let directions = directions(layout, row);
        let mut all = Self { pairs: beyond.collect(), directions, share, penalty: 0.0, size: 0.0, factor: None };
        let beyond: Vec<Vec<f64>> = all.pairs.iter().map(|(_, beyond)| summed(beyond)).collect();
        let squares = beyond.iter().map(|beyond| product(beyond, beyond)).sum::<f64>();
        all.size = (squares / wholes.max(f64::MIN_POSITIVE)).min(1.0);
        // What is left may be no more than rounding.
        let any = ROUNDING < all.size;
        all.penalty = chosen.map_or_else(|| if any { all.best_penalty(&beyond) } else { 0.0 }, |(_, penalty)| penalty);
        if 0.0 < all.penalty {
            all.factor = all.factor_with(&all.likenesses(), all.penalty);
        }
        Some(all)
    }

    /// What a pair that was never trained has, given the sum of its parts.
    pub(super) fn told(&self, codes: [u32; 2], parts: &Weights) -> Weights {
        let mut told = Weights::new();
        add(&mut told, parts, self.share);
        if let Some(factor) = &self.factor {
            let likeness: Vec<f64> = self.pairs.iter().map(|(known, _)| self.likeness(codes, *known)).collect();
            for ((_, beyond), weight) in self.pairs.iter().zip(factor.solve(&likeness)) {
                add(&mut told, beyond, weight);
            }
        }
        told
    }

    fn likeness(&self, [a, b]: [u32; 2], [c, d]: [u32; 2]) -> f64 {
        let alike = |a: u32, b: u32| match (self.directions.get(&a), self.directions.get(&b)) {
            _ if a == b => 1.0,
            (Some(a), Some(b)) => a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum(),
            _ => 0.0,
        };
        let [ac, ad, bc, bd] = [alike(a, c), alike(a, d), alike(b, c), alike(b, d)];
        f64::midpoint(ac * bd, ad * bc) + ONE_PART * (ac + ad + bc + bd) / 4.0
    }

    fn likenesses(&self) -> Vec<Vec<f64>> {
        let all = |(a, _): &([u32; 2], Weights)| self.pairs.iter().map(|(b, _)| self.likeness(*a, *b)).collect();
        self.pairs.iter().map(all).collect()
    }

    fn factor_with(&self, likenesses: &[Vec<f64>], penalty: f64) -> Option<Cholesky> {
        let entry = |row: usize, column: usize| likenesses[row][column] + if row == column { penalty } else { 0.0 };
        Cholesky::new(self.pairs.len(), entry)
    }

    /// The penalty with which each pair, left out in turn, is told best; 0 where none does better than nothing.
    ///
    /// What a left-out pair is missed by is [(K + λ)⁻¹ I]ᵢ / [(K + λ)⁻¹]ᵢᵢ.
    fn best_penalty(&self, beyond: &[Vec<f64>]) -> f64 {
        let count = beyond.len();
        let products: Vec<Vec<f64>> = beyond.iter().map(|a| beyond.iter().map(|b| product(a, b)).collect()).collect();
        let nothing: f64 = (0..count).map(|at| products[at][at]).sum();
        let likenesses = self.likenesses();
        let error = |penalty: f64| {
            let factor = self.factor_with(&likenesses, penalty)?;
            let unit = |at: usize| (0..count).map(|other| if other == at { 1.0 } else { 0.0 }).collect::<Vec<f64>>();
            let squares = (0..count).map(|at| {
                let row = factor.solve(&unit(at));
                let pairs = row.iter().zip(&products).map(|(x, products)| x * product(products, &row));
                pairs.sum::<f64>() / (row[at] * row[at])
            });
            Some(squares.sum::<f64>())
        };
        let errors = PENALTIES.iter().filter_map(|penalty| Some((*penalty, error(*penalty)?)));
        let best = errors.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, error)| *error < WORTH_IT * nothing);
        best.map_or(0.0, |(penalty, _)| penalty)
    }
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

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
