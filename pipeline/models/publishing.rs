//! `… → predict → gather → encode ×N → write`: writes predictions to files; or `… → round ×N → write`: to an
//! `.h5ad`.

mod division;
#[cfg_attr(not(feature = "hdf5"), path = "publishing/no_h5ad.rs")]
mod h5ad;
mod size;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use schemas::{
    Error, Result,
    arrow::{ATLAS_KEY, MODEL_KEY},
    numbers::to_usize,
};
use stages::{
    predictor::query::parts::FilePart,
    sink::{
        Encoded, FileOptions, GatherRowGroups, OutputLayout, OutputPrecision, PartRows, Publish, Published,
        PublishedFile, RowGroupEncoder, ShardPlan,
        csv_table::CsvTable,
        layout::{is_one_file, row_bytes},
    },
    stage::phase::Phase,
    storage::disk::checksum_of_text,
};

pub use self::size::PredictionSize;
use super::predicting::{Prediction, PredictionForm};
use crate::{
    flows::{ProgressCounter, Resources, completed},
    runtime::{Capacity, Pipeline, PipelinePlan, Report},
};
pub use stages::sink::write_options::{FILE_BYTES, PredictionFormat, WriteOptions};

/// Number of shares into which the memory of edges is divided: the edges up to predictions get most of them,
/// encoded rows a quarter.
const SHARES: usize = 12;
const SHARES_BEFORE: usize = 8;
const SHARES_ENCODED: usize = 3;

/// The result of writing predictions.
#[derive(Clone, Debug)]
pub struct Written {
    /// The files.
    pub published: Published,
    /// Measurements of the pipeline.
    pub report: Report,
}

impl Prediction {
    /// Writes the predictions: a folder of Parquet files, or one file if `out` ends in `.parquet`.
    ///
    /// # Errors
    /// A target that exists or can't be written, or data that can't be read; then nothing is visible.
    pub fn write(self, output: PredictionForm, out: &Path) -> Result<Written> {
        self.publish(output, out, &WriteOptions::default())
    }

    /// Writes the predictions with these `options`. The bytes do not depend on the number of threads or shards.
    ///
    /// # Errors
    /// Those of [`Prediction::write`], or options that contradict each other or the output.
    pub fn publish(self, output: PredictionForm, out: &Path, options: &WriteOptions) -> Result<Written> {
        self.check(output, options)?;
        self.check_room(output, out, options)?;
        self.resources.phases.enter(Phase::Predicting);
        let again = way_to_resume(options);
        let plan = self.plan(output, options);
        let schema = self.schema(output);
        if let PredictionFormat::H5ad { with_controls } = options.format {
            return self.publish_h5ad(output, out, options, with_controls, again);
        }
        if options.format == PredictionFormat::Csv {
            let sink = CsvTable::create(out, &schema)?;
            let (rows, report) = completed(self.rounded(output, options.files.precision)?.run("write", sink), again)?;
            return Ok(Written { published: one_file(plan.plan, out, rows)?, report });
        }
        let (selected, layout) = self.layout(output, options, is_one_file(out), &schema)?;
        let sink = sink_of(out, &layout, &plan, options)?;
        let run = selected.encoded(output, layout)?.run("write", sink);
        let (published, report) = completed(run, again)?;
        Ok(Written { published, report })
    }

    /// Reports the number of predicted cells, counted once per target.
    #[must_use]
    pub fn telling(mut self, progress: ProgressCounter) -> Self {
        self.resources.progress = progress;
        self
    }

    /// The graph of a run that writes, and the bytes held in addition to its edges: unpacked blocks, and rows
    /// waiting for their row groups.
    ///
    /// # Errors
    /// Options that contradict each other or the output.
    pub fn graph(self, output: PredictionForm, options: &WriteOptions) -> Result<(PipelinePlan, usize)> {
        let schema = self.schema(output);
        if options.format != PredictionFormat::Parquet {
            let held = self.held_bytes();
            return Ok((self.rounded(output, options.files.precision)?.plan("write"), held));
        }
        let waiting = to_usize(self.size(output, options)?.waiting_bytes);
        let (selected, layout) = self.layout(output, options, false, &schema)?;
        let held = before_files(&selected.resources).held_bytes(&selected.atlas) + waiting;
        Ok((selected.encoded(output, layout)?.plan("write"), held))
    }

    /// The part of the plan that this run writes, and its layout.
    fn layout(
        self,
        output: PredictionForm,
        options: &WriteOptions,
        one_file: bool,
        schema: &SchemaRef,
    ) -> Result<(Self, Arc<OutputLayout>)> {
        let parts: Vec<(usize, FilePart)> = self.parts(output, options)?.into_iter().enumerate().collect();
        // The number is the same for all shards, so that a shard's row groups are those of the whole.
        let folders = self.folders(parts.iter().map(|(_, part)| part), options);
        let chosen: Vec<(usize, FilePart)> = match options.shard {
            Some(shard) => parts.into_iter().filter(|(number, _)| shard.has(*number)).collect(),
            None => parts,
        };
        let mut part_rows: Vec<PartRows> =
            chosen.iter().map(|(number, part)| PartRows { number: *number, rows: part.rows, folders }).collect();
        if one_file {
            part_rows = vec![PartRows { number: 0, rows: part_rows.iter().map(|part| part.rows).sum(), folders }];
        }
        let spans = chosen.into_iter().flat_map(|(_, part)| part.spans).collect();
        let layout = Arc::new(OutputLayout::new(schema, &options.files, part_rows)?);
        Ok((Self { jobs: self.jobs.only(spans), ..self }, layout))
    }

    fn encoded(self, output: PredictionForm, layout: Arc<OutputLayout>) -> Result<Pipeline<Encoded>> {
        let (before, resources) = (before_files(&self.resources), self.resources.clone());
        encoded(Self { resources: before, ..self }.pipeline(output)?, layout, &resources)
    }

    fn rounded(self, output: PredictionForm, precision: OutputPrecision) -> Result<Pipeline<RecordBatch>> {
        let threads = self.resources.threads;
        Ok(self.pipeline(output)?.map("round", threads, move |batch| Ok(precision.round(&batch)?)))
    }

    fn contexts(&self) -> BTreeSet<Vec<u32>> {
        self.jobs.jobs.iter().flat_map(|job| job.contexts.iter().cloned()).collect()
    }

    /// The plan, which is the same for all shards.
    #[must_use]
    pub fn plan(&self, output: PredictionForm, options: &WriteOptions) -> ShardPlan {
        let schema = self.schema(output);
        let FileOptions { precision, partition_by } = &options.files;
        let partitions = match partition_by.as_slice() {
            [] => String::new(),
            columns => format!(" partitioned by {}", columns.join(", ")),
        };
        let form = output.description();
        let files = format!("as {}, in files of {} bytes{partitions}", precision.name(), options.file_bytes);
        let request = format!("{} {:?} {:?}", self.request, self.terms, self.jobs);
        plan_of("predict", form, &files, &schema, &request)
    }
}

/// The plan of tables: their form, their division into files, and the request that decides about their rows.
pub(super) fn plan_of(command: &str, form: &str, files: &str, schema: &SchemaRef, request: &str) -> ShardPlan {
    let metadata_value = |key: &str| schema.metadata().get(key).map_or("", String::as_str).to_owned();
    let (model, atlas, version) = (metadata_value(MODEL_KEY), metadata_value(ATLAS_KEY), env!("CARGO_PKG_VERSION"));
    let about = format!("{form} of the model {model} and the atlas {atlas}, {files}");
    let metadata: BTreeMap<&String, &String> = schema.metadata().iter().collect();
    let text = format!("{version} {about} {request} {:?} {metadata:?}", schema.fields());
    let made_from = [
        ("program version", version.to_owned()),
        ("model", model),
        ("atlas", atlas),
        ("output", format!("{form}, {files}")),
    ];
    let made_from = made_from.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    ShardPlan { plan: checksum_of_text(&text), command: command.to_owned(), about, made_from }
}

/// The files of a folder, or of a shard of it.
pub(super) fn sink_of(
    out: &Path,
    layout: &Arc<OutputLayout>,
    plan: &ShardPlan,
    options: &WriteOptions,
) -> Result<Publish> {
    match options.shard {
        Some(shard) => Publish::create_shard(out, Arc::clone(layout), plan, shard, options.portable),
        None => Publish::create(out, Arc::clone(layout), &plan.plan),
    }
}

/// The way to go on after an interruption.
pub(super) fn way_to_resume(options: &WriteOptions) -> &'static str {
    match options.shard {
        Some(_) => "run the same command again: other shards that are complete stay",
        None => "run the same command again: nothing was written",
    }
}

/// A single file without a manifest that was written.
pub(super) fn one_file(plan: String, out: &Path, rows: u64) -> Result<Published> {
    let bytes = std::fs::metadata(out).map_err(Error::io("read", out))?.len();
    let name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Published { plan, rows, files: vec![PublishedFile { name, rows, bytes, checksum: None }] })
}

/// The resources, with the memory that remains after that of row groups.
pub(super) fn before_files(resources: &Resources) -> Resources {
    Resources { memory: resources.memory / SHARES * SHARES_BEFORE, ..resources.clone() }
}

/// Writes tables with this many `rows` in total: a folder of Parquet files, or one file if `out` ends in `.parquet`.
///
/// # Errors
/// A target that exists or can't be written, or errors of the tables; then nothing is visible.
pub fn write_tables(
    tables: Pipeline<RecordBatch>,
    schema: &SchemaRef,
    rows: u64,
    out: &Path,
    resources: &Resources,
) -> Result<Published> {
    let of_a_file = if is_one_file(out) { rows } else { (FILE_BYTES / row_bytes(schema).max(1)).max(1) };
    let parts = parts_of(rows, of_a_file).collect();
    let layout = Arc::new(OutputLayout::new(schema, &FileOptions::default(), parts)?);
    let sink = Publish::create(out, Arc::clone(&layout), "")?;
    let run = encoded(tables, layout, resources)?.run("write", sink);
    completed(run, "run the same command again: nothing was written").map(|(published, _)| published)
}

/// Files of this many rows each, of `rows` in total: at least one.
pub(super) fn parts_of(rows: u64, of_a_file: u64) -> impl Iterator<Item = PartRows> {
    let starts = (0..rows.max(1)).step_by(to_usize(of_a_file.max(1)));
    starts.enumerate().map(move |(number, before)| PartRows { number, rows: of_a_file.min(rows - before), folders: 1 })
}

/// `gather → encode ×N`: tables as row groups of the files of a layout, for [`Publish`] to append.
///
/// # Errors
/// This fails only through a bug.
pub fn encoded(
    tables: Pipeline<RecordBatch>,
    layout: Arc<OutputLayout>,
    resources: &Resources,
) -> Result<Pipeline<Encoded>> {
    let Resources { threads, memory, .. } = *resources;
    let encoder = RowGroupEncoder::new(Arc::clone(&layout))?;
    let edge = |shares: usize| Capacity { items: 1 + 2 * threads.get(), bytes: memory / SHARES * shares };
    Ok(tables
        .capacity(edge(SHARES - SHARES_BEFORE - SHARES_ENCODED))
        .then("gather", GatherRowGroups::new(layout))
        .capacity(edge(SHARES_ENCODED))
        .map("encode", threads, move |gathered| encoder.encode(gathered)))
}

impl PredictionForm {
    /// Its name in messages.
    fn description(self) -> &'static str {
        match self {
            Self::WideMeans => "means in a wide table",
            Self::LongMeans => "means in a long table",
            Self::Changes => "changes",
            Self::Cells => "cells",
            Self::Latent => "latents",
        }
    }

    /// Its name in files.
    #[cfg_attr(not(feature = "hdf5"), expect(dead_code, reason = "only .h5ad files name it"))]
    fn name(self) -> &'static str {
        match self {
            Self::WideMeans | Self::LongMeans => "means",
            Self::Changes => "changes",
            Self::Cells => "cells",
            Self::Latent => "latent",
        }
    }
}
