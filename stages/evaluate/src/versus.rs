//! A model's lead over the baselines, with bootstrap intervals over cells within groups, and over conditions within
//! contexts.
//!
//! A lead is positive if the model is better: it is the model's score minus the baseline's, or for an error
//! the baseline's minus the model's. Conditions of a context have the same reference controls, and so does every draw of
//! them: their leads are not independent.

mod blocks;

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statistics::{
    bootstrap::{Interval, interval, interval_of_mean},
    differential::direction,
    metrics,
};

pub use self::blocks::{DrawnBlocks, by_blocks};
use super::{
    baselines::Baseline,
    comparison::{Comparison, Predicted, TOPS},
    condition_scores::{BEST, ConditionScores, Versus},
    scores::PredictionScores,
};

/// Number of times that cells are resampled.
pub const CELL_DRAWS: usize = 200;

/// Number of times that conditions are resampled for each draw of cells.
const CONDITIONS_PER_DRAW: usize = 5;

/// A bootstrap of 16 blocks finds 15/16 of a variance, and an estimate from 15 degrees of freedom has the quantiles of
/// Student's t, 2.131 instead of 1.960: together a factor of 1.123.
const WIDER: f64 = 1.123;

/// Seed of the draws of conditions; the same for every run.
const SEED: u64 = 0x5eed_c01d;

/// The model and the baselines.
const PREDICTIONS: usize = 1 + Baseline::ALL.len();

/// The scores whose leads are drawn for each condition, of which the first are drawn over all conditions too.
const DRAWN: [&str; 10] = [
    "pearson_delta",
    "mse_delta",
    "r2_mean",
    "r2_mean_top10",
    "r2_mean_top20",
    "r2_mean_top50",
    "r2_mean_top10_train",
    "r2_mean_top20_train",
    "r2_mean_top50_train",
    "de_direction_train",
];
const DRAWN_OVERALL: usize = 3;

/// The scores of each prediction in one draw of cells.
#[derive(Clone, Copy, Debug)]
pub struct DrawnScores([[Option<f64>; DRAWN.len()]; PREDICTIONS]);

/// A prediction and its scores.
#[derive(Clone, Debug, Default)]
pub struct ComparedPrediction {
    /// The prediction; `None` if a baseline is undefined.
    pub predicted: Option<Predicted>,
    /// The scores of the prediction.
    pub scores: PredictionScores,
}

/// A draw of a condition's cells and of its reference controls.
pub struct ResampledMeans {
    /// The mean of each gene over the drawn cells.
    pub truth: Vec<f64>,
    /// The same over the drawn controls.
    pub reference: Vec<f64>,
}

/// The leads on one condition in each draw, as needed for intervals over conditions.
#[derive(Clone, Debug)]
pub struct LeadDraws {
    /// Number of the context, whose conditions are resampled together.
    pub context: usize,
    /// For each draw, baseline (the best one is last) and score; NaN if undefined.
    leads: Vec<[[f32; DRAWN_OVERALL]; PREDICTIONS]>,
}

/// The model's lead over one baseline in one score.
#[must_use]
pub fn lead(score: &str, model: Option<f64>, baseline: Option<f64>) -> Option<f64> {
    let difference = model? - baseline?;
    Some(if PredictionScores::is_an_error(score) { -difference } else { difference })
}

/// The scores of each prediction in each draw; the genes that are scored by themselves stay the same.
#[must_use]
pub fn by_means(
    comparison: &Comparison<'_>,
    contestants: &[ComparedPrediction; PREDICTIONS],
    draws: impl Iterator<Item = ResampledMeans>,
) -> Vec<DrawnScores> {
    let changes: Vec<Option<Vec<f64>>> = contestants
        .iter()
        .map(|one| Some(metrics::difference(&one.predicted.as_ref()?.mean, comparison.source)))
        .collect();
    draws
        .map(|means| {
            let real_change = metrics::difference(&means.truth, &means.reference);
            DrawnScores(std::array::from_fn(|at| match (&contestants[at].predicted, &changes[at]) {
                (Some(predicted), Some(change)) => scores(comparison, &means.truth, &real_change, predicted, change),
                _ => [None; DRAWN.len()],
            }))
        })
        .collect()
}

/// The leads on one condition of a context, in the scores that are functions of means, and those of each draw.
///
/// The model is the first contestant, followed by the baselines in their order.
#[must_use]
pub fn of_condition(
    contestants: &[ComparedPrediction; PREDICTIONS],
    drawn: &[DrawnScores],
    context: usize,
) -> (Versus, LeadDraws) {
    let best = Baseline::ALL
        .into_iter()
        .enumerate()
        .filter_map(|(at, _)| Some((contestants[1 + at].scores.pearson_delta?, 1 + at)));
    let best = best.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, at)| at);
    let names = Baseline::ALL.iter().map(|baseline| baseline.name()).chain([BEST]);
    let rivals: Vec<(&str, Option<usize>)> = names.zip((1..PREDICTIONS).map(Some).chain([best])).collect();
    let lead_in = |DrawnScores(draw): &DrawnScores, rival: Option<usize>, score: usize| {
        lead(DRAWN[score], draw[0][score], draw[rival?][score])
    };
    let versus = rivals.iter().map(|(name, rival)| {
        let intervals = DRAWN.iter().enumerate().map(|(score, score_name)| {
            let point = |at: usize| contestants[at].scores.named(score_name);
            let difference = rival.and_then(|rival| lead(score_name, point(0), point(rival)));
            ((*score_name).to_owned(), centred(difference, drawn.iter().map(|draw| lead_in(draw, *rival, score))))
        });
        ((*name).to_owned(), intervals.collect())
    });
    let leads = drawn
        .iter()
        .map(|draw| std::array::from_fn(|at| std::array::from_fn(|score| narrow(lead_in(draw, rivals[at].1, score)))));
    (versus.collect(), LeadDraws { context, leads: leads.collect() })
}

/// The scores of [`DRAWN`] for one prediction.
fn scores(
    comparison: &Comparison<'_>,
    truth: &[f64],
    real_change: &[f64],
    predicted: &Predicted,
    change: &[f64],
) -> [Option<f64>; DRAWN.len()] {
    let chosen = comparison.chosen;
    // Resampled changes have twice the noise of the real one. Dividing by their length would shrink the correlation and
    // its spread, so it is divided by the length of the real change.
    let longer = spread(real_change) / spread(&comparison.real_change());
    let over = |genes: Option<&[usize]>| metrics::r2_of(genes?, truth, &predicted.mean);
    [
        metrics::pearson(real_change, change).map(|correlation| correlation * longer),
        metrics::mean_squared_error(real_change, change),
        metrics::r2(truth, &predicted.mean),
        over(Some(chosen.top(TOPS[0]))),
        over(Some(chosen.top(TOPS[1]))),
        over(Some(chosen.top(TOPS[2]))),
        over(chosen.top_train(TOPS[0])),
        over(chosen.top_train(TOPS[1])),
        over(chosen.top_train(TOPS[2])),
        chosen.top_train(TOPS[2]).and_then(|genes| direction(genes, real_change, change)),
    ]
}

/// The mean lead over some conditions, in every score that a baseline can have; `draws` are those of these conditions,
/// or empty: then only conditions are resampled.
#[must_use]
pub fn over_conditions(conditions: &[&ConditionScores], draws: &[&LeadDraws]) -> Versus {
    let rivals = Baseline::ALL.iter().map(|baseline| baseline.name()).chain([BEST]).enumerate();
    let of_rival = |(at, name): (usize, &str)| {
        let intervals = PredictionScores::NAMES.into_iter().map(|score| {
            let leads: Vec<Option<f64>> = conditions.iter().map(|one| lead_on(one, at, score)).collect();
            let known: Vec<f64> = leads.iter().copied().flatten().collect();
            let interval = match DRAWN[..DRAWN_OVERALL].iter().position(|drawn| *drawn == score) {
                Some(drawn) if !draws.is_empty() && !known.is_empty() => {
                    let mean = known.iter().sum::<f64>() / known.len() as f64;
                    centred(Some(mean), resampled(draws, at, drawn).into_iter())
                }
                _ => interval_of_mean(&known),
            };
            (score.to_owned(), interval)
        });
        (name.to_owned(), intervals.collect())
    };
    rivals.map(of_rival).collect()
}

/// The lead over a baseline, or over the best one, on one condition.
fn lead_on(condition: &ConditionScores, rival: usize, score: &str) -> Option<f64> {
    let baseline = match Baseline::ALL.get(rival) {
        Some(baseline) => *baseline,
        None => condition.best_baseline()?,
    };
    lead(score, condition.scores.named(score), condition.baselines.get(baseline).named(score))
}

/// Mean leads, with cells and conditions resampled: conditions within their context.
fn resampled(draws: &[&LeadDraws], rival: usize, score: usize) -> Vec<Option<f64>> {
    let mut contexts: BTreeMap<usize, Vec<&LeadDraws>> = BTreeMap::new();
    draws.iter().for_each(|draw| contexts.entry(draw.context).or_default().push(draw));
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let count = draws.iter().map(|draw| draw.leads.len()).min().unwrap_or(0);
    let mut means = Vec::with_capacity(count * CONDITIONS_PER_DRAW);
    for draw in (0..count).flat_map(|draw| [draw; CONDITIONS_PER_DRAW]) {
        let (mut sum, mut known) = (0.0, 0.0);
        for members in contexts.values() {
            for _ in members {
                let lead = f64::from(members[random.random_range(0..members.len())].leads[draw][rival][score]);
                if lead.is_finite() {
                    (sum, known) = (sum + lead, known + 1.0);
                }
            }
        }
        means.push((known > 0.0).then(|| sum / known));
    }
    means
}

/// The root of the sum of squared deviations from the mean.
fn spread(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>().sqrt()
}

/// The interval of the draws, moved so that their mean is the difference itself, and widened for the small number of
/// blocks.
fn centred(difference: Option<f64>, draws: impl Iterator<Item = Option<f64>>) -> Option<Interval> {
    let draws: Vec<Option<f64>> = draws.collect();
    let known: Vec<f64> = draws.iter().copied().flatten().filter(|draw| draw.is_finite()).collect();
    let shift = difference? - known.iter().sum::<f64>() / known.len().max(1) as f64;
    let middle = difference?;
    interval(difference, draws.into_iter().map(|draw| draw.map(|draw| middle + WIDER * (draw + shift - middle))))
}

#[expect(clippy::cast_possible_truncation, reason = "an interval needs no more than f32")]
fn narrow(lead: Option<f64>) -> f32 {
    lead.map_or(f32::NAN, |lead| lead as f32)
}

#[cfg(test)]
mod tests;
