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
    arrow::{ATLAS_KEY, CONTROL_KEY, MODEL_KEY, embedded_cells_schema, embeddings_schema},
    conditions::CONTROL,
    ids::CellIndex,
    numbers::bounded,
};
use stages::{
    BoxError,
    model::saved::Model,
    predictor::predict::{Embed, batch_size, covariate_table, perturbation_table},
    reader::atlas::Atlas,
    sink::{
        FileOptions, OutputLayout, PartRows, Published, ShardPlan,
        csv_table::CsvTable,
        layout::{is_named, is_one_file, row_bytes},
        shards::refuse_one_file,
    },
    stage::phase::Phase,
};

use super::{
    predicting::source_plans,
    publishing::{
        WriteOptions, before_files, encoded, one_file, parts_of, plan_of, sink_of, way_to_resume, write_tables,
    },
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
    embed_these(atlas, model, all_cells(atlas), resources)
}

/// The same, for some cells.
pub(super) fn embed_these(
    atlas: &Atlas,
    model: &Model,
    cells: impl Iterator<Item = CellIndex> + Send + 'static,
    resources: &Resources,
) -> Result<(SchemaRef, Pipeline<RecordBatch>)> {
    let atlas = atlas.with_genes(&model.card.genes)?;
    let schema = cells_schema(&atlas, model);
    let embed = Embed::new(model.again()?, atlas.clone(), schema.clone())?;
    model.card.check_labels(atlas.path(), atlas.manifest())?;
    let plans = source_plans(&atlas, 0, 0, batch_size(1), cells);
    Ok((schema, rows(&atlas, plans, resources).then("embed", embed)))
}

fn all_cells(atlas: &Atlas) -> impl Iterator<Item = CellIndex> + Send + use<> {
    (0..atlas.cells()).map(CellIndex)
}

fn cells_schema(atlas: &Atlas, model: &Model) -> SchemaRef {
    let names: Vec<String> = atlas.manifest().covariates.iter().map(|covariate| covariate.name.clone()).collect();
    let mut metadata = metadata(model);
    metadata.insert(ATLAS_KEY.to_owned(), atlas.manifest().checksum.clone());
    metadata.insert(CONTROL_KEY.to_owned(), atlas.manifest().conditions.name(CONTROL).to_owned());
    embedded_cells_schema(&names, width(model), metadata)
}

/// The latents of all cells of an atlas, to be written to files.
#[derive(Debug)]
pub struct CellLatents<'a> {
    atlas: &'a Atlas,
    model: &'a Model,
    schema: SchemaRef,
    options: &'a WriteOptions,
}

impl<'a> CellLatents<'a> {
    /// Those of an atlas; of the options, the size of files and the shard matter.
    #[must_use]
    pub fn new(atlas: &'a Atlas, model: &'a Model, options: &'a WriteOptions) -> Self {
        Self { atlas, model, schema: cells_schema(atlas, model), options }
    }

    /// The plan, which is the same for all shards.
    #[must_use]
    pub fn plan(&self) -> ShardPlan {
        let files = format!("in files of {} bytes", self.options.file_bytes);
        plan_of("embed", "latents of all cells", &files, &self.schema, "")
    }

    /// The files, over all shards. A batch is never divided: its cells are computed together.
    fn parts(&self) -> impl Iterator<Item = PartRows> + use<> {
        let batch = batch_size(1) as u64;
        let rows = (self.options.file_bytes / row_bytes(&self.schema).max(1)).max(1);
        parts_of(self.atlas.cells(), rows.next_multiple_of(batch))
    }

    /// Number of files, over all shards.
    #[must_use]
    pub fn units(&self) -> usize {
        self.parts().count()
    }

    /// Number of cells.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.atlas.cells()
    }

    /// Approximate size of all values in bytes.
    #[must_use]
    pub fn value_bytes(&self) -> u64 {
        self.atlas.cells() * row_bytes(&self.schema)
    }

    /// Writes a folder of Parquet files or a shard of it, or one file if `out` ends in `.parquet`, `.csv` or `.h5ad`.
    ///
    /// # Errors
    /// As for [`embed_cells`], shards of one file, or a target that exists or can't be written; then nothing is visible.
    pub fn write(&self, out: &Path, resources: &Resources) -> Result<Published> {
        resources.phases.enter(Phase::Predicting);
        let (atlas, before) = (self.atlas, before_files(resources));
        let shard = self.options.shard;
        if shard.is_some() {
            refuse_one_file(out)?;
        }
        if is_named(out, "h5ad") {
            let (schema, pipeline) = embed_cells(atlas, self.model, &before)?;
            return h5ad::write_h5ad(&schema, pipeline, &atlas.manifest().conditions, out);
        }
        if is_named(out, "csv") {
            let (schema, pipeline) = embed_cells(atlas, self.model, &before)?;
            return write_csv(&schema, pipeline, out);
        }
        if is_one_file(out) {
            let (schema, pipeline) = embed_cells(atlas, self.model, &before)?;
            return write_tables(pipeline, &schema, atlas.cells(), out, resources);
        }
        let (mut first, mut parts, mut cells) = (0, Vec::new(), Vec::new());
        for part in self.parts() {
            if shard.is_none_or(|shard| shard.has(part.number)) {
                cells.push(first..first + part.rows);
                parts.push(part);
            }
            first += part.rows;
        }
        let (schema, pipeline) = embed_these(atlas, self.model, cells.into_iter().flatten().map(CellIndex), &before)?;
        let layout = Arc::new(OutputLayout::new(&schema, &FileOptions::default(), parts)?);
        let sink = sink_of(out, &layout, &self.plan(), self.options)?;
        let run = encoded(pipeline, layout, resources)?.run("write", sink);
        completed(run, way_to_resume(self.options)).map(|(published, _)| published)
    }
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
