//! Compares a model's predictions with real cells: `order → read → batch → predict → collect` from the source controls, the same
//! for a few cells of each group, and then `conditions → judge → table`.

use std::{collections::BTreeSet, ops::ControlFlow, path::PathBuf, sync::Arc};

use schemas::skipped::Skipped;
use schemas::{Error, Result};
use stages::{
    BoxError, Sink,
    evaluate::{
        ChosenScores,
        evaluator::{ControlProfile, EvaluationEvidence, ModelProfiles, Tabulate},
        prediction_set::{self, PredictionSelection},
    },
    model::saved::Model,
    predictor::{
        predict::{PredictMeans, Reading, Readout, TargetMeans},
        query::Jobs,
    },
    reader::{
        atlas::Atlas,
        split::{Split, SplitPart},
    },
    statistics::{
        compared::ComparedGenes,
        scale::{Anchor, Scale, TARGET_SUM},
    },
};

use super::{held_out::learned_from_references, model_cells::ModelCells, predicting::source_rows};
use crate::flows::{
    AGAIN,
    truth::{Truth, as_skipped, scale_of, scored},
};
use crate::flows::{Resources, completed};

/// Options of an evaluation.
#[derive(Clone, Debug, Default)]
pub struct EvaluationOptions {
    /// The scale; by default that of the atlas's values.
    pub scale: Option<Scale>,
    /// The readout of the model's output: anchored by default; predictions from a file are always raw.
    pub anchor: Option<Anchor>,
    /// The cells to evaluate; by default the held-out ones, or the valid ones if there are none.
    pub on: Option<SplitPart>,
    /// Predictions to evaluate instead of running the model.
    pub predictions: Option<PathBuf>,
}

/// The result of an evaluation.
#[derive(Debug)]
pub struct EvaluationOutcome {
    /// Scores and pictures.
    pub judgement: EvaluationEvidence,
    /// Conditions that could not be evaluated, and the reasons.
    pub skipped: Vec<Skipped>,
}

/// Evaluates a model, or predictions of its genes, on a part of a split.
///
/// # Errors
/// A part without cells, an atlas that lacks a gene of the model, predictions that lack a gene or a
/// condition, or data that can't be read.
pub fn evaluate(
    atlas: &Atlas,
    model: &Model,
    split: Split,
    options: &EvaluationOptions,
    resources: &Resources,
) -> Result<EvaluationOutcome> {
    model.card.check_labels(atlas.path(), atlas.manifest())?;
    let atlas = &atlas.with_genes(&model.card.genes)?;
    let scale = scale_for(atlas, options)?;
    let anchor = match (options.anchor, &options.predictions) {
        (Some(Anchor::Anchored), Some(_)) => {
            return Err(Error::usage("predictions from a file are evaluated as they are", "leave out --readout"));
        }
        (_, Some(_)) => Anchor::Raw,
        (anchor, None) => anchor.unwrap_or_default(),
    };
    let truth = Truth::new(atlas, split, options.on)?;
    let Truth { split, roles, batch_groups, groups, judged, .. } = &truth;
    let learned = learned_from_references(atlas, model, split, roles, *judged)?;
    let (jobs, batch_groups_of) =
        Jobs::for_evaluation(&model.card, atlas, batch_groups, Arc::clone(split), Arc::clone(roles), *judged)?;
    let groups_of: Vec<Vec<Option<usize>>> = batch_groups_of
        .iter()
        .map(|targets| targets.iter().map(|group| group.map(|group| groups.of_group(group))).collect())
        .collect();
    let judged_groups: BTreeSet<usize> = groups_of.iter().flatten().flatten().copied().collect();

    let of_file = match &options.predictions {
        Some(path) => {
            let judged: Vec<usize> = judged_groups.iter().copied().collect();
            let genes = atlas.genes();
            let selection = PredictionSelection { atlas, genes, batch_groups, groups, judged: &judged, scale };
            Some(truth.joined(prediction_set::read(path, &selection)?))
        }
        None => None,
    };
    let compared = ComparedGenes::all(atlas.genes().len());
    let real = truth.read(judged_groups, scale, compared, &ChosenScores::default(), resources)?;
    let predictions = match of_file {
        Some(predictions) => predictions,
        None => {
            let means = ModelMeans { atlas, model, jobs: &jobs, groups_of: &batch_groups_of, scale, anchor, resources }
                .predict()?;
            let cells = ModelCells { atlas, model, jobs: &jobs, groups_of: &groups_of, anchor, resources };
            let mut points = cells.predict(&real.cells)?;
            let joined = truth.joined(means).into_iter();
            joined.map(|profiles| ModelProfiles { points: points.remove(&profiles.group), ..profiles }).collect()
        }
    };
    let is_strict = !learned && truth.is_strict(&real.judged);
    let predictions = predictions.into_iter().map(|prediction| prediction.on_scale(scale)).collect();
    let table = Tabulate::new(scale, anchor, is_strict);
    let judgement = scored(&Arc::new(truth.evaluator(real)), predictions, table, resources)?;
    let mut skipped = jobs.skipped;
    skipped.extend(judgement.unscored.iter().map(as_skipped));
    Ok(EvaluationOutcome { judgement, skipped })
}

/// The requested scale, or the atlas's own; means of counts in a file don't determine the mean of logarithms.
///
/// # Errors
/// A scale that the atlas's values can't be put on, or predictions that can't be read.
pub(super) fn scale_for(atlas: &Atlas, options: &EvaluationOptions) -> Result<Scale> {
    let needs_pseudobulk = match &options.predictions {
        Some(path) if options.scale.is_none() => prediction_set::holds_means_of_counts(path)?,
        _ => false,
    };
    scale_of(atlas, options.scale.or(needs_pseudobulk.then_some(Scale::Pseudobulk)))
}

/// The means that a model predicts for every evaluated group.
struct ModelMeans<'a> {
    atlas: &'a Atlas,
    model: &'a Model,
    jobs: &'a Jobs,
    /// The group of each target of each job.
    groups_of: &'a [Vec<Option<usize>>],
    scale: Scale,
    anchor: Anchor,
    resources: &'a Resources,
}

impl ModelMeans<'_> {
    /// The predictions in the groups' order, with what the model's offset predicts alone.
    fn predict(&self) -> Result<Vec<ModelProfiles>> {
        let mut all = self.read(self.reading())?;
        if self.model.network.offset().is_some() {
            let alone = self.read(Reading { offset_alone: true, noise: false, ..self.reading() })?;
            for (profiles, alone) in all.iter_mut().zip(alone) {
                profiles.offset = Some(alone.condition);
            }
        }
        Ok(all)
    }

    fn reading(&self) -> Reading {
        let readout = match (self.scale, self.anchor) {
            (Scale::LogNormalised, Anchor::Anchored) => Readout::CountedLog1pScaled(TARGET_SUM),
            (Scale::LogNormalised, Anchor::Raw) => Readout::Log1pScaled(TARGET_SUM),
            (Scale::Log1p, Anchor::Anchored) => Readout::CountedLog1p,
            (Scale::Log1p, Anchor::Raw) => Readout::Log1p,
            (Scale::Pseudobulk, _) => Readout::Scaled(TARGET_SUM),
            (Scale::Values, _) => Readout::Expected,
        };
        let reading = Reading::from(readout);
        match self.anchor {
            Anchor::Anchored => Reading { noise: true, ..reading },
            // The same values as `predict` writes.
            Anchor::Raw => Reading { non_negative: self.model.card.non_negative, ..reading },
        }
    }

    fn read(&self, reading: Reading) -> Result<Vec<ModelProfiles>> {
        let predict = PredictMeans::new(self.model.again()?, Arc::clone(&self.jobs.jobs), reading);
        let (groups_of, anchor) = (self.groups_of.to_vec(), self.anchor);
        let sink = CollectProfiles { groups_of, anchor, control: None, profiles: Vec::new() };
        let run = source_rows(self.atlas, self.jobs, self.resources).then("predict", predict).run("collect", sink);
        Ok(completed(run, AGAIN)?.0)
    }
}

/// Turns predicted means into profiles of their groups; each job's first target is control.
struct CollectProfiles {
    groups_of: Vec<Vec<Option<usize>>>,
    anchor: Anchor,
    control: Option<Arc<ControlProfile>>,
    profiles: Vec<ModelProfiles>,
}

impl Sink for CollectProfiles {
    type In = TargetMeans;
    type Summary = Vec<ModelProfiles>;

    fn push(&mut self, means: TargetMeans) -> Result<ControlFlow<()>, BoxError> {
        let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
        let (mean, variance) = (wide(&means.mean), wide(&means.variance));
        match self.groups_of[means.job][means.target] {
            None if self.anchor == Anchor::Anchored => {
                self.control = Some(Arc::new(ControlProfile { mean, variance }));
            }
            None => {}
            Some(group) => {
                let control = self.control.clone();
                let distance = means.distance.map(f64::from);
                self.profiles.push(ModelProfiles {
                    group,
                    condition: mean,
                    variance: Some(variance),
                    points: None,
                    offset: None,
                    control,
                    distance,
                    tests: None,
                });
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(mut self) -> Result<Self::Summary, BoxError> {
        self.profiles.sort_by_key(|profiles| profiles.group);
        Ok(self.profiles)
    }
}
