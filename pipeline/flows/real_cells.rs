//! Some cells of every group as points: `order → read → batch → axes` over a sample of training cells, `… → project` over real
//! cells.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use evaluate::{
    ContextGroups,
    evaluator::PointSets,
    sample_axes::{FindAxes, sample_size},
    sampled::{GatherPoints, ProjectCells, SampledCells, cells_per_group, training_sample},
};
use reader::{
    atlas::Atlas,
    control_roles::ControlRoles,
    groups::Groups,
    split::{Split, SplitPart},
};
use schemas::{Result, conditions::CONTROL, ids::CellIndex};
use statistics::{axes::Axes, compared::ComparedGenes, point_sets::PointSet, scale::Scale};

use super::{AGAIN, stored_order::rows_as_stored};
use crate::{Resources, completed, rows};
use runtime::Pipeline;

/// The cells that an evaluation compares: which they are, and what they are for.
pub(crate) struct EvaluatedCells<'a> {
    pub(crate) atlas: &'a Atlas,
    pub(crate) split: &'a Arc<Split>,
    pub(crate) roles: &'a ControlRoles,
    pub(crate) batch_groups: &'a Groups,
    pub(crate) groups: &'a ContextGroups,
    pub(crate) judged: SplitPart,
    /// Indices of the joined groups that are evaluated.
    pub(crate) judged_groups: &'a [usize],
    pub(crate) compared: &'a Arc<ComparedGenes>,
}

/// Real cells of evaluated groups, and of the controls from which predictions start, as points.
pub struct RealCells {
    axes: Arc<Axes>,
    sampled: Arc<SampledCells>,
    point_sets: Vec<[PointSet; 2]>,
    /// The controls of each context, as a joined group.
    controls: HashMap<Vec<u32>, usize>,
}

impl RealCells {
    /// Without cells, for scores that need none; this many groups.
    pub(crate) fn none(scale: Scale, groups: usize) -> Self {
        let axes = Arc::new(Axes::new(scale.of_cells(), 0, Vec::new()));
        let point_sets = vec![[axes.empty_point_set(), axes.empty_point_set()]; groups];
        Self { axes, sampled: Arc::default(), point_sets, controls: HashMap::new() }
    }

    /// Chooses cells, finds the space in which to compare them, and projects them.
    ///
    /// # Errors
    /// Data that can't be read, or a run that was stopped.
    pub(crate) fn prepare(cells: &EvaluatedCells<'_>, scale: Scale, resources: &Resources) -> Result<Self> {
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
    pub fn axes(&self) -> &Arc<Axes> {
        &self.axes
    }

    /// The chosen controls of a context, in the atlas's order.
    pub fn controls_of(&self, context: &[u32]) -> impl Iterator<Item = CellIndex> {
        self.controls.get(context).into_iter().flat_map(|control| self.sampled.of_group(*control))
    }

    /// The real cells as points.
    pub(crate) fn into_points(self) -> PointSets {
        PointSets { axes: Arc::unwrap_or_clone(self.axes), real: self.point_sets }
    }
}

/// Chosen cells in storage order.
fn chosen_rows(
    atlas: &Atlas,
    chosen: &Arc<SampledCells>,
    resources: &Resources,
) -> Pipeline<reader::profiles::ExpressionRows> {
    let chosen = Arc::clone(chosen);
    let plans = rows_as_stored(atlas, move |cell| chosen.group(cell).is_some());
    rows(atlas, plans.filter(|plan| !plan.cells.is_empty()), resources)
}
