//! One half of the evaluated cells as a prediction of the other: the ceiling, and the ranges of scores.

use statistics::{differential::welch_p_values, false_discovery::adjusted, moments::MeanProfile, rest::against_rest};

use super::{
    Evaluator,
    candidates::{Candidate, Case, PREDICTIONS, PredictedCells, RealCells, of_baseline},
};
use crate::{Baseline, Comparison, Predicted, PredictionScores, ScoreRanges, ScoredGenes};

/// What the halves of the evaluated cells show.
#[derive(Default)]
pub(super) struct HalfScores {
    /// The scores of the second half as a prediction of the first.
    pub(super) ceiling: PredictionScores,
    pub(super) ranges: ScoreRanges,
}

impl Evaluator {
    /// Scores by the first half of the evaluated cells: of the second half, of the controls of the ranges, and of the model.
    pub(super) fn by_halves(
        &self,
        case: &Case<'_>,
        whole: &Comparison<'_>,
        candidates: &[Option<Candidate<'_>>; PREDICTIONS],
        [first, second]: [&MeanProfile; 2],
    ) -> HalfScores {
        let chosen = ScoredGenes::choose(first, case.reference, case.rest, whole.chosen.train.clone());
        let [first_cells, second_cells] = &self.point_sets.real[case.at];
        let comparison = Comparison { truth: first, chosen: &chosen, ..*whole };
        let real = RealCells::new(comparison, first_cells, case.controls);
        let score_of = |mean: Vec<f64>| {
            let predicted = Predicted { mean, variance: second.variance_unbiased() };
            real.score(&Candidate::new(case, predicted, PredictedCells::Own(second_cells.clone())))
        };
        let negatives: Vec<PredictionScores> = [Baseline::Control, Baseline::PerturbedMean]
            .into_iter()
            .filter_map(|baseline| Some(real.score(of_baseline(candidates, baseline)?)))
            .collect();
        let model = candidates[0].as_ref().map(|model| real.score(model)).unwrap_or_default();
        let positive = score_of(duplicate(case, second, whole.perturbed));
        HalfScores { ceiling: score_of(second.mean.clone()), ranges: ScoreRanges::new(&model, &negatives, &positive) }
    }
}

/// The mean of some real cells, drawn towards the mean response where they do not differ from the rest:
/// (1 − p) · mean + p · response, gene by gene, with adjusted p-values. In a context without other conditions, they are
/// compared with controls and drawn towards no change.
fn duplicate(case: &Case<'_>, cells: &MeanProfile, perturbed: Option<&[f64]>) -> Vec<f64> {
    let nothing = case.source.mean.as_slice();
    let (p_values, towards) = match case.rest {
        Some(rest) => (against_rest(cells, rest).map(|test| test.adjusted_p), perturbed.unwrap_or(nothing)),
        None => (welch_p_values(cells, case.reference).map(|p_values| adjusted(&p_values)), nothing),
    };
    let Some(p_values) = p_values else { return cells.mean.clone() };
    let drawn = cells.mean.iter().zip(towards).zip(p_values).map(|((mean, towards), p)| (1.0 - p) * mean + p * towards);
    drawn.collect()
}
