//! The predictions of a condition: the model's and the baselines', and their scores by real cells.

use reader::atlas::Atlas;
use statistics::{
    metrics,
    moments::MeanProfile,
    point_sets::{PointSet, TargetPointSet, WithinPairs},
};

use super::{Evaluator, ModelProfiles, joined::Context, narrow_all};
use crate::{
    Baseline, BaselineTarget, ChosenScores, ComparedPrediction, Comparison, ContextGroup, Predicted, PredictionScores,
    discrimination::{PredictionDistances, RealConditions},
};

/// The model and the baselines.
pub(super) const PREDICTIONS: usize = 1 + Baseline::ALL.len();

/// The inputs for scoring one condition.
pub(super) struct Case<'a> {
    pub(super) at: usize,
    pub(super) group: &'a ContextGroup,
    pub(super) context: &'a Context,
    /// The controls from which predictions start.
    pub(super) source: &'a MeanProfile,
    /// The controls from which real changes are measured.
    pub(super) reference: &'a MeanProfile,
    /// The cells of the context's other conditions.
    pub(super) rest: Option<&'a MeanProfile>,
    /// The cells of the context's controls.
    pub(super) controls: Option<&'a PointSet>,
    /// The conditions among which predictions are identified.
    pub(super) real: RealConditions<'a>,
}

/// The profiles among which the predictions of a condition are identified.
pub(super) struct Surroundings<'a> {
    others: Vec<&'a [f32]>,
    reference: Vec<f32>,
    left_out: Vec<usize>,
}

/// A part of every group's evaluated cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EvaluatedPart {
    Whole,
    FirstHalf,
}

/// A prediction, with what its scores need.
pub(super) struct Candidate<'a> {
    pub(super) predicted: Predicted,
    /// Its cells, if they are known.
    cells: CandidateCells,
    distances: PredictionDistances<'a>,
}

/// The cells of a prediction.
#[derive(Clone)]
pub(super) enum CandidateCells {
    Unknown,
    /// The context's controls, all moved alike.
    MovedControls(PointSet),
    Own(PointSet),
}

/// The real cells by which predictions are scored: all evaluated cells of a condition, or a part of them.
pub(super) struct ScoringCells<'a> {
    pub(super) comparison: Comparison<'a>,
    chosen: &'a ChosenScores,
    mean: Vec<f32>,
    points: Option<TargetPointSet<'a>>,
    /// The pairs of control cells, however they are moved.
    controls_within: Option<WithinPairs>,
}

impl Surroundings<'_> {
    pub(super) fn real(&self) -> RealConditions<'_> {
        RealConditions { others: &self.others, reference: &self.reference, left_out: &self.left_out }
    }
}

impl<'a> ScoringCells<'a> {
    pub(super) fn new(
        comparison: Comparison<'a>,
        chosen: &'a ChosenScores,
        cells: &'a PointSet,
        controls: Option<&PointSet>,
    ) -> Self {
        let points = TargetPointSet::new(cells);
        let controls_within = points.as_ref().zip(controls).map(|(points, controls)| points.apart(controls));
        Self { mean: narrow_all(&comparison.truth.mean), comparison, chosen, points, controls_within }
    }

    /// The chosen scores of a prediction, but those by tests of cells.
    pub(super) fn score(&self, candidate: &Candidate<'_>) -> PredictionScores {
        let pairs = self.points.as_ref().and_then(|real| match &candidate.cells {
            CandidateCells::Unknown => None,
            CandidateCells::MovedControls(cells) => Some(real.distances(cells, self.controls_within?)),
            CandidateCells::Own(cells) => Some(real.distances(cells, real.apart(cells))),
        });
        let (e_distance, mmd) = pairs.unwrap_or_default();
        let identified = candidate.distances.scores(&self.mean);
        self.chosen.only(PredictionScores {
            e_distance,
            mmd,
            rank: identified.rank,
            centroid_accuracy: identified.centroid_accuracy,
            discrimination_score_l1: identified.l1,
            discrimination_score_l2: identified.l2,
            discrimination_score_cosine: identified.cosine,
            ..self.comparison.score(&candidate.predicted)
        })
    }
}

impl<'a> Candidate<'a> {
    /// Predictions, with their cells, that are identified among the same conditions.
    pub(super) fn all(case: &Case<'a>, predictions: Vec<(Predicted, CandidateCells)>) -> Vec<Self> {
        let distances = case.real.distances(predictions.iter().map(|(predicted, _)| {
            let change = metrics::difference(&predicted.mean, &case.source.mean);
            (narrow_all(&predicted.mean), narrow_all(&change))
        }));
        let both = predictions.into_iter().zip(distances);
        both.map(|((predicted, cells), distances)| Self { predicted, cells, distances }).collect()
    }

    /// The prediction with its cells, to be identified among other conditions.
    pub(super) fn prediction(&self) -> (Predicted, CandidateCells) {
        (self.predicted.clone(), self.cells.clone())
    }

    /// The prediction with its scores.
    pub(super) fn compared(one: Option<Self>, scores: PredictionScores) -> ComparedPrediction {
        ComparedPrediction { predicted: one.map(|one| one.predicted), scores }
    }
}

impl Evaluator {
    /// The profiles among which predictions of a group are identified: by all evaluated cells, or by the first half of them,
    /// so that the others are as noisy as a half of the group's own.
    pub(super) fn surroundings(&self, at: usize, reference: &MeanProfile, part: EvaluatedPart) -> Surroundings<'_> {
        let group = &self.groups.all()[at];
        let of_context = |other: &usize| *other != at && self.groups.all()[*other].context == group.context;
        let mean_of = |other: usize| match part {
            EvaluatedPart::Whole => self.means[other].as_deref(),
            EvaluatedPart::FirstHalf => self.half_means[other].as_deref().or(self.means[other].as_deref()),
        };
        let groups = if self.chosen_scores.need_others() { 0..self.means.len() } else { 0..0 };
        let others = groups.filter(of_context).filter_map(mean_of).collect();
        Surroundings { others, reference: narrow_all(&reference.mean), left_out: self.targeted(&self.atlas, group) }
    }

    /// The genes that bear the name of one of the condition's perturbations.
    fn targeted(&self, atlas: &Atlas, group: &ContextGroup) -> Vec<usize> {
        let table = &atlas.manifest().conditions;
        let mut targeted: Vec<usize> = table
            .parts(group.condition)
            .filter_map(|(perturbation, _)| self.genes.get(&table.perturbations()[perturbation.index()]).copied())
            .collect();
        targeted.sort_unstable();
        targeted.dedup();
        targeted
    }

    /// The predictions of the model and of the baselines, in their order; `None` for a baseline that is undefined.
    pub(super) fn candidates<'a>(
        &self,
        case: &Case<'a>,
        model: &ModelProfiles,
    ) -> [Option<Candidate<'a>>; PREDICTIONS] {
        let cells = model.points.clone().map_or(CandidateCells::Unknown, CandidateCells::Own);
        let mut predictions = vec![Some((model.anchored_at(case.source), cells))];
        let parts: Vec<_> = self.atlas.manifest().conditions.parts(case.group.condition).collect();
        let target = BaselineTarget { parts: &parts, context: case.context.number, start: &case.source.mean };
        predictions.extend(Baseline::ALL.map(|baseline| {
            let mean = self.training.predict(baseline, target)?;
            let cells = case.controls.map_or(CandidateCells::Unknown, |controls| {
                let change = metrics::difference(&mean, &case.source.mean);
                let step = self.point_sets.axes.direction(&self.on_all_genes(&change));
                CandidateCells::MovedControls(controls.moved(&step))
            });
            let own = case.source.variance_unbiased();
            let change = case.context.variance_change.as_ref().filter(|_| baseline == Baseline::PerturbedMean);
            let variance = own.map(|own| match change {
                Some(change) => own.iter().zip(change).map(|(own, change)| (own + change).max(0.0)).collect(),
                None => own,
            });
            Some((Predicted { mean, variance }, cells))
        }));
        let is_defined: Vec<bool> = predictions.iter().map(Option::is_some).collect();
        let mut candidates = Candidate::all(case, predictions.into_iter().flatten().collect()).into_iter();
        std::array::from_fn(|at| if is_defined[at] { candidates.next() } else { None })
    }

    /// Extends a change of the evaluated genes to all genes; the others do not change.
    fn on_all_genes(&self, change: &[f64]) -> Vec<f64> {
        let mut all = vec![0.0; self.atlas.genes().len()];
        self.places.iter().zip(change).for_each(|(place, change)| all[*place] = *change);
        all
    }
}

/// The prediction of a baseline.
pub(super) fn of_baseline<'b, 'a>(
    candidates: &'b [Option<Candidate<'a>>; PREDICTIONS],
    baseline: Baseline,
) -> Option<&'b Candidate<'a>> {
    let at = Baseline::ALL.iter().position(|other| *other == baseline)?;
    candidates[1 + at].as_ref()
}
