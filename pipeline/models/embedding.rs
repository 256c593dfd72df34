//! `read → batch → embed`, returned to the caller or written to Parquet files or an `.h5ad`; and embedding tables.

#[cfg_attr(not(feature = "hdf5"), path = "embedding/no_h5ad.rs")]
mod h5ad;

use std::{collections::HashMap, num::NonZeroUsize, path::Path, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, SchemaRef},
    error::ArrowError,
};
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
    sink::{Published, csv_table::CsvTable, layout::is_named},
    stage::phase::Phase,
};

use super::{
    predicting::source_plans,
    publishing::{before_files, one_file, write_tables},
};
use crate::{
    flows::{Resources, completed, rows},
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

/// The same, written to a folder of Parquet files, or one file if `out` ends in `.parquet`, `.csv` or `.h5ad`.
///
/// # Errors
/// As for [`embed_cells`], or a target that exists or can't be written; then nothing is visible.
pub fn write_cells(atlas: &Atlas, model: &Model, out: &Path, resources: &Resources) -> Result<Published> {
    resources.phases.enter(Phase::Predicting);
    let (schema, pipeline) = embed_cells(atlas, model, &before_files(resources))?;
    if is_named(out, "h5ad") {
        return h5ad::write_h5ad(&schema, pipeline, &atlas.manifest().conditions, out);
    }
    if is_named(out, "csv") {
        return write_csv(&schema, pipeline, out);
    }
    write_tables(pipeline, &schema, atlas.cells(), out, resources)
}

/// Writes a `.csv` file with a column for each number of a vector.
fn write_csv(schema: &SchemaRef, tables: Pipeline<RecordBatch>, out: &Path) -> Result<Published> {
    let run = tables.run("write", CsvTable::with_vectors(out, schema)?);
    let (rows, _) = completed(run, "run the same command again: nothing was written")?;
    one_file(String::new(), out, rows)
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

/// The same, written to files; a `.csv` file lacks the similarities, whose number differs between covariates.
///
/// # Errors
/// A target that exists or can't be written; then nothing is visible.
pub fn write_table(model: &Model, kind: EmbeddingKind, out: &Path, resources: &Resources) -> Result<Published> {
    let (mut schema, mut batches) = table(model, kind)?;
    let is_csv = is_named(out, "csv");
    if is_csv {
        let flat: Vec<usize> = (0..schema.fields().len()).filter(|at| !is_list(&schema, *at)).collect();
        let bug = |error: ArrowError| Error::Bug(error.to_string());
        schema = Arc::new(schema.project(&flat).map_err(bug)?);
        batches = batches.iter().map(|batch| batch.project(&flat).map_err(bug)).collect::<Result<_>>()?;
    }
    let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    let capacity = Capacity { items: NonZeroUsize::MIN.get(), bytes: resources.memory };
    let source = Pipeline::from_source("table", capacity, batches.into_iter().map(Ok::<_, BoxError>));
    let source = source.with_stop(resources.stop.clone());
    if is_csv { write_csv(&schema, source, out) } else { write_tables(source, &schema, rows, out, resources) }
}

/// Whether a column has lists of any length.
fn is_list(schema: &SchemaRef, at: usize) -> bool {
    matches!(schema.field(at).data_type(), DataType::List(_))
}

fn metadata(model: &Model) -> HashMap<String, String> {
    HashMap::from([(MODEL_KEY.to_owned(), model.card.weights.clone())])
}

fn width(model: &Model) -> i32 {
    bounded(model.card.config.model.n_latent)
}
