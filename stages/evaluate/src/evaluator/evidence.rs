//! Inputs and results of an evaluation.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use schemas::{ByteSize, conditions::listing_order};
use stage::{BoxError, Sink};
use statistics::{
    axes::Axes,
    moments::MeanProfile,
    point_sets::PointSet,
    scale::{Anchor, Scale},
};

use crate::{ConditionScores, Evaluation, GeneChanges, Predicted, cell_tests::CellTests, versus::LeadDraws};

/// Maximum number of conditions whose changes are kept, those with the largest effects.
const MOST_CHANGES: usize = 6;

/// The prediction of a model, or of a set of predictions, for a group.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelProfiles {
    /// The group; after predictions were [joined](crate::ContextGroups::joined) over batches, the joined group.
    pub group: usize,
    /// Its mean profile, predicted from the controls that predictions start from.
    pub condition: Vec<f64>,
    /// The variance of each gene between cells, if it is predicted.
    pub variance: Option<Vec<f64>>,
    /// Some predicted cells as points, in the space of the real ones; `None` if only means are known.
    pub points: Option<PointSet>,
    /// The mean profile that the model's offset predicts alone, without its network, if it has one.
    pub offset: Option<Vec<f64>>,
    /// The prediction for control, if the predicted change is to be added to real controls.
    pub control: Option<Arc<ControlProfile>>,
    /// The distance of the prediction from the training data, if known.
    pub distance: Option<f64>,
    /// Scores by tests of cells, if any cells are predicted.
    pub tests: Option<Arc<CellTests>>,
}

/// A model's prediction for the controls of a group's context.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlProfile {
    /// Their mean profile.
    pub mean: Vec<f64>,
    /// The variance of each gene between cells.
    pub variance: Vec<f64>,
}

/// Some cells of every group as points.
#[derive(Clone, Debug)]
pub struct PointSets {
    /// The space in which they are points.
    pub axes: Axes,
    /// The evaluated cells of each group, in two halves; for controls, the half from which predictions start is
    /// first.
    pub real: Vec<[PointSet; 2]>,
}

/// The evaluation of one condition, with the change of each gene.
#[derive(Clone, Debug)]
pub struct ConditionEvaluation {
    /// The scores.
    pub scores: ConditionScores,
    /// The change of each gene.
    pub changes: GeneChanges,
    /// The leads in each draw of its cells.
    pub draws: LeadDraws,
}

/// A condition that can't be scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unscored {
    /// Its name.
    pub condition: String,
    /// Its covariates, by name.
    pub covariates: BTreeMap<String, String>,
    /// The reason.
    pub why: &'static str,
}

/// The result for a group.
#[derive(Clone, Debug)]
pub struct GroupEvaluation(pub Result<ConditionEvaluation, Unscored>);

/// Everything that an evaluation outputs.
#[derive(Clone, Debug)]
pub struct EvaluationEvidence {
    /// The scores.
    pub evaluation: Evaluation,
    /// The change of each gene, in the conditions with the largest effects.
    pub changes: Vec<GeneChanges>,
    /// The conditions that could not be scored.
    pub unscored: Vec<Unscored>,
}

impl ModelProfiles {
    /// The same profile, reduced to these genes.
    pub(super) fn only(&self, genes: &[usize]) -> Self {
        let chosen = |numbers: &[f64]| genes.iter().map(|gene| numbers[*gene]).collect();
        Self {
            group: self.group,
            condition: chosen(&self.condition),
            variance: self.variance.as_deref().map(chosen),
            points: self.points.clone(),
            offset: self.offset.as_deref().map(chosen),
            control: self.control.as_ref().map(|control| {
                Arc::new(ControlProfile { mean: chosen(&control.mean), variance: chosen(&control.variance) })
            }),
            distance: self.distance,
            tests: self.tests.clone(),
        }
    }

    /// Turns means into profiles on a scale: on the pseudobulk scale, a mean becomes its logarithm, and the variance is
    /// transformed to first order, as for real profiles.
    #[must_use]
    pub fn on_scale(mut self, scale: Scale) -> Self {
        if scale == Scale::Pseudobulk {
            logarithms(&mut self.condition, self.variance.as_deref_mut().unwrap_or_default());
            logarithms(self.offset.as_deref_mut().unwrap_or_default(), &mut []);
            self.control = self.control.map(|control| {
                let mut control = Arc::unwrap_or_clone(control);
                logarithms(&mut control.mean, &mut control.variance);
                Arc::new(control)
            });
        }
        self
    }

    /// The prediction of the offset alone, read in the same way.
    pub(super) fn offset_anchored_at(&self, source: &MeanProfile) -> Option<Predicted> {
        let condition = self.offset.clone()?;
        let alone = Self { condition, variance: None, points: None, offset: None, ..self.clone() };
        Some(alone.anchored_at(source))
    }

    /// The prediction as it is read: unchanged, or the predicted change added to the real controls.
    pub(super) fn anchored_at(&self, source: &MeanProfile) -> Predicted {
        let Some(control) = &self.control else {
            return Predicted { mean: self.condition.clone(), variance: self.variance.clone() };
        };
        let anchored = |source: &[f64], condition: &[f64], control: &[f64]| -> Vec<f64> {
            let changes = condition.iter().zip(control).map(|(condition, control)| condition - control);
            source.iter().zip(changes).map(|(start, change)| start + change).collect()
        };
        let real = source.variance_unbiased();
        let variance = self.variance.as_ref().map(|variance| {
            let mut variance = anchored(real.as_ref().unwrap_or(&source.variance), variance, &control.variance);
            variance.iter_mut().for_each(|variance| *variance = variance.max(0.0));
            variance
        });
        Predicted { mean: anchored(&source.mean, &self.condition, &control.mean), variance }
    }
}

/// Replaces means by their logarithms, and variances, if there are any, to first order.
pub(super) fn logarithms(mean: &mut [f64], variance: &mut [f64]) {
    variance.iter_mut().zip(&*mean).for_each(|(variance, mean)| *variance /= (1.0 + mean).powi(2));
    mean.iter_mut().for_each(|mean| *mean = mean.ln_1p());
}

impl ByteSize for ModelProfiles {
    fn byte_size(&self) -> usize {
        8 * (self.condition.len()
            + self.variance.as_ref().map_or(0, Vec::len)
            + self.control.as_ref().map_or(0, |control| 2 * control.mean.len()))
    }
}

impl ByteSize for GroupEvaluation {
    fn byte_size(&self) -> usize {
        let Ok(ConditionEvaluation { changes, .. }) = &self.0 else { return 0 };
        let GeneChanges { genes, control, real, standard_error, predicted, .. } = changes;
        4 * (control.len() + real.len() + standard_error.len() + predicted.len())
            + genes.iter().map(|gene| 24 + gene.len()).sum::<usize>()
    }
}

/// Gathers evaluated conditions, and the changes of genes in those with the largest effects.
#[derive(Debug)]
pub struct Tabulate {
    scale: Scale,
    anchor: Anchor,
    is_strict: bool,
    conditions: Vec<ConditionScores>,
    draws: Vec<LeadDraws>,
    changes: Vec<(f64, GeneChanges)>,
    unscored: Vec<Unscored>,
}

impl Tabulate {
    /// Starts without conditions; `is_strict`: nothing learned from the controls that real changes are measured from.
    #[must_use]
    pub fn new(scale: Scale, anchor: Anchor, is_strict: bool) -> Self {
        Self {
            scale,
            anchor,
            is_strict,
            conditions: Vec::new(),
            draws: Vec::new(),
            changes: Vec::new(),
            unscored: Vec::new(),
        }
    }
}

impl Sink for Tabulate {
    type In = GroupEvaluation;
    type Summary = EvaluationEvidence;

    fn push(&mut self, GroupEvaluation(judged): GroupEvaluation) -> Result<ControlFlow<()>, BoxError> {
        match judged {
            Ok(ConditionEvaluation { scores, changes, draws }) => {
                self.draws.push(draws);
                self.changes.push((scores.effect_size.unwrap_or(0.0), changes));
                self.changes.sort_by(|a, b| b.0.total_cmp(&a.0));
                self.changes.truncate(MOST_CHANGES);
                self.conditions.push(scores);
            }
            Err(unscored) => self.unscored.push(unscored),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<EvaluationEvidence, BoxError> {
        let mut evaluation =
            Evaluation::with_draws(self.scale, self.is_strict, self.conditions, &self.draws).read_as(self.anchor);
        evaluation.conditions.sort_by(|one, other| {
            listing_order((&one.condition, &one.dose), (&other.condition, &other.dose))
                .then_with(|| one.covariates.cmp(&other.covariates))
        });
        let changes = self.changes.into_iter().map(|(_, changes)| changes).collect();
        Ok(EvaluationEvidence { evaluation, changes, unscored: self.unscored })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_predicted_change_is_added_to_the_mean_and_the_variance_of_real_controls() {
        let control = ControlProfile { mean: vec![1.0, 0.5, 0.2], variance: vec![0.4, 0.3, 0.6] };
        let profiles = ModelProfiles {
            group: 0,
            condition: vec![1.5, 0.25, 0.2],
            variance: Some(vec![0.9, 0.25, 0.0]),
            points: None,
            offset: Some(vec![1.25, 0.5, 0.2]),
            control: Some(Arc::new(control)),
            distance: None,
            tests: None,
        };
        // Variances are divided by n = 2; divided by n - 1, they would be 1, 0.5 and 0.5.
        let source = MeanProfile { cells: 2, mean: vec![2.0, 1.0, 0.0], variance: vec![0.5, 0.25, 0.25] };
        let near = |found: &[f64], expected: [f64; 3]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12);
        let anchored = profiles.anchored_at(&source);
        assert!(near(&anchored.mean, [2.5, 0.75, 0.0]));
        assert!(near(anchored.variance.as_deref().expect("it is predicted"), [1.5, 0.45, 0.0]), "and never below 0");
        let offset = profiles.offset_anchored_at(&source).expect("there is one");
        assert!(near(&offset.mean, [2.25, 1.0, 0.0]) && offset.variance.is_none());

        let raw = ModelProfiles { control: None, ..profiles.clone() }.anchored_at(&source);
        assert_eq!(
            (raw.mean, raw.variance),
            (profiles.condition, profiles.variance),
            "a raw prediction is left as it is"
        );
    }
}
