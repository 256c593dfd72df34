//! `read → batch → predict`, or `… → basal → predict ×N` for cells; results are returned to the caller, and
//! [`publishing`](super::publishing) writes them to files.

mod pace;
mod source_plans;
pub mod tables;
mod terms;

use std::{collections::HashMap, num::NonZeroUsize, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use schemas::{
    Error, Result,
    arrow::{
        ATLAS_KEY, CONTROL_KEY, GENES_KEY, MODEL_KEY, SCALE_KEY, cells_schema, changes_schema, latents_schema,
        long_means_schema, means_schema,
    },
    batch::BatchPlan,
    conditions::CONTROL,
    numbers::bounded,
};
use stages::{
    model::saved::Model,
    predictor::{
        predict::{
            CellOutput, ChangeRows, ChangedGenes, EncodeCells, PredictCells, PredictMeans, TargetMeans, batch_size,
            long_means_rows, means_rows,
        },
        query::{Job, Jobs, Query, Request, check_values},
    },
    reader::{atlas::Atlas, profiles::ExpressionRows, split::Split},
};
use tch::Device;

pub(super) use self::source_plans::source_plans;
use self::terms::CheckedTerms;
pub use self::terms::{Library, OutputScale, PredictedGenes, Terms};
use crate::{
    flows::{Resources, rows_with_listener},
    runtime::Pipeline,
};

/// The form of predictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PredictionForm {
    /// One row per condition, with lists of one number per gene.
    #[default]
    WideMeans,
    /// One row per condition and gene.
    LongMeans,
    /// One row per condition and gene, with its change from control; for [`Prediction::of_changes`] alone.
    Changes,
    /// One row per source cell and condition.
    Cells,
    /// The same for latents.
    Latent,
}

/// Predictions that are ready to start.
#[derive(Debug)]
pub struct Prediction {
    pub(super) atlas: Atlas,
    pub(super) model: Model,
    pub(super) jobs: Jobs,
    pub(super) terms: CheckedTerms,
    pub(super) resources: Resources,
    /// The parts of the request that determine the result.
    pub(super) request: String,
}

impl Prediction {
    /// Resolves a query against a model and an atlas; `split` defines the held-out cells.
    ///
    /// # Errors
    /// Names that the model does not know, genes of the model that the atlas lacks, values of another kind than
    /// the model's, or targets without source cells.
    pub fn prepare(
        atlas: &Atlas,
        model: &Model,
        query: &Query,
        split: Option<&Split>,
        resources: Resources,
    ) -> Result<Self> {
        if query.to.contains(&Request::Ood) && split.is_none() {
            check_values(&model.card, atlas)?;
            return Err(Error::usage(
                "the held-out cells are not known: the model was not trained on this atlas",
                "name a split of the atlas with --split",
            ));
        }
        let atlas = atlas.with_genes(&model.card.genes)?;
        let jobs = Jobs::resolve(query, &model.card, &atlas, split)?;
        model.card.check_labels(atlas.path(), atlas.manifest())?;
        if jobs.targets() == 0 && jobs.skipped.is_empty() {
            let message = match query.to.as_slice() {
                [Request::Missing] => "nothing to predict: no combination is missing",
                [Request::Ood] => "nothing to predict: no cell is held out",
                _ => "nothing to predict: --to matches no condition",
            };
            return Err(Error::usage(
                message,
                "ask for other conditions with --to; `perturbine inspect` lists those of an atlas",
            ));
        }
        Ok(Self {
            atlas,
            model: model.again()?,
            jobs,
            terms: CheckedTerms::default_for(&model.card),
            resources,
            request: format!("{query:?}"),
        })
    }

    /// The same, in terms other than the model's own.
    ///
    /// # Errors
    /// Terms that don't match the model, genes that are not the model's, or a file of genes that can't be read.
    pub fn with_terms(mut self, terms: &Terms) -> Result<Self> {
        self.terms = CheckedTerms::new(terms, &self.model.card, &self.atlas, &self.jobs, &self.resources)?;
        Ok(self)
    }

    /// The same predictions in the terms chosen so far, of changes on the scale of logarithms if the model's values are counts: control is predicted too, from the
    /// same cells.
    ///
    /// # Errors
    /// Source cells that are not controls.
    pub fn of_changes(mut self) -> Result<Self> {
        self.jobs = self.jobs.against_control(&self.model.card, &self.atlas)?;
        self.terms = self.terms.of_changes();
        Ok(self)
    }

    /// The predictions to make, and the skipped requests.
    #[must_use]
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Genes of the model that the source cells lack, and that are therefore 0.
    #[must_use]
    pub fn missing_genes(&self) -> &[String] {
        self.atlas.missing_genes()
    }

    /// The schema of the resulting table.
    #[must_use]
    pub fn schema(&self, output: PredictionForm) -> SchemaRef {
        let card = &self.model.card;
        let covariates: Vec<String> =
            card.vocabulary.covariates.iter().map(|covariate| covariate.name.clone()).collect();
        let mut metadata = HashMap::from([
            (MODEL_KEY.to_owned(), card.weights.clone()),
            (ATLAS_KEY.to_owned(), self.atlas.manifest().checksum.clone()),
            (CONTROL_KEY.to_owned(), self.atlas.manifest().conditions.name(CONTROL).to_owned()),
        ]);
        if output != PredictionForm::Latent {
            metadata.insert(GENES_KEY.to_owned(), serde_json::Value::from(self.terms.genes.clone()).to_string());
            metadata.insert(SCALE_KEY.to_owned(), self.terms.scale.name().to_owned());
        }
        let genes = bounded(self.terms.genes.len());
        match output {
            PredictionForm::WideMeans => means_schema(&covariates, genes, metadata),
            PredictionForm::LongMeans => long_means_schema(&covariates, metadata),
            PredictionForm::Changes => changes_schema(&covariates, metadata),
            PredictionForm::Cells => cells_schema(&covariates, genes, metadata),
            PredictionForm::Latent => latents_schema(&covariates, bounded(card.config.model.n_latent), metadata),
        }
    }

    /// Bytes of unpacked blocks, in addition to the edges.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.resources.held_bytes(&self.atlas)
    }

    /// The pipeline up to means, and their jobs.
    pub(super) fn means(self) -> (Arc<Vec<Job>>, Pipeline<TargetMeans>) {
        let jobs = Arc::clone(&self.jobs.jobs);
        let source = source_rows(&self.atlas, &self.jobs, &self.resources);
        let predict = PredictMeans::new(self.model, Arc::clone(&jobs), self.terms.reading);
        (jobs, source.then("predict", predict))
    }

    /// The pipeline up to record batches.
    ///
    /// # Errors
    /// Only errors that [`Prediction::prepare`] would already have found.
    pub fn pipeline(self, output: PredictionForm) -> Result<Pipeline<RecordBatch>> {
        let schema = self.schema(output);
        if matches!(output, PredictionForm::WideMeans | PredictionForm::LongMeans) {
            let (genes, most) = (self.terms.genes.clone(), self.terms.most_rows);
            let (jobs, means) = self.means();
            return Ok(means.map("rows", NonZeroUsize::MIN, move |means: TargetMeans| {
                let target = &jobs[means.job].targets[means.target];
                match output {
                    PredictionForm::LongMeans => long_means_rows(&schema, &genes, most, target, &means),
                    _ => means_rows(&schema, target, &means),
                }
            }));
        }
        if output == PredictionForm::Changes {
            if !self.jobs.jobs.iter().all(Job::begins_with_control) {
                let hint = "prepare them with Prediction::of_changes";
                return Err(Error::usage("changes are measured from control, which is not predicted", hint));
            }
            let genes = ChangedGenes { names: self.terms.genes.clone(), most: self.terms.most_rows };
            let (model, reading) = (self.model.again()?, self.terms.reading.clone());
            let (jobs, means) = self.means();
            return Ok(means.then("rows", ChangeRows::new(model, jobs, schema, genes, &reading)));
        }
        let Self { atlas, model, resources, terms, jobs: resolved, .. } = self;
        let jobs = Arc::clone(&resolved.jobs);
        let cell_output =
            if output == PredictionForm::Latent { CellOutput::Latents } else { CellOutput::Expression(terms.reading) };
        let workers = decoders(&model, &resources);
        let models = (0..workers.get()).map(|_| model.again()).collect::<Result<_>>()?;
        let encode = EncodeCells::new(model, Arc::clone(&jobs), atlas.clone(), cell_output.clone());
        let predict = PredictCells::new(models, jobs, atlas.clone(), cell_output, schema);
        Ok(source_rows(&atlas, &resolved, &resources)
            .then("basal", encode)
            .map("predict", workers, move |cells| predict.predict(&cells)))
    }
}

/// Number of threads that decode cells: those of the run, divided by those that libtorch uses per product.
/// One for a GPU.
fn decoders(model: &Model, resources: &Resources) -> NonZeroUsize {
    let of_each = bounded::<usize>(tch::get_num_threads()).max(1);
    match model.network.parameters.device() {
        Device::Cpu => NonZeroUsize::new(resources.threads.get() / of_each).unwrap_or(NonZeroUsize::MIN),
        _ => NonZeroUsize::MIN,
    }
}

/// The source cells of every span of the jobs; the batches of job `j` have pass `j`, and each span starts a new batch.
pub(super) fn source_rows(atlas: &Atlas, jobs: &Jobs, resources: &Resources) -> Pipeline<ExpressionRows> {
    let (plan_atlas, plan_jobs) = (atlas.clone(), jobs.clone());
    let plans = jobs.spans().into_iter().flat_map(move |span| {
        let size = batch_size(plan_jobs.jobs[span.job].targets.len());
        let cells = plan_jobs.source_cells(span, &plan_atlas);
        source_plans(&plan_atlas, bounded(span.job), span.passed, size, cells)
    });
    let (progress, jobs) = (resources.progress.clone(), Arc::clone(&jobs.jobs));
    let taken = move |plan: &BatchPlan| {
        let targets = jobs.get(plan.job()).map_or(0, |job| job.targets.len());
        progress.add((plan.cells.len() * targets) as u64);
    };
    rows_with_listener(atlas, plans, resources, taken)
}

/// Predicts means as a pipeline of record batches: a shortcut for programs.
///
/// # Errors
/// As for [`Prediction::prepare`].
pub fn predict(atlas: &Atlas, model: &Model, query: &Query) -> Result<Pipeline<RecordBatch>> {
    let split = own_split(model, atlas)?;
    Prediction::prepare(atlas, model, query, split.as_ref(), Resources::default())?.pipeline(PredictionForm::WideMeans)
}

/// The split that a model was trained with, if the atlas is the one it was trained on.
///
/// # Errors
/// A split's file that is missing or damaged.
pub fn own_split(model: &Model, atlas: &Atlas) -> Result<Option<Split>> {
    if model.card.atlas != atlas.manifest().checksum {
        return Ok(None);
    }
    let path = model.card.split_file(&model.path)?;
    path.map(|path| Split::read_file(atlas, &model.card.split, &path)).transpose()
}

/// The split given by `--split`, or the model's own.
///
/// # Errors
/// A split that does not exist; without a given split, an atlas that the model was not trained on or that has other values.
pub fn split_for(model: &Model, atlas: &Atlas, named: Option<&str>) -> Result<Split> {
    match named {
        Some(name) => Split::read(atlas, name),
        None => match own_split(model, atlas)? {
            Some(split) => Ok(split),
            None => {
                // Another split would not make the values fit.
                check_values(&model.card, atlas)?;
                Err(Error::usage("the model was not trained on this atlas", "name a split of the atlas with --split"))
            }
        },
    }
}
