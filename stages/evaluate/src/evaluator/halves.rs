//! One half of the evaluated cells as a prediction of the other: the ceiling, and the ranges of scores.

use statistics::{differential::welch_p_values, false_discovery::adjusted, moments::MeanProfile, rest::rest_p_values};

use super::{
    Evaluator,
    candidates::{Candidate, CandidateCells, Case, EvaluatedPart, PREDICTIONS, ScoringCells, of_baseline},
};
use crate::{Baseline, Comparison, Predicted, PredictionScores, ScoreRanges, ScoredGenes, cell_tests::CellTests};

/// Scores from the two halves of the evaluated cells.
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
        tests: Option<&CellTests>,
    ) -> HalfScores {
        let surroundings = self.surroundings(case.at, case.reference, EvaluatedPart::FirstHalf);
        let case = &Case { real: surroundings.real(), ..*case };
        let chosen = ScoredGenes::choose(first, case.reference, case.rest, whole.chosen.train.clone());
        let [first_cells, second_cells] = &self.point_sets.real[case.at];
        let comparison = Comparison { truth: first, chosen: &chosen, ..*whole };
        let real = ScoringCells::new(comparison, &self.chosen_scores, first_cells, case.controls);
        let with_tests = |scores: PredictionScores, tests: Option<&PredictionScores>| {
            tests.map_or(scores, |tests| self.chosen_scores.only(scores.or(tests)))
        };
        let of_second = |mean: Vec<f64>| {
            let predicted = Predicted { mean, variance: second.variance_unbiased() };
            ((predicted, CandidateCells::Own(second_cells.clone())), tests.map(|tests| tests.ceiling))
        };
        let of_negative = |baseline: Baseline| {
            let prediction = of_baseline(candidates, baseline)?.prediction();
            Some((prediction, tests.map(|tests| tests.of_baseline(baseline, 1))))
        };
        let of_model = |model: &Candidate<'_>| (model.prediction(), tests.map(|tests| tests.model[1]));
        let mut all = vec![of_second(second.mean.clone()), of_second(duplicate(case, second, whole.perturbed))];
        all.extend([Baseline::Control, Baseline::PerturbedMean].into_iter().filter_map(of_negative));
        all.extend(candidates[0].as_ref().map(of_model));
        let (predictions, tests): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let scored = Candidate::all(case, predictions);
        let scores = scored.iter().zip(&tests).map(|(one, tests)| with_tests(real.score(one), tests.as_ref()));
        let mut scores: Vec<PredictionScores> = scores.collect();
        let model = candidates[0].as_ref().and_then(|_| scores.pop()).unwrap_or_default();
        let negatives = scores.split_off(2);
        HalfScores { ceiling: scores[0], ranges: ScoreRanges::new(&model, &negatives, &scores[1]) }
    }
}

/// The mean of some real cells, drawn towards the mean response where they do not differ from the rest:
/// (1 − p) · mean + p · response, gene by gene, with adjusted p-values. In a context without other conditions, they are
/// compared with controls and drawn towards no change.
fn duplicate(case: &Case<'_>, cells: &MeanProfile, perturbed: Option<&[f64]>) -> Vec<f64> {
    let nothing = case.source.mean.as_slice();
    let (p_values, towards) = match case.rest {
        Some(rest) => (rest_p_values(cells, rest), perturbed.unwrap_or(nothing)),
        None => (welch_p_values(cells, case.reference).map(|p_values| adjusted(&p_values)), nothing),
    };
    let Some(p_values) = p_values else { return cells.mean.clone() };
    let drawn = cells.mean.iter().zip(towards).zip(p_values).map(|((mean, towards), p)| (1.0 - p) * mean + p * towards);
    drawn.collect()
}

#[cfg(test)]
mod tests {
    use schemas::ids::ConditionId;

    use super::{super::joined::Context, *};
    use crate::{ContextGroup, discrimination::RealConditions};

    fn group(cells: u64, mean: &[f64]) -> MeanProfile {
        MeanProfile { cells, mean: mean.into(), variance: vec![1.0; mean.len()] }
    }

    #[test]
    fn a_duplicate_is_drawn_to_the_mean_response_where_it_does_not_differ_from_the_rest() {
        let (half, rest) = (group(40, &[9.0, 2.0]), group(400, &[1.0, 2.0]));
        let (source, reference) = (group(50, &[0.0, 0.5]), group(50, &[9.0, 1.5]));
        let context = Context::default();
        let of_context = ContextGroup { condition: ConditionId(1), context: Vec::new(), members: Vec::new() };
        let real = RealConditions { others: &[], reference: &[], left_out: &[] };
        let case = Case {
            at: 0,
            group: &of_context,
            context: &context,
            source: &source,
            reference: &reference,
            rest: Some(&rest),
            controls: None,
            real,
        };
        let near = |found: &[f64], expected: [f64; 2]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(&duplicate(&case, &half, Some(&[5.0, 1.0])), [9.0, 1.0]));
        assert!(near(&duplicate(&case, &half, None), [9.0, 0.5]), "without a mean response, it is drawn to no change");
        let alone = Case { rest: None, ..case };
        let drawn = duplicate(&alone, &half, Some(&[5.0, 1.0]));
        assert!(near(&drawn[..1], [0.0, 0.0]), "the first gene is that of the controls: {drawn:?}");
        assert!(drawn[1] > 1.8 && drawn[1] < 2.0, "the second differs from them: {drawn:?}");
        let cell = group(1, &[9.0, 2.0]);
        assert_eq!(duplicate(&alone, &cell, None), cell.mean, "a single cell shows no difference");
    }
}
