//! What a judge is told, and what it says.

use std::{collections::HashMap, ops::ControlFlow};

use schemas::ByteSize;

use crate::{
    BoxError, Sink,
    evaluate::{Anchor, ConditionScores, Evaluation, Predicted, Scale, axes::Axes, clouds::Cloud},
    report::Scatter,
};

/// Conditions that get a picture, largest effects first.
const MOST_SCATTERS: usize = 6;

/// What a model, or a set of predictions, says of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelProfiles {
    /// The group.
    pub group: usize,
    /// Its mean profile, predicted from the controls of the first half.
    pub condition: Vec<f64>,
    /// The variances between cells.
    pub variance: Vec<f64>,
    /// What is predicted under control, where the predicted change is to be added to real controls.
    pub control: Option<Vec<f64>>,
    /// How far the prediction is from what was trained on, where that is told.
    pub distance: Option<f64>,
}

/// Some cells of every group as points.
#[derive(Clone, Debug)]
pub struct Clouds {
    /// The space that they are points of.
    pub axes: Axes,
    /// Of each group the judged cells of either half; of controls, those that predictions start from come first.
    pub real: Vec<[Cloud; 2]>,
    /// Predicted cells, by group; none where only means are known.
    pub predicted: HashMap<usize, Cloud>,
}

/// One condition, judged, with its picture.
#[derive(Clone, Debug)]
pub struct ConditionJudgement {
    /// The numbers.
    pub scores: ConditionScores,
    /// The picture.
    pub scatter: Scatter,
}

/// What came of judging a group; none where it has no cells, or its context no controls of either half.
#[derive(Clone, Debug)]
pub struct Verdict(pub Option<ConditionJudgement>);

/// Everything that an evaluation shows.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The numbers.
    pub evaluation: Evaluation,
    /// The pictures.
    pub scatters: Vec<Scatter>,
}

impl ModelProfiles {
    /// The same, of these genes alone.
    pub(super) fn only(&self, genes: &[usize]) -> Self {
        let of = |numbers: &[f64]| genes.iter().map(|gene| numbers[*gene]).collect();
        Self {
            group: self.group,
            condition: of(&self.condition),
            variance: of(&self.variance),
            control: self.control.as_deref().map(of),
            distance: self.distance,
        }
    }

    /// The profile as it is read: as it comes, or the predicted change added to the real controls.
    pub(super) fn anchored_at(&self, source: &[f64]) -> Predicted {
        let mean = match &self.control {
            None => self.condition.clone(),
            Some(control) => {
                let changed = self.condition.iter().zip(control).map(|(condition, control)| condition - control);
                source.iter().zip(changed).map(|(start, change)| start + change).collect()
            }
        };
        Predicted { mean, variance: Some(self.variance.clone()) }
    }
}

impl ByteSize for ModelProfiles {
    fn byte_size(&self) -> usize {
        8 * (self.condition.len() + self.variance.len() + self.control.as_ref().map_or(0, Vec::len))
    }
}

impl ByteSize for Verdict {
    fn byte_size(&self) -> usize {
        let Some(ConditionJudgement { scatter, .. }) = &self.0 else { return 0 };
        let Scatter { genes, truth, predicted, control, .. } = scatter;
        4 * (truth.len() + predicted.len() + control.len()) + genes.iter().map(|gene| 24 + gene.len()).sum::<usize>()
    }
}

/// Gathers judged conditions, and the pictures of the largest effects.
#[derive(Debug)]
pub struct Tabulate {
    scale: Scale,
    anchor: Anchor,
    conditions: Vec<ConditionScores>,
    scatters: Vec<(f64, Scatter)>,
}

impl Tabulate {
    /// No conditions yet.
    #[must_use]
    pub fn new(scale: Scale, anchor: Anchor) -> Self {
        Self { scale, anchor, conditions: Vec::new(), scatters: Vec::new() }
    }
}

impl Sink for Tabulate {
    type In = Verdict;
    type Summary = Judgement;

    fn push(&mut self, Verdict(judged): Verdict) -> Result<ControlFlow<()>, BoxError> {
        if let Some(ConditionJudgement { scores, scatter }) = judged {
            self.scatters.push((scores.effect_size.unwrap_or(0.0), scatter));
            self.scatters.sort_by(|a, b| b.0.total_cmp(&a.0));
            self.scatters.truncate(MOST_SCATTERS);
            self.conditions.push(scores);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Judgement, BoxError> {
        let evaluation = Evaluation::new(self.scale, self.conditions).read_as(self.anchor);
        Ok(Judgement { evaluation, scatters: self.scatters.into_iter().map(|(_, scatter)| scatter).collect() })
    }
}
