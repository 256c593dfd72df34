//! Two passes: `order → read → batch → profiles` over all cells, then `… → predict` from half of the controls.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc};

use schemas::{Error, Result, atlas::ValueKind};
use stages::{
    BoxError, Sink,
    atlas::Atlas,
    evaluate::Scale,
    groups::Groups,
    judge::{Anchor, Judgement, ModelProfiles, judge},
    predict::{PredictMeans, Readout, TargetMeans},
    profiles::{GroupProfiles, SumProfiles},
    query::{Jobs, Skipped},
    saved::Model,
    split::{Part, Split},
};

use super::{Resources, completed, predicting::source_rows, rows, stored_order::rows_as_stored};

/// What each cell's counts are scaled to on the pseudobulk scale.
const TARGET_SUM: f64 = 1e4;

/// How a model is judged.
#[derive(Clone, Copy, Debug)]
pub struct JudgeOptions {
    /// The scale; that of the atlas's values where nothing is said.
    pub scale: Option<Scale>,
    /// How the model's output is read.
    pub anchor: Anchor,
}

/// What came of an evaluation.
#[derive(Debug)]
pub struct Judged {
    /// Numbers and pictures.
    pub judgement: Judgement,
    /// Conditions that could not be judged, and why.
    pub skipped: Vec<Skipped>,
}

/// Judges a model on what a split holds out; where it holds nothing out, on its `valid` rows.
///
/// # Errors
/// A split without any such row, an atlas that lacks a gene of the model, data that can't be read.
pub fn evaluate(
    atlas: &Atlas,
    model: &Model,
    split: Split,
    options: JudgeOptions,
    resources: &Resources,
) -> Result<Judged> {
    let atlas = &atlas.with_genes(&model.card.genes)?;
    let scale = match (options.scale, atlas.manifest().values) {
        (None, ValueKind::Counts) => Scale::Log1p,
        (None, ValueKind::Continuous) => Scale::Values,
        (Some(Scale::Values), ValueKind::Counts) => {
            return Err(Error::usage("the scale `values` is for continuous atlases", "use log1p or pseudobulk"));
        }
        (Some(Scale::Log1p | Scale::Pseudobulk), ValueKind::Continuous) => {
            return Err(Error::usage(
                "the scales log1p and pseudobulk are for counts",
                "leave --scale out: this atlas's values are judged as they are",
            ));
        }
        (Some(scale), _) => scale,
    };
    let counts = split.counts();
    let judged = if 0 < counts[&Part::Ood] { Part::Ood } else { Part::Valid };
    if counts[&judged] == 0 {
        return Err(Error::usage(
            "the split holds nothing out and has no valid rows",
            "make another with `perturbine split --hold-out`",
        ));
    }
    let split = Arc::new(split);
    let groups = Arc::new(Groups::of(atlas, Some(&split)));
    let sink = SumProfiles::new(atlas, Arc::clone(&split), Arc::clone(&groups), judged, scale, TARGET_SUM);
    let again = "run the same command again";
    let (profiles, _): (Vec<GroupProfiles>, _) =
        completed(rows(atlas, rows_as_stored(atlas, |_| true), resources).run("profiles", sink), again)?;

    let (jobs, groups_of) = Jobs::to_judge(&model.card, atlas, &groups, Arc::clone(&split), judged)?;
    let readout = match scale {
        Scale::Log1p => Readout::Log1p,
        Scale::Pseudobulk => Readout::Scaled(TARGET_SUM),
        Scale::Values => Readout::Expected,
    };
    let predict = PredictMeans::new(model.again()?, Arc::clone(&jobs.jobs), readout);
    let sink = Collect { groups_of, scale, control: Vec::new(), profiles: HashMap::new() };
    let run = source_rows(atlas, &jobs, resources).then("predict", predict).run("collect", sink);
    let (predictions, _) = completed(run, again)?;
    let judgement = judge(atlas, &groups, judged, scale, options.anchor, &profiles, &predictions);
    Ok(Judged { judgement, skipped: jobs.skipped })
}

/// Turns predicted means into profiles of the groups they are of; each job's first target is control.
struct Collect {
    groups_of: Vec<Vec<Option<usize>>>,
    scale: Scale,
    control: Vec<f64>,
    profiles: HashMap<usize, ModelProfiles>,
}

impl Sink for Collect {
    type In = TargetMeans;
    type Summary = HashMap<usize, ModelProfiles>;

    fn push(&mut self, means: TargetMeans) -> Result<ControlFlow<()>, BoxError> {
        let pseudobulk = self.scale == Scale::Pseudobulk;
        let on_log = |mean: f64| if pseudobulk { mean.ln_1p() } else { mean };
        let mean: Vec<f64> = means.mean.iter().map(|mean| on_log((*mean).into())).collect();
        match self.groups_of[means.job][means.target] {
            None => self.control = mean,
            Some(group) => {
                // As for real profiles: to first order, the variance follows the logarithm of its mean.
                let slope = |mean: f32| if pseudobulk { 1.0 / (1.0 + f64::from(mean)) } else { 1.0 };
                let variance = means.variance.iter().zip(&means.mean);
                let variance = variance.map(|(variance, mean)| f64::from(*variance) * slope(*mean).powi(2)).collect();
                let profiles = ModelProfiles { variance, condition: mean, control: self.control.clone() };
                self.profiles.insert(group, profiles);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Self::Summary, BoxError> {
        Ok(self.profiles)
    }
}
