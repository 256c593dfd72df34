//! The real cells that predictions are compared with: `order → read → batch → convert → profiles` over all cells, and a few cells of each
//! group as points.

use std::{collections::BTreeSet, sync::Arc};

use evaluate::{
    ChosenScores, ContextGroups,
    evaluator::{EvaluationEvidence, Evaluator, ModelProfiles, RealProfiles, Tabulate, Unscored},
};
use reader::{
    atlas::Atlas,
    control_roles::ControlRoles,
    groups::Groups,
    profiles::{GroupProfiles, ScaleRows, SumProfiles},
    split::{Split, SplitPart},
};
use schemas::skipped::Skipped;
use schemas::{Error, Result, atlas::ValueKind, conditions::CONTROL};
use statistics::{compared::ComparedGenes, scale::Scale};

use super::{
    AGAIN,
    real_cells::{EvaluatedCells, RealCells},
    stored_order::rows_as_stored,
};
use crate::{Resources, completed, rows};
use runtime::Pipeline;

/// Which cells of an atlas are evaluated, and what the others are for.
pub struct Truth {
    /// The atlas.
    pub atlas: Atlas,
    /// Its division into parts.
    pub split: Arc<Split>,
    /// Which controls predictions start from, and which are references.
    pub roles: Arc<ControlRoles>,
    /// The groups of condition, covariates and batch.
    pub batch_groups: Arc<Groups>,
    /// The same, joined over batches.
    pub groups: Arc<ContextGroups>,
    /// The part whose cells are evaluated.
    pub judged: SplitPart,
}

/// The evaluated groups, with the profiles of their cells.
pub struct RealGroups {
    /// Indices of the joined groups that are evaluated.
    pub judged: Vec<usize>,
    /// The scale of the comparison.
    pub scale: Scale,
    /// The genes that are compared.
    pub compared: Arc<ComparedGenes>,
    /// The scores to compute.
    pub scores: ChosenScores,
    /// Some of the cells as points.
    pub cells: RealCells,
    profiles: Vec<GroupProfiles>,
}

impl Truth {
    /// Divides an atlas's cells.
    ///
    /// # Errors
    /// A part without perturbed cells.
    pub fn new(atlas: &Atlas, split: Split, on: Option<SplitPart>) -> Result<Self> {
        let split = Arc::new(split);
        let batch_groups = Arc::new(Groups::from_atlas(atlas, Some(&split)));
        let judged = judged_part(&batch_groups, on)?;
        let groups = Arc::new(ContextGroups::new(atlas, &batch_groups));
        let roles = Arc::new(ControlRoles::new(atlas, &split));
        Ok(Self { atlas: atlas.clone(), split, roles, batch_groups, groups, judged })
    }

    /// The joined groups with perturbed cells to evaluate.
    pub fn judged_groups(&self) -> Vec<usize> {
        let has_cells = |at: &usize| {
            let group = &self.groups.all()[*at];
            let cells = |member: &usize| self.batch_groups.all()[*member].cells_for(self.judged);
            group.condition != CONTROL && group.members.iter().any(|member| cells(member) > 0)
        };
        (0..self.groups.all().len()).filter(has_cells).collect()
    }

    /// Reads the cells of these groups, and of all that baselines learn from, as far as these scores need them.
    ///
    /// # Errors
    /// Data that can't be read, or a run that was stopped.
    pub fn read(
        &self,
        judged: BTreeSet<usize>,
        scale: Scale,
        compared: ComparedGenes,
        scores: &ChosenScores,
        resources: &Resources,
    ) -> Result<RealGroups> {
        let Self { atlas, split, roles, batch_groups, groups, .. } = self;
        let (judged, compared): (Vec<usize>, _) = (judged.into_iter().collect(), Arc::new(compared));
        let sink = SumProfiles::new(
            atlas,
            Arc::clone(split),
            Arc::clone(batch_groups),
            Arc::clone(roles),
            self.judged,
            compared.chosen().len(),
        );
        let scaled = ScaleRows::new(scale, Arc::clone(&compared));
        let run = rows(atlas, rows_as_stored(atlas, |_| true), resources)
            .map("convert", resources.threads, move |rows| Ok(scaled.convert(&rows)))
            .run("profiles", sink);
        let (profiles, _): (Vec<GroupProfiles>, _) = completed(run, AGAIN)?;
        let evaluated = EvaluatedCells {
            atlas,
            split,
            roles,
            batch_groups,
            groups,
            judged: self.judged,
            judged_groups: &judged,
            compared: &compared,
        };
        let cells = match scores.need_points() {
            true => RealCells::prepare(&evaluated, scale, resources)?,
            false => RealCells::none(scale, groups.all().len()),
        };
        Ok(RealGroups { judged, scale, compared, scores: scores.clone(), cells, profiles })
    }

    /// Joins predictions for batches, weighted by their evaluated cells.
    pub fn joined(&self, predictions: Vec<ModelProfiles>) -> Vec<ModelProfiles> {
        let cells_of = |group: usize| self.batch_groups.all()[group].cells_for(self.judged);
        self.groups.joined(predictions, cells_of)
    }

    /// A group that is not evaluated, and why.
    pub fn skipped(&self, group: usize, why: String) -> Skipped {
        let group = &self.groups.all()[group];
        let manifest = self.atlas.manifest();
        let names = manifest.covariates.iter().map(|covariate| covariate.name.clone());
        let covariates = names.zip(self.atlas.covariate_values(&group.context)).collect();
        Skipped { condition: manifest.conditions.name(group.condition).to_owned(), covariates, why }
    }

    /// Whether references of every evaluated context were set apart.
    pub fn is_strict(&self, judged: &[usize]) -> bool {
        judged.iter().all(|group| self.roles.is_strict(&self.groups.all()[*group].context))
    }

    /// An evaluator of predictions of these groups.
    pub fn evaluator(&self, real: RealGroups) -> Evaluator {
        let RealGroups { scale, compared, scores, cells, profiles, .. } = real;
        let real = RealProfiles { scale, compared, profiles, point_sets: cells.into_points() };
        Evaluator::new(&self.atlas, &self.batch_groups, Arc::clone(&self.groups), self.judged, real).only(scores)
    }
}

/// `conditions → judge → table`: scores predictions of joined groups.
///
/// # Errors
/// A run that was stopped.
pub fn scored(
    evaluator: &Arc<Evaluator>,
    predictions: Vec<ModelProfiles>,
    table: Tabulate,
    resources: &Resources,
) -> Result<EvaluationEvidence> {
    let conditions = predictions.into_iter().map(Ok::<ModelProfiles, Error>);
    let evaluator = Arc::clone(evaluator);
    let run = Pipeline::from_source("conditions", resources.edge(), conditions)
        .with_stop(resources.stop.clone())
        .map("judge", resources.threads, move |prediction| Ok(evaluator.evaluate(&prediction)))
        .run("table", table);
    Ok(completed(run, AGAIN)?.0)
}

/// A condition that could not be scored, as it is listed.
pub fn as_skipped(Unscored { condition, covariates, why }: &Unscored) -> Skipped {
    Skipped { condition: condition.clone(), covariates: covariates.clone(), why: (*why).into() }
}

/// The scale that was asked for, or that of the atlas's values.
///
/// # Errors
/// A scale that the values can't be put on.
pub fn scale_of(atlas: &Atlas, requested: Option<Scale>) -> Result<Scale> {
    match (requested, atlas.manifest().values) {
        (None, ValueKind::Counts) => Ok(Scale::LogNormalised),
        (None, ValueKind::Continuous) => Ok(Scale::Values),
        (Some(Scale::Values), ValueKind::Counts) => {
            Err(Error::usage("the scale `values` is for continuous atlases", "use log1p_cp10k, log1p or pseudobulk"))
        }
        (Some(Scale::LogNormalised | Scale::Log1p | Scale::Pseudobulk), ValueKind::Continuous) => Err(Error::usage(
            "the scales log1p_cp10k, log1p and pseudobulk are for counts",
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
