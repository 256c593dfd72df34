//! `read → batch → predict`, and from there to the caller or into Parquet files.

use std::{collections::HashMap, path::Path, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use schemas::{
    Error, Result,
    arrow::{ATLAS_KEY, GENES_KEY, MODEL_KEY, SCALE_KEY, cells_schema, long_means_schema, means_schema},
    atlas::ValueKind,
    batch::{BatchPlan, Role},
};
use stages::{
    atlas::Atlas,
    phase::Phase,
    predict::{PredictCells, PredictMeans, Readout, TargetMeans, batch_size, long_means_rows, means_rows},
    profiles::Rows,
    publish::{Publish, Published},
    query::{Jobs, Query, Request},
    saved::Model,
    split::Split,
};

use super::{Resources, completed, rows};
use crate::runtime::{Pipeline, Report};

/// What predictions look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// A row a condition, lists of one number a gene.
    #[default]
    WideMeans,
    /// A row a condition and gene.
    LongMeans,
    /// A row a source cell and condition.
    Cells,
}

/// Predictions that are ready to start.
#[derive(Debug)]
pub struct Prediction {
    atlas: Atlas,
    model: Model,
    jobs: Jobs,
    resources: Resources,
}

impl Prediction {
    /// Resolves a query against a model and an atlas; `split` says what is held out.
    ///
    /// # Errors
    /// Names that the model does not know, genes of the model that the atlas lacks, targets without source cells.
    pub fn prepare(
        atlas: &Atlas,
        model: &Model,
        query: &Query,
        split: Option<&Split>,
        resources: Resources,
    ) -> Result<Self> {
        if query.to.contains(&Request::Ood) && split.is_none() {
            return Err(Error::usage(
                "what is held out is not known: the model was not trained on this atlas",
                "name a split of the atlas with --split",
            ));
        }
        let atlas = atlas.with_genes(&model.card.genes)?;
        let jobs = Jobs::resolve(query, &model.card, &atlas, split)?;
        if jobs.targets() == 0 && jobs.skipped.is_empty() {
            return Err(Error::usage(
                "the query asks for nothing",
                "nothing is held out, missing or observed that it could mean",
            ));
        }
        Ok(Self { atlas, model: model.again()?, jobs, resources })
    }

    /// What will be predicted, and what will be skipped.
    #[must_use]
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// The table that will come out.
    #[must_use]
    pub fn schema(&self, output: Output) -> SchemaRef {
        let card = &self.model.card;
        let covariates: Vec<String> =
            card.vocabulary.covariates.iter().map(|covariate| covariate.name.clone()).collect();
        let scale = match card.values {
            ValueKind::Counts => "counts",
            ValueKind::Continuous => "values",
        };
        let genes_text = serde_json::Value::from(card.genes.clone()).to_string();
        let metadata = HashMap::from([
            (GENES_KEY.to_owned(), genes_text),
            (SCALE_KEY.to_owned(), scale.to_owned()),
            (MODEL_KEY.to_owned(), card.weights.clone()),
            (ATLAS_KEY.to_owned(), self.atlas.manifest().checksum.clone()),
        ]);
        let genes = i32::try_from(card.genes.len()).unwrap_or(i32::MAX);
        match output {
            Output::WideMeans => means_schema(&covariates, genes, metadata),
            Output::LongMeans => long_means_schema(&covariates, metadata),
            Output::Cells => cells_schema(&covariates, genes, metadata),
        }
    }

    /// Bytes of unpacked blocks that are held beside the edges.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.resources.held_bytes(&self.atlas)
    }

    /// The road to record batches.
    ///
    /// # Errors
    /// None that [`Prediction::prepare`] did not find.
    pub fn pipeline(self, output: Output) -> Result<Pipeline<RecordBatch>> {
        let schema = self.schema(output);
        let jobs = Arc::clone(&self.jobs.jobs);
        let Self { atlas, model, resources, jobs: resolved } = self;
        let source = source_rows(&atlas, &resolved, &resources);
        Ok(match output {
            Output::Cells => source.then("predict", PredictCells::new(model, jobs, atlas, schema)),
            Output::WideMeans | Output::LongMeans => {
                let genes = model.card.genes.clone();
                let predict = PredictMeans::new(model, Arc::clone(&jobs), Readout::Expected);
                source.then("predict", predict).map("rows", std::num::NonZeroUsize::MIN, move |means: TargetMeans| {
                    let target = &jobs[means.job].targets[means.target];
                    if output == Output::LongMeans {
                        long_means_rows(&schema, &genes, target, &means)
                    } else {
                        means_rows(&schema, target, &means)
                    }
                })
            }
        })
    }
}

/// What came of predictions that were written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The files.
    pub published: Published,
    /// What the pipeline measured.
    pub report: Report,
}

impl Prediction {
    /// Writes the predictions: a folder of Parquet files, or one file where `out` ends in `.parquet`.
    ///
    /// # Errors
    /// A target that exists or can't be written, data that can't be read; nothing is visible then.
    pub fn write(self, output: Output, out: &Path) -> Result<Written> {
        self.resources.phases.enter(Phase::Predicting);
        let sink = Publish::create(out, self.schema(output))?;
        let run = self.pipeline(output)?.run("write", sink);
        let (published, report) = completed(run, "run the same command again: nothing was written")?;
        Ok(Written { published, report })
    }
}

/// The source cells of every job; the batches of job `j` bear epoch `j`.
pub(super) fn source_rows(atlas: &Atlas, jobs: &Jobs, resources: &Resources) -> Pipeline<Rows> {
    let (plan_atlas, plan_jobs) = (atlas.clone(), jobs.clone());
    let plans = (0..jobs.jobs.len()).flat_map(move |job| {
        let size = batch_size(plan_jobs.jobs[job].targets.len());
        let mut cells = plan_jobs.source_cells(job, &plan_atlas).peekable();
        let epoch = u32::try_from(job).unwrap_or(u32::MAX);
        let (mut index, row_atlas) = (0, plan_atlas.clone());
        std::iter::from_fn(move || {
            let taken: Vec<_> = cells.by_ref().take(size).collect();
            let rows = taken.iter().map(|cell| row_atlas.row(*cell)).collect();
            let plan = BatchPlan { epoch, index, role: Role::Source, last: cells.peek().is_none(), cells: taken, rows };
            index += 1;
            (!plan.cells.is_empty()).then_some(plan)
        })
    });
    rows(atlas, plans, resources)
}

/// Predicts means as a pipeline of record batches: the short way for programs.
///
/// # Errors
/// As for [`Prediction::prepare`].
pub fn predict(atlas: &Atlas, model: &Model, query: &Query) -> Result<Pipeline<RecordBatch>> {
    let split = own_split(model, atlas)?;
    Prediction::prepare(atlas, model, query, split.as_ref(), Resources::default())?.pipeline(Output::WideMeans)
}

/// The split a model was trained with, if the atlas is the one it was trained on.
///
/// # Errors
/// A split file that is damaged.
pub fn own_split(model: &Model, atlas: &Atlas) -> Result<Option<Split>> {
    let path = model.path.join(stages::saved::files::SPLIT);
    if model.card.atlas != atlas.manifest().checksum || !path.exists() {
        return Ok(None);
    }
    Split::read_file(atlas, &model.card.split, &path).map(Some)
}

/// The split that `--split` names, or the model's own.
///
/// # Errors
/// A split that there is not; an atlas that the model was not trained on, without a split named.
pub fn split_for(model: &Model, atlas: &Atlas, named: Option<&str>) -> Result<Split> {
    match named {
        Some(name) => Split::read(atlas, name),
        None => own_split(model, atlas)?.ok_or_else(|| {
            Error::usage("the model was not trained on this atlas", "name a split of the atlas with --split")
        }),
    }
}
