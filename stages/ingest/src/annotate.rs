//! Writes annotations of cells to the atlas unchanged, and their labels as codes.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray},
    datatypes::SchemaRef,
};
use reader::records::RowRecords;
use schemas::{
    ByteSize, Error, Result,
    atlas::{FileEntry, files},
    conditions::{ConditionTable, Covariate},
    ids::ConditionId,
    numbers::to_usize,
};
use stage::{BoxError, Stage, pool::Pooled};
use storage::{
    disk::{HashedFile, StagedFolder},
    mmap,
    parquet_file::ParquetFile,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    census::ValueCensus,
    label::{LabelTables, Labeller},
    row_range::ReadRowRange,
};

/// Rows of consecutive cells.
#[derive(Debug)]
pub struct RowBatch(pub Pooled<RowRecords>);

impl ByteSize for RowBatch {
    fn byte_size(&self) -> usize {
        self.0.byte_size()
    }
}

/// Rows and their codes, one record per row: the condition id, then the covariate codes.
#[derive(Debug)]
pub struct Labelled {
    /// The rows.
    pub rows: RowBatch,
    /// The codes.
    pub codes: Vec<u32>,
}

/// Results of the annotation.
#[derive(Debug)]
pub struct Annotated {
    /// Number of cells that were kept.
    pub cells: u64,
    /// The entry of `labels.bin`.
    pub labels: FileEntry,
    /// The conditions.
    pub conditions: ConditionTable,
    /// Number of cells of each condition.
    pub cells_of: Vec<u64>,
    /// The covariates.
    pub covariates: Vec<Covariate>,
    /// The census of the values.
    pub census: ValueCensus,
}

/// Where [`Annotate`] stores its results, once its stream is complete.
#[derive(Clone, Debug, Default)]
pub struct AnnotationResult(Arc<Mutex<Option<Annotated>>>);

impl AnnotationResult {
    /// The results; `None` before the stream is complete.
    #[must_use]
    pub fn take(&self) -> Option<Annotated> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Labels of cells whose perturbation is unknown.
const UNASSIGNED: [&str; 9] =
    ["unassigned", "unknown", "ambiguous", "negative", "doublet", "None", "NA", "nan", "<NA>"];

/// Values with which other programs mark a missing covariate.
const MISSING_AS_TEXT: [&str; 7] = ["", "nan", "None", "NA", "N/A", "<NA>", "null"];

/// The files that annotations are written to, and the labels so far.
#[derive(Debug)]
struct AnnotationOutput {
    cells: ParquetFile,
    labels: HashedFile,
    labeller: Labeller,
}

/// Writes `cells.parquet` and `labels.bin`, and passes the rows on.
#[derive(Debug)]
pub struct Annotate {
    output: Option<AnnotationOutput>,
    names: CellNameHashes,
    cells: u64,
    unnamed: usize,
    census: ValueCensus,
    findings: AnnotationResult,
}

impl Annotate {
    /// Creates both files in the folder, for at most `most_cells` cells.
    ///
    /// # Errors
    /// Files that can't be created.
    pub fn new(
        folder: &StagedFolder,
        obs: SchemaRef,
        labeller: Labeller,
        most_cells: u64,
    ) -> Result<(Self, AnnotationResult)> {
        let cells = ParquetFile::create(&folder.file(files::CELLS), obs)?;
        let labels = HashedFile::create(&folder.file(files::LABELS))?;
        let findings = AnnotationResult::default();
        let stage = Self {
            output: Some(AnnotationOutput { cells, labels, labeller }),
            names: CellNameHashes::new(folder, most_cells)?,
            cells: 0,
            unnamed: 0,
            census: ValueCensus::default(),
            findings: findings.clone(),
        };
        Ok((stage, findings))
    }
}

impl Stage for Annotate {
    type In = ReadRowRange;
    type Out = Labelled;

    fn push(&mut self, mut range: ReadRowRange, emit: &mut dyn FnMut(Labelled)) -> Result<(), BoxError> {
        let output = self.output.as_mut().ok_or("the stream has ended")?;
        self.unnamed += name_all(&mut range)?;
        let codes = output.labeller.codes(&range.cells, &range.obs)?;
        output.labels.append(bytemuck::cast_slice(&codes))?;
        output.cells.write(&range.obs)?;
        self.names.add(&range.obs, self.cells);
        self.census.merge(range.census);
        range.records.number_from(self.cells);
        self.cells += range.cells.len() as u64;
        emit(Labelled { rows: RowBatch(range.records), codes });
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn FnMut(Labelled)) -> Result<(), BoxError> {
        let AnnotationOutput { cells, labels, labeller } = self.output.take().ok_or("the stream has ended")?;
        cells.finish()?;
        let LabelTables { conditions, cells_of, covariates } = labeller.finish();
        let census = std::mem::take(&mut self.census);
        if self.unnamed > 0 {
            tracing::warn!("{} cells have no name and are named by position: cell0, cell1, ...", self.unnamed);
        }
        let repeated = self.names.repeated(self.cells);
        if repeated > 0 {
            tracing::warn!("{repeated} cells have the name of another cell; cells are identified by position");
        }
        if census.empty_cells > 0 {
            tracing::warn!("{} cells have no expression at all", census.empty_cells);
        }
        for (id, cells) in cells_of.iter().enumerate().map(|(id, cells)| (ConditionId::at(id), cells)) {
            let name = conditions.name(id);
            if UNASSIGNED.iter().any(|label| label.eq_ignore_ascii_case(name)) && *cells > 0 {
                tracing::warn!(
                    "{cells} cells are labelled `{name}`, which counts as a perturbation; --drop-label '{name}' leaves them out"
                );
            }
        }
        covariates.iter().for_each(warn_of_missing_as_text);
        let found = Annotated { cells: self.cells, labels: labels.finish()?, conditions, cells_of, covariates, census };
        *self.findings.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(())
    }
}

/// Names the values of a covariate that look like missing ones.
fn warn_of_missing_as_text(covariate: &Covariate) {
    let name = &covariate.name;
    let is_text = |value: &&String| MISSING_AS_TEXT.iter().any(|text| text.eq_ignore_ascii_case(value));
    for value in covariate.values.iter().filter(is_text) {
        tracing::warn!(
            "some cells have the text `{value}` in the covariate `{name}`, which counts as a value of its own; \
             --filter '{name}!={value}' leaves them out"
        );
    }
}

/// Names cells without a name by their position in the source, as in a table without names; returns how many
/// there were.
fn name_all(range: &mut ReadRowRange) -> Result<usize> {
    let Some(names) = range.obs.columns().first().and_then(|names| names.as_string_opt::<i32>()) else { return Ok(0) };
    let unnamed = names.null_count();
    if unnamed == 0 {
        return Ok(0);
    }
    let named =
        names.iter().zip(&range.cells).map(|(name, cell)| name.map_or_else(|| format!("cell{cell}"), str::to_owned));
    let named: ArrayRef = Arc::new(StringArray::from_iter_values(named));
    let columns = std::iter::once(named).chain(range.obs.columns()[1..].iter().cloned()).collect();
    range.obs = RecordBatch::try_new(range.obs.schema(), columns).map_err(|error| Error::Bug(error.to_string()))?;
    Ok(unnamed)
}

/// A hash of every cell's name, in a file without a name that disappears with this value.
#[derive(Debug)]
struct CellNameHashes {
    hashes: mmap::MappedTable,
}

impl CellNameHashes {
    fn new(folder: &StagedFolder, most_cells: u64) -> Result<Self> {
        Ok(Self { hashes: mmap::MappedTable::create_unnamed(&folder.file("names.bin"), most_cells)? })
    }

    fn add(&mut self, obs: &RecordBatch, first: u64) {
        let Some(names) = obs.columns().first().and_then(|names| names.as_string_opt::<i32>()) else { return };
        let Ok(first) = usize::try_from(first) else { return };
        let hashes = &mut self.hashes.numbers()[first..first + names.len()];
        for (hash, name) in hashes.iter_mut().zip(names) {
            *hash = xxh3_64(name.unwrap_or_default().as_bytes());
        }
    }

    /// Number of cells that have the same name as an earlier one.
    fn repeated(&mut self, cells: u64) -> usize {
        let hashes = self.hashes.numbers();
        let cells = to_usize(cells).min(hashes.len());
        let hashes = &mut hashes[..cells];
        hashes.sort_unstable();
        hashes.windows(2).filter(|pair| pair[0] == pair[1]).count()
    }
}
