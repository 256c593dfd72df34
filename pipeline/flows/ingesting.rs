//! `source → read → annotate → tally → cut → pack → store`; shuffled rows pass through `spill` and `shuffle` before `cut`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use formats::{
    format::Choice,
    source::{RowRanges, Source, column_index},
    version::stamp_of,
};
use ingest::{
    annotate::{Annotate, Annotated, RowBatch},
    block_run::CutBlockRuns,
    census::{OnBadValues, ValuesAs},
    external_shuffle::{ExternalShuffle, estimated_bytes},
    filter::{ConditionName, cell_filter},
    group_sums::GroupSums,
    keys::{RequestedKeys, resolve},
    label::Labeller,
    pack::BlockRunPacker,
    row_range::RowRangeReader,
    statistics,
    store::{AtlasFacts, MatrixFiles, StoreMatrix, describe, gene_names},
    tally::Tally,
};
use reader::{
    atlas::{Atlas, some_of},
    split::Split,
};
use schemas::{
    Error, Result,
    atlas::{Codec, GeneWidth, InPlace, Keys, Manifest, Selection, files},
    ids::ConditionId,
    numbers::checked,
};
use stage::phase::Phase;
use storage::disk::{StagedFolder, check_room};

use super::{Pipeline, Resources, completed};

/// Receives the number of cells read so far, from a thread of the run.
#[derive(Clone)]
pub struct OnCells(pub Arc<dyn Fn(u64) + Send + Sync>);

impl std::fmt::Debug for OnCells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnCells")
    }
}

/// Options of an ingest.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// The label columns that the user named.
    pub keys: RequestedKeys,
    /// Raw or zstd blocks, or none: then the source is read in place, in its own order.
    pub codec: Codec,
    /// How to interpret the values.
    pub values: ValuesAs,
    /// Which cells to keep.
    pub selection: Selection,
    /// The policy for invalid values.
    pub on_bad_values: OnBadValues,
    /// Receives progress.
    pub on_cells: Option<OnCells>,
    /// The seed of the shuffle; `None` keeps the source order.
    pub shuffle: Option<u64>,
    /// A column of `obs` whose values become a split with the column's name.
    pub split: Option<String>,
    /// The files or folders from which the source was opened, in order: the atlas records their versions.
    pub files: Vec<PathBuf>,
    /// The choices with which they were opened.
    pub choice: Choice,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            keys: RequestedKeys::default(),
            codec: Codec::Packed,
            values: ValuesAs::Auto,
            selection: Selection::default(),
            on_bad_values: OnBadValues::Error,
            on_cells: None,
            shuffle: Some(0),
            split: None,
            files: Vec::new(),
            choice: Choice::default(),
        }
    }
}

/// The result of an ingest.
#[derive(Debug)]
pub struct Ingested {
    /// The atlas's manifest.
    pub manifest: Manifest,
    /// The guessed label columns, as flags.
    pub guessed: Vec<String>,
    /// Other decisions, one sentence each.
    pub decided: Vec<String>,
}

/// The hint after a stopped ingest.
const AGAIN: &str = "run the same ingest again: nothing was written";

/// Creates an atlas from a source's cells.
///
/// If the kind of values is not given, and bad values are to be clipped or dropped, integers with some
/// invalid counts are only recognised at the end: they are counts, and the source is read once more. It is also read again if so
/// many cells of a condition are dropped that too few are left.
///
/// # Errors
/// A source that can't be read or understood, or a target that can't be written; then nothing is left behind.
pub fn ingest(source: Arc<dyn Source>, out: &Path, options: &IngestOptions, resources: &Resources) -> Result<Ingested> {
    let mut assumed = Assumed { values: options.values, rare: Vec::new() };
    loop {
        assumed = match ingest_as(&assumed, Arc::clone(&source), out, options, resources)? {
            Attempt::Complete(mut done) => {
                if assumed.values != options.values {
                    done.decided.push("the values are integers, so negative or very large ones are bad counts".into());
                }
                return Ok(*done);
            }
            Attempt::Refuted(better) => better,
        };
    }
}

/// The assumptions about the cells before they are read.
#[derive(Clone, Debug, PartialEq)]
struct Assumed {
    /// How to interpret the values.
    values: ValuesAs,
    /// Conditions that are left out because too few of their cells have good values.
    rare: Vec<ConditionName>,
}

impl Assumed {
    /// The assumption that has to replace it, now that the cells were read; `None` if this was right.
    fn refuted_by(&self, annotated: &Annotated, options: &IngestOptions) -> Option<Self> {
        let census = &annotated.census;
        let may_be_counts = self.values == ValuesAs::Auto && options.on_bad_values != OnBadValues::Error;
        if may_be_counts && census.not_finite_count == 0 && census.has_bad_counts() {
            return Some(Self { values: ValuesAs::Counts, rare: Vec::new() });
        }
        let (table, few) = (&annotated.conditions, 1..options.selection.min_cells);
        let ids =
            (1..annotated.cells_of.len()).filter(|id| few.contains(&annotated.cells_of[*id])).map(ConditionId::at);
        let names = ids.map(|id| (table.name(id).to_owned(), table.dose_label(id)));
        let rare: Vec<ConditionName> = names.filter(|name| !self.rare.contains(name)).collect();
        if rare.is_empty() {
            return None;
        }
        let names: Vec<String> = rare.iter().map(|(name, _)| name.clone()).collect();
        tracing::warn!(
            "{} more conditions have fewer than {} cells without those whose values are bad, and are left out: {}",
            rare.len(),
            options.selection.min_cells,
            some_of(&names)
        );
        Some(Self { values: self.values, rare: [&self.rare[..], &rare].concat() })
    }
}

/// The result of reading the cells once.
enum Attempt {
    /// The atlas is written.
    Complete(Box<Ingested>),
    /// Something else has to be assumed; nothing is written.
    Refuted(Assumed),
}

/// Reads the cells once.
fn ingest_as(
    assumed: &Assumed,
    source: Arc<dyn Source>,
    out: &Path,
    options: &IngestOptions,
    resources: &Resources,
) -> Result<Attempt> {
    let values = assumed.values;
    let keys = resolve(&*source, &options.keys)?;
    let genes = checked(source.var().num_rows(), "genes")?;
    let width = GeneWidth::for_genes(genes);
    let facts = AtlasFacts {
        source: Arc::clone(&source),
        files: options.files.iter().map(|path| Ok((path.clone(), stamp_of(path)?))).collect::<Result<_>>()?,
        choice: options.choice.clone(),
        keys: Keys {
            perturbation: keys.columns.perturbation.clone(),
            dose: keys.columns.dose.clone(),
            batch: keys.columns.covariates.last().filter(|_| options.keys.batch.is_some()).cloned(),
        },
        selection: options.selection.clone(),
        values,
        in_place: match options.codec {
            Codec::InPlace => Some(in_place(&*source, options, out)?),
            Codec::Raw | Codec::Packed | Codec::Zstd => None,
        },
    };
    if let Some(column) = &options.split {
        column_index(&*source, column)?;
    }
    if let Some(needed) = needed_room(&*source, options, width) {
        check_room(out, needed)?;
    }
    let filter = cell_filter(&source, &options.selection, &keys, &assumed.rare)?;
    let folder = StagedFolder::create(out)?;
    let labeller = Labeller::new(Arc::clone(&source), keys.columns, keys.rules);
    let (annotate, findings) = Annotate::new(&folder, source.obs_schema(), labeller, source.cells())?;
    let annotated = || findings.take().ok_or_else(|| Error::Bug("the annotations did not end".into()));
    let names = gene_names(source.var());
    let entries = source.nonzeros().unwrap_or(source.cells() * u64::from(genes) / 8);
    let (tally, tallied) = Tally::new(GroupSums::new(folder.file(""), names.len(), entries));
    let reader = RowRangeReader::new(Arc::clone(&source), values, options.on_bad_values, filter);
    let on_cells = options.on_cells.clone();
    let ranges = RowRanges::new(Arc::clone(&source)).inspect(move |range| {
        if let (Some(OnCells(report)), Ok(range)) = (&on_cells, range) {
            report(range.0.end);
        }
    });
    resources.phases.enter(Phase::Reading);
    let rows = Pipeline::from_source("source", resources.edge(), ranges)
        .with_stop(resources.stop.clone())
        .map("read", resources.threads, move |range| Ok(reader.read(range.0)?))
        .then("annotate", annotate)
        .then("tally", tally);

    let (annotated, mut matrix) = match options.shuffle.filter(|_| options.codec != Codec::InPlace) {
        None => {
            let store = StoreMatrix::create(&folder, options.codec, None)?;
            let matrix = stored(rows, store, genes, options.codec, resources)?;
            (annotated()?, matrix)
        }
        Some(seed) => {
            let bytes = estimated_bytes(source.cells(), entries, width);
            let shuffle = ExternalShuffle::create(&folder.file("spill.bin"), width, bytes, seed)?;
            let (shuffled, _) = completed(rows.run("spill", shuffle), AGAIN)?;
            let annotated = annotated()?;
            if let Some(better) = assumed.refuted_by(&annotated, options) {
                return Ok(Attempt::Refuted(better));
            }
            facts.check(&annotated)?;
            resources.phases.enter(Phase::Storing);
            let rows = Pipeline::from_source("buckets", resources.edge(), shuffled.buckets())
                .with_stop(resources.stop.clone())
                .map("shuffle", resources.threads, |bucket| Ok(bucket.shuffled()?));
            let store = StoreMatrix::create(&folder, options.codec, Some(annotated.cells))?;
            (annotated, stored(rows, store, genes, options.codec, resources)?)
        }
    };
    if let Some(better) = assumed.refuted_by(&annotated, options) {
        return Ok(Attempt::Refuted(better));
    }
    let values = facts.check(&annotated)?;
    resources.phases.enter(Phase::Statistics);
    let sums = tallied.take().ok_or_else(|| Error::Bug("the sums did not end".into()))?;
    if let Some(entry) = statistics::write(&folder, &sums, &names, &annotated, values)? {
        matrix.add(files::STATISTICS, entry);
    }
    resources.phases.enter(Phase::Saving);
    let manifest = describe(&folder, facts, annotated, matrix)?;
    let mut decided = keys.decided;
    if let Some(column) = &options.split {
        decided.extend(import_split(&Atlas::open(folder.file(""))?, out, column)?);
    }
    folder.commit()?;
    Ok(Attempt::Complete(Box::new(Ingested { manifest, guessed: keys.guessed, decided })))
}

/// Creates a split with the name of a column of `obs`; reports if `test` was read as `valid`. Errors name
/// the atlas `shown`.
///
/// # Errors
/// A missing column, a value that is not part of a split, or a full or broken disk.
pub fn import_split(atlas: &Atlas, shown: &Path, column: &str) -> Result<Option<String>> {
    let (split, said_test) = Split::from_obs(atlas, shown, column, &atlas.name_in_atlas(column)?)?;
    split.write(atlas)?;
    Ok(said_test.then(|| format!("split `{column}`: cells labelled `test` become valid, as in the original")))
}

/// The largest disk space needed at any time, if known beforehand: for shuffled rows, that of their buckets,
/// which the blocks then replace.
fn needed_room(source: &dyn Source, options: &IngestOptions, width: GeneWidth) -> Option<u64> {
    let (cells, entries) = (source.cells(), source.nonzeros()?);
    let all = options.selection == Selection::default() && options.on_bad_values == OnBadValues::Error;
    match (options.codec, options.shuffle) {
        _ if !all => None,
        (Codec::InPlace, _) => None,
        (_, Some(_)) => Some(estimated_bytes(cells, entries, width)),
        (Codec::Raw, None) => Some(entries * (width.bytes() as u64 + 1) + 4 * cells),
        // The size of packed and compressed blocks is not known beforehand.
        (Codec::Packed | Codec::Zstd, None) => None,
    }
}

/// Where the matrix of a source can be read, for an atlas that does not store it.
fn in_place(source: &dyn Source, options: &IngestOptions, out: &Path) -> Result<InPlace> {
    let refused = |why: &str| {
        let message = format!("{} can't be read in place: {why}", source.origin());
        Err(Error::usage(message, "leave out --in-place to store the matrix in the atlas"))
    };
    if options.selection != Selection::default() || options.on_bad_values != OnBadValues::Error {
        return refused("some of its cells or values are left out");
    }
    let Some(mut found) = source.in_place().filter(|found| found.matrix.form.is_plain()) else {
        return refused(
            "this needs one .h5ad with an uncompressed CSR or dense matrix of little-endian integers, float32 or float64",
        );
    };
    if found.matrix.path.to_str().is_none() {
        return refused("its path is not UTF-8, so the atlas can't record it");
    }
    let beside =
        || std::fs::canonicalize(out.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")));
    if let Some(name) = found.matrix.path.file_name()
        && beside().is_ok_and(|folder| found.matrix.path.parent() == Some(&folder))
    {
        found.matrix.path = name.into();
    }
    Ok(found)
}

fn stored(
    rows: Pipeline<RowBatch>,
    store: StoreMatrix,
    genes: u32,
    codec: Codec,
    resources: &Resources,
) -> Result<MatrixFiles> {
    let packer = BlockRunPacker::new(genes, codec);
    let run = rows
        .then("cut", CutBlockRuns::default())
        .map("pack", resources.threads, move |run| packer.pack(&run))
        .run("store", store);
    Ok(completed(run, AGAIN)?.0)
}
