//! Some cells of every group as points: `order → read → batch → axes` over a sample of training cells, `… → project` over real
//! cells, and `… → predict → gather` from a few controls of each context.

use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
    sync::Arc,
};

use schemas::{
    Result,
    batch::{BatchPlan, Role},
    conditions::CONTROL,
    ids::CellIndex,
    numbers::bounded,
};
use stages::{
    BoxError, Sink,
    evaluate::{
        ContextGroups,
        evaluator::PointSets,
        sampled::{GatherPoints, ProjectCells, SampledCells, cells_per_group, training_sample},
    },
    model::saved::Model,
    predictor::{
        predict::{PredictPointSets, TargetCells, batch_size},
        query::Jobs,
    },
    reader::{
        atlas::Atlas,
        control_roles::ControlRoles,
        groups::Groups,
        split::{Split, SplitPart},
    },
    statistics::{
        axes::Axes,
        compared::ComparedGenes,
        point_sets::PointSet,
        scale::{Anchor, Scale},
    },
    trainer::principal::{FindAxes, sample_size},
};

use super::{AGAIN, stored_order::rows_as_stored};
use crate::{
    flows::{Resources, completed, rows},
    runtime::Pipeline,
};

/// The cells that an evaluation compares: which they are, and what they are for.
pub(super) struct EvaluatedCells<'a> {
    pub(super) atlas: &'a Atlas,
    pub(super) split: &'a Arc<Split>,
    pub(super) roles: &'a ControlRoles,
    pub(super) batch_groups: &'a Groups,
    pub(super) groups: &'a ContextGroups,
    pub(super) judged: SplitPart,
    /// Indices of the joined groups that are evaluated.
    pub(super) judged_groups: &'a [usize],
    pub(super) compared: &'a Arc<ComparedGenes>,
}

/// Real cells of evaluated groups, and of the controls from which predictions start, as points.
pub(super) struct RealCells {
    axes: Arc<Axes>,
    sampled: Arc<SampledCells>,
    point_sets: Vec<[PointSet; 2]>,
    /// The controls of each context, as a joined group.
    controls: HashMap<Vec<u32>, usize>,
}

impl RealCells {
    /// Without cells, for scores that need none; this many groups.
    pub(super) fn none(scale: Scale, groups: usize) -> Self {
        let axes = Arc::new(Axes::new(scale.of_cells(), 0, Vec::new()));
        let point_sets = vec![[axes.empty_point_set(), axes.empty_point_set()]; groups];
        Self { axes, sampled: Arc::default(), point_sets, controls: HashMap::new() }
    }

    /// Chooses cells, finds the space in which to compare them, and projects them.
    ///
    /// # Errors
    /// Data that can't be read, or a run that was stopped.
    pub(super) fn prepare(cells: &EvaluatedCells<'_>, scale: Scale, resources: &Resources) -> Result<Self> {
        let EvaluatedCells { atlas, split, roles, batch_groups, groups, judged, judged_groups, compared } = *cells;
        // Where nothing is known of what was trained on, any cell may be looked at.
        let none_trains = split.counts()[&SplitPart::Train] == 0;
        let trains = |cell| none_trains || split.part(cell) == SplitPart::Train;
        let sample = Arc::new(training_sample(atlas, sample_size(compared.chosen().len()), trains));
        let (axes, _) = completed(
            chosen_rows(atlas, &sample, resources).run("axes", FindAxes::new(scale.of_cells(), Arc::clone(compared))),
            AGAIN,
        )?;
        let axes = Arc::new(axes);

        let is_judged: HashSet<usize> = judged_groups.iter().copied().collect();
        let group_of = |cell: CellIndex| {
            let group = groups.of_group(batch_groups.find(atlas.codes(cell))?);
            let part = split.part(cell);
            let is_eligible = match atlas.condition(cell) == CONTROL {
                true => roles.is_source(cell, part),
                false => part == judged && is_judged.contains(&group),
            };
            is_eligible.then_some(group)
        };
        let most = cells_per_group(judged_groups.len());
        let sampled = Arc::new(SampledCells::choose(atlas.cells(), groups.all().len(), most, group_of));
        let project = ProjectCells::new(Arc::clone(&axes), Arc::clone(&sampled));
        let run = chosen_rows(atlas, &sampled, resources)
            .map("project", resources.threads, move |rows| Ok(project.project(&rows)))
            .run("gather", GatherPoints::new(&axes, groups.all().len()));
        let (point_sets, _) = completed(run, AGAIN)?;
        let controls = groups.all().iter().enumerate().filter(|(_, group)| group.condition == CONTROL);
        let controls = controls.map(|(at, group)| (group.context.clone(), at)).collect();
        Ok(Self { axes, sampled, point_sets, controls })
    }

    /// The space in which cells are compared.
    pub(super) fn axes(&self) -> &Arc<Axes> {
        &self.axes
    }

    /// The real cells as points.
    pub(super) fn into_points(self) -> PointSets {
        PointSets { axes: Arc::unwrap_or_clone(self.axes), real: self.point_sets }
    }
}

/// The source cells and targets of a model's predicted cells.
pub(super) struct ModelCells<'a> {
    pub(super) atlas: &'a Atlas,
    pub(super) model: &'a Model,
    pub(super) jobs: &'a Jobs,
    /// The joined group of each target of each job.
    pub(super) groups_of: &'a [Vec<Option<usize>>],
    pub(super) anchor: Anchor,
    pub(super) resources: &'a Resources,
}

impl ModelCells<'_> {
    /// Predicts the chosen controls of each context under each of its targets.
    ///
    /// # Errors
    /// Data that can't be read, or a run that was stopped.
    pub(super) fn predict(&self, real: &RealCells) -> Result<HashMap<usize, PointSet>> {
        let mut plans: Vec<BatchPlan> = Vec::new();
        for (at, job) in self.jobs.jobs.iter().enumerate() {
            let contexts: HashSet<&[u32]> = job.contexts.iter().map(|context| self.atlas.context_of(context)).collect();
            let controls = contexts.into_iter().filter_map(|context| real.controls.get(context));
            let is_source =
                |cell: &CellIndex| job.contexts.iter().any(|context| context == self.atlas.covariates(*cell));
            let cells: Vec<CellIndex> =
                controls.flat_map(|control| real.sampled.of_group(*control)).filter(is_source).collect();
            let batches = cells.chunks(batch_size(job.targets.len()));
            let count = batches.len();
            plans.extend(batches.enumerate().map(|(index, cells)| BatchPlan {
                pass: bounded(at),
                index: index as u64,
                role: Role::Source,
                last: index + 1 == count,
                cells: cells.to_vec(),
                rows: cells.iter().map(|cell| self.atlas.row(*cell)).collect(),
            }));
        }
        let predict = PredictPointSets::new(self.model.again()?, Arc::clone(&self.jobs.jobs), &real.axes, self.anchor);
        let sink = CollectPointSets {
            groups_of: self.groups_of.to_vec(),
            empty: real.axes.empty_point_set(),
            point_sets: HashMap::new(),
        };
        let run = rows(self.atlas, plans, self.resources).then("predict", predict).run("gather", sink);
        Ok(completed(run, AGAIN)?.0)
    }
}

/// Chosen cells in storage order.
fn chosen_rows(
    atlas: &Atlas,
    chosen: &Arc<SampledCells>,
    resources: &Resources,
) -> Pipeline<stages::reader::profiles::ExpressionRows> {
    let chosen = Arc::clone(chosen);
    let plans = rows_as_stored(atlas, move |cell| chosen.group(cell).is_some());
    rows(atlas, plans.filter(|plan| !plan.cells.is_empty()), resources)
}

/// Collects the predicted cells of a group.
struct CollectPointSets {
    groups_of: Vec<Vec<Option<usize>>>,
    empty: PointSet,
    point_sets: HashMap<usize, PointSet>,
}

impl Sink for CollectPointSets {
    type In = TargetCells;
    type Summary = HashMap<usize, PointSet>;

    fn push(&mut self, cells: TargetCells) -> Result<ControlFlow<()>, BoxError> {
        if let Some(group) = self.groups_of[cells.job][cells.target] {
            self.point_sets.entry(group).or_insert_with(|| self.empty.clone()).extend(&cells.points);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Self::Summary, BoxError> {
        Ok(self.point_sets)
    }
}
