//! Predictions in terms of a model and an atlas: the targets, and the cells to predict them from.

use std::{collections::HashSet, sync::Arc};

use model_card::ModelCard;
use reader::{
    atlas::{Atlas, some_of},
    control_roles::ControlRoles,
    groups::Groups,
    split::{Split, SplitPart},
};
use schemas::{
    Error, Result,
    conditions::CONTROL,
    ids::{CellIndex, ConditionId},
    numbers::to_usize,
    skipped::Skipped,
};

use super::{
    OnNoControl, OnUnseen, Query,
    fitting_values::check_values,
    resolve::{EvaluatedGroup, Resolver},
    target::{IsSource, Job, targets_per_job},
};

/// Some of a job's source cells, consecutive in the atlas's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellSpan {
    /// Index of the job.
    pub job: usize,
    /// The cell of the atlas from which to search for them.
    pub from: CellIndex,
    /// Number of the job's cells before it, whether chosen or not.
    pub passed: u64,
    /// Number of cells in the span.
    pub cells: u64,
}

/// A query in terms of a model and an atlas.
#[derive(Clone)]
pub struct Jobs {
    /// The jobs, in order.
    pub jobs: Arc<Vec<Job>>,
    /// The skipped targets.
    pub skipped: Vec<Skipped>,
    is_source: IsSource,
    most_cells: u64,
    /// The parts of the jobs to run; by default all.
    spans: Option<Arc<Vec<CellSpan>>>,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").field("jobs", &self.jobs).field("skipped", &self.skipped).finish_non_exhaustive()
    }
}

impl Jobs {
    /// Resolves a query; `split` defines which cells are held out.
    ///
    /// # Errors
    /// Values of another kind than the model's, names that the model or the atlas does not know, or covariates
    /// without source cells, unless they are to be skipped.
    pub fn resolve(query: &Query, card: &ModelCard, atlas: &Atlas, split: Option<&Split>) -> Result<Self> {
        check_fits(card, atlas)?;
        let matches = query.from.as_ref().map(|selector| selector.on(atlas)).transpose()?;
        let source_atlas = atlas.clone();
        let is_source: IsSource = match matches {
            Some(matches) => Arc::new(move |cell| matches(source_atlas.codes(cell))),
            None => Arc::new(move |cell| source_atlas.condition(cell) == CONTROL),
        };
        let embedded = query.unseen == OnUnseen::Embedding;
        if embedded && card.vocabulary.embedding_width.is_none() {
            return Err(Error::usage(
                "the model has no table of embeddings",
                "train one with --set model.perturbation_embeddings=FILE",
            ));
        }
        let mut resolver = Resolver::new(card, atlas, &is_source, embedded);
        resolver.set_defaults(query)?;
        let groups = Groups::from_atlas(atlas, split);
        for request in &query.to {
            resolver.add(request, query, &groups)?;
        }
        let (jobs, skipped) = resolver.finish(query.no_control)?;
        let most_cells = query.cells_per_condition.map_or(u64::MAX, u64::from);
        Ok(Self { jobs: Arc::new(jobs), skipped, is_source, most_cells, spans: None })
    }

    /// The request of an evaluation: every condition of the `judged` part, and control alongside it, predicted
    /// from the controls whose role it is. Also returns each target's group, `None` for control.
    /// Conditions that can't be predicted are skipped.
    ///
    /// # Errors
    /// An atlas whose covariates or kind of values differ from the model's.
    pub fn for_evaluation(
        card: &ModelCard,
        atlas: &Atlas,
        groups: &Groups,
        split: Arc<Split>,
        roles: Arc<ControlRoles>,
        judged: SplitPart,
    ) -> Result<(Self, Vec<Vec<Option<usize>>>)> {
        check_fits(card, atlas)?;
        let source_atlas = atlas.clone();
        let is_source: IsSource =
            Arc::new(move |cell| source_atlas.condition(cell) == CONTROL && roles.is_source(cell, split.part(cell)));
        let mut resolver = Resolver::new(card, atlas, &is_source, true);
        let most_targets = targets_per_job(card.genes.len());
        let mut jobs: Vec<Job> = Vec::new();
        let mut groups_of: Vec<Vec<Option<usize>>> = Vec::new();
        let is_judged = |at: &usize| groups.all()[*at].cells_for(judged) > 0 && groups.all()[*at].condition != CONTROL;
        for at in (0..groups.all().len()).filter(is_judged) {
            let group = &groups.all()[at];
            let Some(EvaluatedGroup { contexts, source_cells, control, target }) = resolver.evaluated(group) else {
                continue;
            };
            let has_room = |job: &Job| job.contexts == contexts && job.targets.len() < most_targets;
            let job = jobs.iter().position(has_room).unwrap_or_else(|| {
                jobs.push(Job { contexts, source_cells, targets: vec![control] });
                groups_of.push(vec![None]);
                jobs.len() - 1
            });
            jobs[job].targets.push(target);
            groups_of[job].push(Some(at));
        }
        let (_, skipped) = resolver.finish(OnNoControl::Skip)?;
        Ok((Self { jobs: Arc::new(jobs), skipped, is_source, most_cells: u64::MAX, spans: None }, groups_of))
    }

    /// Number of predictions.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.jobs.iter().map(|job| job.targets.len()).sum()
    }

    /// Number of cells to predict, counted once per target.
    #[must_use]
    pub fn predicted_cells(&self) -> u64 {
        self.spans().iter().map(|span| span.cells * self.jobs[span.job].targets.len() as u64).sum()
    }

    /// Cells from which any of the predictions starts, ascending.
    pub(super) fn all_source_cells<'a>(&'a self, atlas: &'a Atlas) -> impl Iterator<Item = CellIndex> + 'a {
        let contexts: HashSet<&[u32]> = self.jobs.iter().flat_map(|job| &job.contexts).map(Vec::as_slice).collect();
        let cells = (0..atlas.cells()).map(CellIndex);
        cells.filter(move |cell| contexts.contains(atlas.covariates(*cell)) && (self.is_source)(*cell))
    }

    /// The same; if there are too many, evenly spread ones.
    #[must_use]
    pub fn any_source_cells(&self, atlas: &Atlas, most: u64) -> Vec<CellIndex> {
        let step = (self.all_source_cells(atlas).count() as u64).div_ceil(most.max(1)).max(1);
        self.all_source_cells(atlas).step_by(to_usize(step)).collect()
    }

    /// The parts of the jobs to run, in order.
    #[must_use]
    pub fn spans(&self) -> Vec<CellSpan> {
        match &self.spans {
            Some(spans) => spans.to_vec(),
            None => (0..self.jobs.len()).map(|job| self.whole(job)).collect(),
        }
    }

    /// All source cells of a job.
    #[must_use]
    pub fn whole(&self, job: usize) -> CellSpan {
        let cells = self.jobs[job].source_cells.min(self.most_cells);
        CellSpan { job, from: CellIndex(0), passed: 0, cells }
    }

    /// The same jobs, restricted to these spans.
    #[must_use]
    pub fn only(&self, spans: Vec<CellSpan>) -> Self {
        Self { spans: Some(Arc::new(spans)), ..self.clone() }
    }

    /// Divides a job's source cells into spans of this many cells.
    #[must_use]
    pub fn divided(&self, job: usize, cells: u64, atlas: &Atlas) -> Vec<CellSpan> {
        let whole = self.whole(job);
        if whole.cells <= cells {
            return vec![whole];
        }
        let starts = self.numbered_cells(whole, atlas).step_by(to_usize(cells));
        let spans = starts.zip((0..whole.cells).step_by(to_usize(cells)));
        spans
            .map(|((passed, from), before)| CellSpan { job, from, passed, cells: cells.min(whole.cells - before) })
            .collect()
    }

    /// The source cells of a span, ascending; if a job has too many, evenly spread ones.
    pub fn source_cells(&self, span: CellSpan, atlas: &Atlas) -> impl Iterator<Item = CellIndex> + Send + use<> {
        self.numbered_cells(span, atlas).map(|(_, cell)| cell)
    }

    /// The same, with each cell's number among all cells of its job.
    fn numbered_cells(&self, span: CellSpan, atlas: &Atlas) -> impl Iterator<Item = (u64, CellIndex)> + Send + use<> {
        let Job { contexts, source_cells, .. } = &self.jobs[span.job];
        let (all, count) = (u128::from(*source_cells), u128::from(self.most_cells.min(*source_cells)));
        let contexts: HashSet<Vec<u32>> = contexts.iter().cloned().collect();
        let (atlas, is_source) = (atlas.clone(), Arc::clone(&self.is_source));
        let of_job = (span.from.0..atlas.cells())
            .map(CellIndex)
            .filter(move |cell| contexts.contains(atlas.covariates(*cell)) && is_source(*cell));
        // The n-th cell is taken if there is an integer between n·count/all and (n+1)·count/all.
        let taken = move |n: u64| (u128::from(n) * count) / all != ((u128::from(n) + 1) * count) / all;
        let most = to_usize(span.cells);
        (span.passed..).zip(of_job).filter(move |(n, _)| taken(*n)).take(most)
    }
}

/// Checks that an atlas has the model's kind of values, each of the model's genes once, its covariates, its
/// delimiter, and none of its perturbations as control.
///
/// # Errors
/// Counts for a model of continuous values, or the reverse; a gene name that several genes of the atlas or the model have;
/// covariates other than the model's; labels that another delimiter divides than the model's; a control that is a perturbation for
/// the model.
pub fn check_fits(card: &ModelCard, atlas: &Atlas) -> Result<()> {
    check_values(card, atlas)?;
    check_genes(card, atlas)?;
    check_covariates(card, atlas)?;
    check_delimiter(card, atlas)?;
    check_controls(card, atlas)
}

/// A gene is found by its name. In the atlas that a model was trained on, or one with the very same list of genes, the gene of a
/// name is always the same one.
fn check_genes(card: &ModelCard, atlas: &Atlas) -> Result<()> {
    let ambiguous = atlas.ambiguous_genes();
    if ambiguous.is_empty() || card.atlas == atlas.manifest().checksum {
        return Ok(());
    }
    let message = format!(
        "it or the model has several genes of the same name, and lists its genes otherwise: {}",
        some_of(ambiguous)
    );
    let hint = "which of them is which can't be told: give each gene its own name in the files (scanpy: adata.var_names_make_unique()), or leave the others out, then ingest them again, and train again if the model has several";
    Err(Error::data(atlas.path().display().to_string(), message, hint))
}

/// Checks that the covariates are those of the model, in the same order: their codes are compared by
/// position.
fn check_covariates(card: &ModelCard, atlas: &Atlas) -> Result<()> {
    let names = |covariates: &[schemas::conditions::Covariate]| {
        covariates.iter().map(|covariate| covariate.name.clone()).collect::<Vec<_>>()
    };
    let (model, here) = (names(&card.vocabulary.covariates), names(&atlas.manifest().covariates));
    if model == here {
        return Ok(());
    }
    let message = format!("its covariates are {}, but the model's are {}", here.join(", "), model.join(", "));
    Err(Error::data(
        atlas.path().display().to_string(),
        message,
        "ingest it again with the model's --covariates and --batch",
    ))
}

/// The delimiters may differ if no condition of the atlas is a combination under either.
fn check_delimiter(card: &ModelCard, atlas: &Atlas) -> Result<()> {
    let (model, table) = (&card.rules, &atlas.manifest().conditions);
    let here = table.rules();
    let mut names = (0..table.conditions().len()).map(|id| table.name(ConditionId::at(id)));
    let is_combination = |name: &str| model.parts(name).len().max(here.parts(name).len()) > 1;
    let Some(name) = names.find(|name| model.delimiter != here.delimiter && is_combination(name)) else {
        return Ok(());
    };
    let message = format!(
        "it divides labels at `{}`, but the model at `{}`: the condition `{name}` has another meaning for each",
        here.delimiter, model.delimiter
    );
    let hint = format!("ingest the file again with --delimiter '{}', its labels written accordingly", model.delimiter);
    Err(Error::data(atlas.path().display().to_string(), message, hint))
}

/// Cells that the model would take for perturbed ones must not count as controls.
fn check_controls(card: &ModelCard, atlas: &Atlas) -> Result<()> {
    let rules = atlas.manifest().conditions.rules();
    let is_perturbation = |name: &&String| card.vocabulary.perturbations.iter().skip(2).any(|known| known == *name);
    let Some(name) = rules.controls.iter().find(is_perturbation) else { return Ok(()) };
    let message = format!(
        "its cells labelled `{name}` count as controls, but `{name}` is a perturbation that the model was trained on"
    );
    let hint = format!(
        "ingest the file again with the controls of the training (here: --control '{}')",
        card.vocabulary.name(1)
    );
    Err(Error::data(atlas.path().display().to_string(), message, hint))
}
