//! A model's lead over the baselines, paired gene by gene or condition by condition, with bootstrap intervals.
//!
//! A lead is positive if the model is better: it is the model's score minus the baseline's, or for an error
//! the baseline's minus the model's.

use std::collections::BTreeMap;

use statistics::{
    bootstrap::{BootstrapDraws, GENE_DRAWS, Interval, interval, interval_of_mean},
    differential::agrees,
};

use super::{
    baselines::Baseline,
    comparison::{Comparison, Predicted, TOPS},
    scores::PredictionScores,
    table::ConditionScores,
};

/// The intervals of the model's lead, by baseline and score.
pub type Versus = BTreeMap<String, BTreeMap<String, Option<Interval>>>;

/// The model and the baselines.
const PREDICTIONS: usize = 1 + Baseline::ALL.len();

/// Sums of the real cells, then of each prediction.
const SUMS: usize = OF_TRUTH + PREDICTIONS * OF_PREDICTION;
const OF_TRUTH: usize = 4;
const OF_PREDICTION: usize = 5;

/// Number of genes that are summed over all draws before the next ones, so that their numbers stay in the
/// processor's cache.
const GENES_AT_ONCE: usize = 64;

/// A prediction and its scores.
#[derive(Clone, Debug, Default)]
pub struct ComparedPrediction {
    /// The prediction; `None` if a baseline is undefined.
    pub predicted: Option<Predicted>,
    /// The scores of the prediction.
    pub scores: PredictionScores,
}

/// The model's lead over one baseline in one score.
#[must_use]
pub fn lead(score: &str, model: Option<f64>, baseline: Option<f64>) -> Option<f64> {
    let difference = model? - baseline?;
    Some(if PredictionScores::is_an_error(score) { -difference } else { difference })
}

/// The leads on one condition, in every score that is a function of genes; `draws` are over all genes.
///
/// The model is the first contestant, followed by the baselines in their order. Scores over chosen genes draw
/// from these genes.
#[must_use]
pub fn of_condition(
    comparison: &Comparison<'_>,
    contestants: &[ComparedPrediction; PREDICTIONS],
    draws: &BootstrapDraws,
) -> Versus {
    let mut drawn = over_all_genes(comparison, contestants, draws);
    for (at, count) in TOPS.into_iter().enumerate() {
        drawn.push((TOP_NAMES[at], r2_over(comparison.chosen.top(count), comparison, contestants)));
        let train = comparison.chosen.top_train(count).unwrap_or_default();
        drawn.push((TOP_TRAIN_NAMES[at], r2_over(train, comparison, contestants)));
    }
    let train = comparison.chosen.top_train(TOPS[2]).unwrap_or_default();
    drawn.push(("de_direction_train", direction_over(train, comparison, contestants)));

    let point = |score: &str, contestant: &ComparedPrediction| contestant.scores.named(score);
    let of_baseline = |(index, baseline): (usize, Baseline)| {
        let intervals = drawn.iter().map(|(score, draws)| {
            let lead_of = |values: &[Option<f64>; PREDICTIONS]| lead(score, values[0], values[index + 1]);
            let difference = lead(score, point(score, &contestants[0]), point(score, &contestants[index + 1]));
            ((*score).to_owned(), interval(difference, draws.iter().map(lead_of)))
        });
        (baseline.name().to_owned(), intervals.collect())
    };
    Baseline::ALL.into_iter().enumerate().map(of_baseline).collect()
}

/// The mean lead over some conditions, in every score that a baseline can have.
#[must_use]
pub fn over_conditions(conditions: &[&ConditionScores]) -> Versus {
    let of_baseline = |baseline: Baseline| {
        let scores = PredictionScores::NAMES.into_iter().filter(|name| !name.starts_with("r2_var"));
        let intervals = scores.map(|score| {
            let leads: Vec<f64> = conditions
                .iter()
                .filter_map(|condition| {
                    lead(score, condition.scores.named(score), condition.baselines.get(baseline).named(score))
                })
                .collect();
            (score.to_owned(), interval_of_mean(&leads))
        });
        (baseline.name().to_owned(), intervals.collect())
    };
    Baseline::ALL.into_iter().map(of_baseline).collect()
}

const TOP_NAMES: [&str; TOPS.len()] = ["r2_mean_top10", "r2_mean_top20", "r2_mean_top50"];
const TOP_TRAIN_NAMES: [&str; TOPS.len()] = ["r2_mean_top10_train", "r2_mean_top20_train", "r2_mean_top50_train"];

/// A score, and its value for each contestant in each draw.
type ScoreDraws = (&'static str, Vec<[Option<f64>; PREDICTIONS]>);
/// A score as a function of the sums of the truth and of one prediction.
type Score<'a> = &'a dyn Fn(&[f64], &[f64]) -> Option<f64>;

/// R² of the means, correlation and error of the change, and share of correct signs, with all genes
/// resampled.
fn over_all_genes(
    comparison: &Comparison<'_>,
    contestants: &[ComparedPrediction; PREDICTIONS],
    draws: &BootstrapDraws,
) -> Vec<ScoreDraws> {
    let rows = rows(comparison, contestants);
    let genes = rows.len() as f64;
    let sums = weighted_sums(&rows, draws);
    let each = |score: Score<'_>| -> Vec<[Option<f64>; PREDICTIONS]> {
        let of_draw = |sums: &[f64; SUMS]| {
            let (truth, predictions) = sums.split_at(OF_TRUTH);
            std::array::from_fn(|at| {
                contestants[at].predicted.as_ref()?;
                score(truth, &predictions[at * OF_PREDICTION..(at + 1) * OF_PREDICTION])
            })
        };
        sums.iter().map(of_draw).collect()
    };
    let deviations = |sum: f64, squares: f64| Some(squares - sum * sum / genes).filter(|total| *total > 0.0);
    let r2 = each(&|truth, predicted| Some(1.0 - predicted[0] / deviations(truth[0], truth[1])?));
    let pearson = each(&|truth, predicted| {
        let totals = deviations(truth[2], truth[3])? * deviations(predicted[1], predicted[2])?;
        Some((predicted[3] - truth[2] * predicted[1] / genes) / totals.sqrt())
    });
    let error = each(&|_, predicted| Some(predicted[4] / genes));
    let mut drawn = vec![("r2_mean", r2), ("pearson_delta", pearson), ("mse_delta", error)];
    if let Some(differential) = &comparison.chosen.differential {
        let signs = signs(differential, comparison, contestants);
        let share = |draw: &[u16]| {
            let times = |place: usize| f64::from(draw[differential[place]]);
            let all: f64 = (0..differential.len()).map(times).sum();
            std::array::from_fn(|at| {
                let right: &Vec<bool> = signs[at].as_ref()?;
                let agreed: f64 = (0..right.len()).filter(|place| right[*place]).map(times).sum();
                (all > 0.0).then(|| agreed / all)
            })
        };
        drawn.push(("de_direction", draws.all().map(share).collect()));
    }
    drawn
}

/// The numbers that are summed for each gene. For the real cells: mean, its square, change, its square; for
/// each prediction: the squared residual of the mean, the change, its square, its product with the real one,
/// the squared error of the change. Means and changes are centred, so that squares of large numbers don't
/// hide small differences.
fn rows(comparison: &Comparison<'_>, contestants: &[ComparedPrediction; PREDICTIONS]) -> Vec<[f64; SUMS]> {
    let centred = |values: &[f64]| -> Vec<f64> {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter().map(|value| value - mean).collect()
    };
    let truth = &comparison.truth.mean;
    let real_change = comparison.real_change();
    let (truth_centred, real_centred) = (centred(truth), centred(&real_change));
    let mut rows = vec![[0.0; SUMS]; truth.len()];
    for ((row, truth), change) in rows.iter_mut().zip(&truth_centred).zip(&real_centred) {
        row[..OF_TRUTH].copy_from_slice(&[*truth, truth * truth, *change, change * change]);
    }
    for (at, contestant) in contestants.iter().enumerate() {
        let Some(predicted) = &contestant.predicted else { continue };
        let change: Vec<f64> =
            predicted.mean.iter().zip(comparison.source).map(|(predicted, source)| predicted - source).collect();
        let change_centred = centred(&change);
        for (gene, row) in rows.iter_mut().enumerate() {
            let first = OF_TRUTH + at * OF_PREDICTION;
            let own = change_centred[gene];
            row[first..first + OF_PREDICTION].copy_from_slice(&[
                (truth[gene] - predicted.mean[gene]).powi(2),
                own,
                own * own,
                own * real_centred[gene],
                (real_change[gene] - change[gene]).powi(2),
            ]);
        }
    }
    rows
}

/// The sums of every draw.
fn weighted_sums(rows: &[[f64; SUMS]], draws: &BootstrapDraws) -> Vec<[f64; SUMS]> {
    let mut sums = vec![[0.0; SUMS]; GENE_DRAWS];
    for (block, rows) in rows.chunks(GENES_AT_ONCE).enumerate() {
        let first = block * GENES_AT_ONCE;
        for (sums, draw) in sums.iter_mut().zip(draws.all()) {
            for (row, times) in rows.iter().zip(&draw[first..]).filter(|(_, times)| **times > 0) {
                let times = f64::from(*times);
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += times * value);
            }
        }
    }
    sums
}

/// R² of the means over a few genes, which are resampled.
fn r2_over(
    genes: &[usize],
    comparison: &Comparison<'_>,
    contestants: &[ComparedPrediction; PREDICTIONS],
) -> Vec<[Option<f64>; PREDICTIONS]> {
    let draws = BootstrapDraws::new(genes.len(), GENE_DRAWS);
    let truth: Vec<f64> = genes.iter().map(|gene| comparison.truth.mean[*gene]).collect();
    let of_draw = |draw: &[u16]| {
        let times = |place: usize| f64::from(draw[place]);
        let mean = (0..truth.len()).map(|place| times(place) * truth[place]).sum::<f64>() / truth.len() as f64;
        let total: f64 = (0..truth.len()).map(|place| times(place) * (truth[place] - mean).powi(2)).sum();
        std::array::from_fn(|at| {
            let predicted = &contestants[at].predicted.as_ref()?.mean;
            let residual = |place: usize| times(place) * (truth[place] - predicted[genes[place]]).powi(2);
            (total > 0.0).then(|| 1.0 - (0..truth.len()).map(residual).sum::<f64>() / total)
        })
    };
    draws.all().map(of_draw).collect()
}

/// The share of correct signs over a few genes, which are resampled.
fn direction_over(
    genes: &[usize],
    comparison: &Comparison<'_>,
    contestants: &[ComparedPrediction; PREDICTIONS],
) -> Vec<[Option<f64>; PREDICTIONS]> {
    let draws = BootstrapDraws::new(genes.len(), GENE_DRAWS);
    let signs = signs(genes, comparison, contestants);
    let of_draw = |draw: &[u16]| {
        std::array::from_fn(|at| {
            let right = signs[at].as_ref()?.iter().zip(draw).filter(|(right, _)| **right);
            Some(right.map(|(_, times)| f64::from(*times)).sum::<f64>() / genes.len() as f64)
        })
    };
    draws.all().map(of_draw).collect()
}

/// Whether each contestant predicts the sign of the change of each of these genes correctly.
fn signs(
    genes: &[usize],
    comparison: &Comparison<'_>,
    contestants: &[ComparedPrediction; PREDICTIONS],
) -> [Option<Vec<bool>>; PREDICTIONS] {
    std::array::from_fn(|at| {
        let predicted = &contestants[at].predicted.as_ref()?.mean;
        let right = |gene: &usize| {
            let real = comparison.truth.mean[*gene] - comparison.reference.mean[*gene];
            agrees(real, predicted[*gene] - comparison.source[*gene])
        };
        Some(genes.iter().map(right).collect())
    })
}

#[cfg(test)]
mod tests {
    use statistics::moments::MeanProfile;

    use super::{super::comparison::ScoredGenes, *};

    const GENES: usize = 80;

    /// Real means with a change in every gene, and predictions with increasing errors.
    fn contest() -> (MeanProfile, MeanProfile, [ComparedPrediction; PREDICTIONS], ScoredGenes) {
        let wave = |gene: usize, step: f64| (gene as f64 * step).sin();
        let profile = |mean: Vec<f64>| MeanProfile { cells: 30, variance: vec![0.2; GENES], mean };
        let control = profile((0..GENES).map(|gene| 2.0 + wave(gene, 0.7)).collect());
        let truth = profile((0..GENES).map(|gene| control.mean[gene] + wave(gene, 1.3)).collect());
        let chosen = ScoredGenes::choose(&truth, &control, Some((0..GENES).collect()));
        let comparison = Comparison { truth: &truth, reference: &control, source: &control.mean, chosen: &chosen };
        let contestants = std::array::from_fn(|at| {
            let miss = |gene: usize| 0.1 * (1.0 + at as f64) * wave(gene, 2.9);
            let mean: Vec<f64> = (0..GENES).map(|gene| truth.mean[gene] + miss(gene)).collect();
            let predicted = Predicted::from(mean);
            let scores = comparison.score(&predicted);
            ComparedPrediction { scores, predicted: (at != 2).then_some(predicted) }
        });
        (truth, control, contestants, chosen)
    }

    #[test]
    fn an_interval_holds_the_lead_and_is_above_zero_for_the_better_one() {
        let (truth, control, contestants, chosen) = contest();
        let comparison = Comparison { truth: &truth, reference: &control, source: &control.mean, chosen: &chosen };
        let versus = of_condition(&comparison, &contestants, &BootstrapDraws::new(GENES, GENE_DRAWS));
        assert_eq!(versus.len(), Baseline::ALL.len());
        for score in ["r2_mean", "pearson_delta", "mse_delta", "r2_mean_top50", "r2_mean_top20_train"] {
            let [low, mid, high] = versus["additive"][score].expect("both are defined");
            assert!(0.0 < low && low < mid && mid < high, "{score}: {low} {mid} {high}");
        }
        let scores = |at: usize| contestants[at].scores;
        assert_eq!(
            versus["linear"]["mse_delta"].map(|interval| interval[1]),
            scores(5).mse_delta.zip(scores(0).mse_delta).map(|(baseline, model)| baseline - model),
        );
    }

    #[test]
    fn a_baseline_without_a_prediction_has_no_interval() {
        let (truth, control, contestants, chosen) = contest();
        let comparison = Comparison { truth: &truth, reference: &control, source: &control.mean, chosen: &chosen };
        let versus = of_condition(&comparison, &contestants, &BootstrapDraws::new(GENES, GENE_DRAWS));
        assert!(versus["perturbed_mean"].values().all(Option::is_none), "{:?}", versus["perturbed_mean"]);
    }

    #[test]
    fn drawing_every_gene_once_gives_the_scores_themselves() {
        let (truth, control, contestants, chosen) = contest();
        let comparison = Comparison { truth: &truth, reference: &control, source: &control.mean, chosen: &chosen };
        let once = vec![1_u16; GENES];
        let rows = rows(&comparison, &contestants);
        let mut whole = [0.0; SUMS];
        for (row, times) in rows.iter().zip(&once) {
            whole.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*times) * value);
        }
        let predicted = &whole[OF_TRUTH..];
        let genes = GENES as f64;
        let total = whole[1] - whole[0] * whole[0] / genes;
        let near =
            |found: f64, expected: Option<f64>| expected.is_some_and(|expected| (found - expected).abs() < 1e-12);
        assert!(near(1.0 - predicted[0] / total, contestants[0].scores.r2_mean));
        assert!(near(predicted[4] / genes, contestants[0].scores.mse_delta));
        let correlation = predicted[3] / (whole[3] * predicted[2]).sqrt();
        assert!(near(correlation, contestants[0].scores.pearson_delta));
    }
}
