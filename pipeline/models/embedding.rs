//! `read → batch → embed`, returned to the caller or written to Parquet files or an `.h5ad`; and embedding tables.

#[cfg_attr(not(feature = "hdf5"), path = "embedding/no_h5ad.rs")]
mod h5ad;

use std::{collections::HashMap, num::NonZeroUsize, path::Path};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use schemas::{
    Error, Result,
    arrow::{ATLAS_KEY, MODEL_KEY, embedded_cells_schema, embeddings_schema},
    ids::CellIndex,
    numbers::{bounded, to_usize},
};
use stages::{
    BoxError,
    model::saved::Model,
    predictor::predict::{Embed, batch_size, covariate_table, perturbation_table},
    reader::atlas::Atlas,
    sink::{Published, layout::is_named},
    stage::phase::Phase,
};

use super::{
    predicting::source_plans,
    publishing::{before_files, write_tables},
};
use crate::{
    flows::{Resources, rows},
    runtime::{Capacity, Pipeline},
};

/// A table of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbeddingKind {
    /// One row per perturbation, control first.
    Perturbations,
    /// One row per covariate value.
    Covariates,
}

/// The latents of all cells of an atlas, as rows of [`embedded_cells_schema`].
///
/// # Errors
/// Genes of the model that the atlas lacks, or covariates that are not those of the model.
pub fn embed_cells(atlas: &Atlas, model: &Model, resources: &Resources) -> Result<(SchemaRef, Pipeline<RecordBatch>)> {
    embed_every(atlas, model, 1, resources)
}

/// The same, for every `step`-th cell.
pub(super) fn embed_every(
    atlas: &Atlas,
    model: &Model,
    step: u64,
    resources: &Resources,
) -> Result<(SchemaRef, Pipeline<RecordBatch>)> {
    let atlas = atlas.with_genes(&model.card.genes)?;
    let names: Vec<String> = atlas.manifest().covariates.iter().map(|covariate| covariate.name.clone()).collect();
    let mut metadata = metadata(model);
    metadata.insert(ATLAS_KEY.to_owned(), atlas.manifest().checksum.clone());
    let schema = embedded_cells_schema(&names, width(model), metadata);
    let embed = Embed::new(model.again()?, atlas.clone(), schema.clone())?;
    model.card.check_labels(atlas.path(), atlas.manifest())?;
    let every = (0..atlas.cells()).step_by(to_usize(step)).map(CellIndex);
    let plans = source_plans(&atlas, 0, 0, batch_size(1), every);
    Ok((schema, rows(&atlas, plans, resources).then("embed", embed)))
}

/// The same, written to a folder of Parquet files, or one file if `out` ends in `.parquet` or `.h5ad`.
///
/// # Errors
/// As for [`embed_cells`], or a target that exists or can't be written; then nothing is visible.
pub fn write_cells(atlas: &Atlas, model: &Model, out: &Path, resources: &Resources) -> Result<Published> {
    resources.phases.enter(Phase::Predicting);
    let (schema, pipeline) = embed_cells(atlas, model, &before_files(resources))?;
    match is_named(out, "h5ad") {
        true => h5ad::write_h5ad(&schema, pipeline, &atlas.manifest().conditions, out),
        false => write_tables(pipeline, &schema, atlas.cells(), out, resources),
    }
}

/// One of a model's embedding tables, as rows of [`embeddings_schema`].
///
/// # Errors
/// This fails only through a bug.
pub fn table(model: &Model, table: EmbeddingKind) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let schema = embeddings_schema(table == EmbeddingKind::Covariates, width(model), metadata(model));
    let batches = match table {
        EmbeddingKind::Perturbations => perturbation_table(model, &schema),
        EmbeddingKind::Covariates => covariate_table(model, &schema),
    };
    Ok((schema, batches.map_err(|error| Error::Bug(error.to_string()))?))
}

/// The same, written to files.
///
/// # Errors
/// A target that exists or can't be written; then nothing is visible.
pub fn write_table(model: &Model, kind: EmbeddingKind, out: &Path, resources: &Resources) -> Result<Published> {
    let (schema, batches) = table(model, kind)?;
    let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    let capacity = Capacity { items: NonZeroUsize::MIN.get(), bytes: resources.memory };
    let source = Pipeline::from_source("table", capacity, batches.into_iter().map(Ok::<_, BoxError>));
    write_tables(source.with_stop(resources.stop.clone()), &schema, rows, out, resources)
}

fn metadata(model: &Model) -> HashMap<String, String> {
    HashMap::from([(MODEL_KEY.to_owned(), model.card.weights.clone())])
}

fn width(model: &Model) -> i32 {
    bounded(model.card.config.model.n_latent)
}
