//! Predicted cells of every group as points: `order → read → predict → gather` from a few controls of each context.

use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
    sync::Arc,
};

use schemas::{
    Result,
    batch::{BatchPlan, Role},
    ids::CellIndex,
    numbers::bounded,
};
use stages::{
    BoxError, Sink,
    model::saved::Model,
    predictor::{
        predict::{PredictPointSets, TargetCells, batch_size},
        query::Jobs,
    },
    reader::atlas::Atlas,
    statistics::{point_sets::PointSet, scale::Anchor},
};

use crate::flows::{AGAIN, Resources, completed, real_cells::RealCells, rows};

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
            let is_source =
                |cell: &CellIndex| job.contexts.iter().any(|context| context == self.atlas.covariates(*cell));
            let cells: Vec<CellIndex> =
                contexts.into_iter().flat_map(|context| real.controls_of(context)).filter(is_source).collect();
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
        let predict = PredictPointSets::new(self.model.again()?, Arc::clone(&self.jobs.jobs), real.axes(), self.anchor);
        let sink = CollectPointSets {
            groups_of: self.groups_of.to_vec(),
            empty: real.axes().empty_point_set(),
            point_sets: HashMap::new(),
        };
        let run = rows(self.atlas, plans, self.resources).then("predict", predict).run("gather", sink);
        Ok(completed(run, AGAIN)?.0)
    }
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
