//! `order → read → batch → profiles` over all cells, `… → predict → collect` from half of the controls, the same for a few cells
//! of each group, and then `conditions → judge → table`.

use std::{
    collections::{BTreeSet, HashMap},
    ops::ControlFlow,
    path::PathBuf,
    sync::Arc,
};

use schemas::{Error, Result, atlas::ValueKind, conditions::CONTROL};
use stages::{
    BoxError, Sink,
    evaluate::{
        ContextGroups,
        evaluator::{ControlProfile, EvaluationEvidence, Evaluator, ModelProfiles, Tabulate, Unscored},
        prediction_set::{self, PredictionSelection},
    },
    model::saved::Model,
    predictor::{
        predict::{PredictMeans, Reading, Readout, TargetMeans},
        query::{Jobs, Skipped},
    },
    reader::{
        atlas::Atlas,
        control_roles::ControlRoles,
        groups::Groups,
        profiles::{GroupProfiles, SumProfiles},
        split::{Split, SplitPart},
    },
    statistics::scale::{Anchor, Scale},
};

use super::{
    evaluation_cells::{EvaluatedCells, ModelCells, RealCells},
    held_out::learned_from_references,
    predicting::source_rows,
    stored_order::rows_as_stored,
};
use crate::{
    flows::{Resources, completed, rows},
    runtime::Pipeline,
};

/// Target sum of each cell's counts on the pseudobulk scale.
pub(super) const TARGET_SUM: f64 = 1e4;

/// The hint after a stopped run.
pub(super) const AGAIN: &str = "run the same command again";

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
    let atlas = &atlas.with_genes(&model.card.genes)?;
    let scale = scale_for(atlas, options)?;
    let anchor = match (options.anchor, &options.predictions) {
        (Some(Anchor::Anchored), Some(_)) => {
            return Err(Error::usage("predictions from a file are evaluated as they are", "leave out --readout"));
        }
        (_, Some(_)) => Anchor::Raw,
        (anchor, None) => anchor.unwrap_or_default(),
    };
    let split = Arc::new(split);
    let batch_groups = Arc::new(Groups::from_atlas(atlas, Some(&split)));
    let judged = judged_part(&batch_groups, options.on)?;
    let groups = Arc::new(ContextGroups::new(atlas, &batch_groups));
    let roles = Arc::new(ControlRoles::new(atlas, &split));
    let learned = learned_from_references(atlas, model, &split, &roles, judged)?;
    let (jobs, batch_groups_of) =
        Jobs::for_evaluation(&model.card, atlas, &batch_groups, Arc::clone(&split), Arc::clone(&roles), judged)?;
    let groups_of: Vec<Vec<Option<usize>>> = batch_groups_of
        .iter()
        .map(|targets| targets.iter().map(|group| group.map(|group| groups.of_group(group))).collect())
        .collect();
    let judged_groups: Vec<usize> =
        groups_of.iter().flatten().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();

    let of_file = match &options.predictions {
        Some(path) => {
            let selection = PredictionSelection {
                atlas,
                batch_groups: &batch_groups,
                groups: &groups,
                judged: &judged_groups,
                scale,
                target_sum: TARGET_SUM,
            };
            Some(prediction_set::read(path, &selection)?)
        }
        None => None,
    };
    let sink = SumProfiles::new(
        atlas,
        Arc::clone(&split),
        Arc::clone(&batch_groups),
        Arc::clone(&roles),
        judged,
        scale,
        TARGET_SUM,
    );
    let (profiles, _): (Vec<GroupProfiles>, _) =
        completed(rows(atlas, rows_as_stored(atlas, |_| true), resources).run("profiles", sink), AGAIN)?;
    let evaluated = EvaluatedCells {
        atlas,
        split: &split,
        roles: &roles,
        batch_groups: &batch_groups,
        groups: &groups,
        judged,
        judged_groups: &judged_groups,
    };
    let real = RealCells::prepare(&evaluated, scale, resources)?;
    let (predictions, predicted) = match of_file {
        Some(predictions) => (predictions, HashMap::new()),
        None => {
            let means = model_means(atlas, model, &jobs, &batch_groups_of, scale, anchor, resources)?;
            let cells = ModelCells { atlas, model, jobs: &jobs, groups_of: &groups_of, anchor, resources };
            (means, cells.predict(&real)?)
        }
    };
    let cells_of = |group: usize| batch_groups.all()[group].cells_for(judged);
    let predictions: Vec<ModelProfiles> =
        groups.joined(predictions, cells_of).into_iter().map(|prediction| prediction.on_scale(scale)).collect();
    let is_strict =
        !learned && predictions.iter().all(|prediction| roles.is_strict(&groups.all()[prediction.group].context));

    let point_sets = real.with_predicted(predicted);
    let evaluator = Evaluator::new(atlas, &batch_groups, groups, judged, scale, profiles, point_sets);
    let conditions = predictions.into_iter().map(Ok::<ModelProfiles, Error>);
    let run = Pipeline::from_source("conditions", resources.edge(), conditions)
        .with_stop(resources.stop.clone())
        .map("judge", resources.threads, move |prediction| Ok(evaluator.evaluate(&prediction)))
        .run("table", Tabulate::new(scale, anchor, is_strict));
    let (judgement, _) = completed(run, AGAIN)?;
    let mut skipped = jobs.skipped;
    skipped.extend(judgement.unscored.iter().map(|Unscored { condition, covariates, why }| Skipped {
        condition: condition.clone(),
        covariates: covariates.clone(),
        why: (*why).into(),
    }));
    Ok(EvaluationOutcome { judgement, skipped })
}

/// The requested scale, or the atlas's own; means of counts in a file don't determine the mean of logarithms.
pub(super) fn scale_for(atlas: &Atlas, options: &EvaluationOptions) -> Result<Scale> {
    match (options.scale, atlas.manifest().values) {
        (None, ValueKind::Counts) if options.predictions.is_some() => Ok(Scale::Pseudobulk),
        (None, ValueKind::Counts) => Ok(Scale::Log1p),
        (None, ValueKind::Continuous) => Ok(Scale::Values),
        (Some(Scale::Values), ValueKind::Counts) => {
            Err(Error::usage("the scale `values` is for continuous atlases", "use log1p or pseudobulk"))
        }
        (Some(Scale::Log1p | Scale::Pseudobulk), ValueKind::Continuous) => Err(Error::usage(
            "the scales log1p and pseudobulk are for counts",
            "leave out --scale: this atlas's values are evaluated as they are",
        )),
        (Some(scale), _) => Ok(scale),
    }
}

fn judged_part(groups: &Groups, on: Option<SplitPart>) -> Result<SplitPart> {
    let has_cells = |part| groups.all().iter().any(|group| group.condition != CONTROL && group.cells_for(part) > 0);
    match on {
        Some(part) if !has_cells(part) => Err(Error::usage(
            format!("the split has no perturbed `{}` cells", part.name()),
            "evaluate other cells with --on, or another split with --split",
        )),
        Some(part) => Ok(part),
        None if has_cells(SplitPart::Ood) => Ok(SplitPart::Ood),
        None if has_cells(SplitPart::Valid) => Ok(SplitPart::Valid),
        None => Err(Error::usage(
            "the split holds nothing out and has no valid cells",
            "make another with `perturbine split --hold-out`, or evaluate training cells with --on train",
        )),
    }
}

/// The model's predictions for every evaluated group, in the groups' order.
fn model_means(
    atlas: &Atlas,
    model: &Model,
    jobs: &Jobs,
    groups_of: &[Vec<Option<usize>>],
    scale: Scale,
    anchor: Anchor,
    resources: &Resources,
) -> Result<Vec<ModelProfiles>> {
    let readout = match (scale, anchor) {
        (Scale::Log1p, Anchor::Anchored) => Readout::CountedLog1p,
        (Scale::Log1p, Anchor::Raw) => Readout::Log1p,
        (Scale::Pseudobulk, _) => Readout::Scaled(TARGET_SUM),
        (Scale::Values, _) => Readout::Expected,
    };
    let mut reading = Reading::from(readout);
    reading.noise |= anchor == Anchor::Anchored;
    let predict = PredictMeans::new(model.again()?, Arc::clone(&jobs.jobs), reading);
    let sink = CollectProfiles { groups_of: groups_of.to_vec(), anchor, control: None, profiles: Vec::new() };
    let run = source_rows(atlas, jobs, resources).then("predict", predict).run("collect", sink);
    Ok(completed(run, AGAIN)?.0)
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
                self.profiles.push(ModelProfiles { group, condition: mean, variance, control, distance });
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(mut self) -> Result<Self::Summary, BoxError> {
        self.profiles.sort_by_key(|profiles| profiles.group);
        Ok(self.profiles)
    }
}
