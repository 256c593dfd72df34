//! How tables of predictions are divided into files: everything that determines the files' bytes.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{DataType, Schema, SchemaRef},
};
use parquet::file::properties::WriterProperties;
use schemas::{Error, Result};
pub use storage::output_name::is_named;
use storage::{output_name, parquet_file};

use super::{OutputPrecision, hive};

/// The key in the schema's metadata for the precision of the numbers.
pub const PRECISION_KEY: &str = "precision";

/// Bytes of values that are encoded together as a row group: few enough that each of many threads can have
/// its own within the memory of a run.
const GROUP_BYTES: u64 = 8 << 20;
/// Total bytes of values that wait for their row groups, if rows go to many folders.
const WAITING_BYTES: u64 = 128 << 20;
/// Minimum size of a row group, in bytes.
const SMALLEST_GROUP_BYTES: u64 = 32 << 10;
/// Maximum number of rows in a row group.
const GROUP_ROWS: u64 = 1 << 17;
/// The assumed size of a string.
const TEXT_BYTES: u64 = 16;

/// Options for the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileOptions {
    /// The precision of the numbers.
    pub precision: OutputPrecision,
    /// Columns whose values become folder names.
    pub partition_by: Vec<String>,
}

/// A part of the rows: a file, or one file in each folder that its rows go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRows {
    /// Its number among all parts, from which its files are named.
    pub number: usize,
    /// Number of rows.
    pub rows: u64,
    /// Approximate number of folders that its rows go to.
    pub folders: usize,
}

/// Bytes of values per row group, if rows go to this many folders.
fn group_bytes(folders: usize) -> u64 {
    (WAITING_BYTES / folders.max(1) as u64).clamp(SMALLEST_GROUP_BYTES, GROUP_BYTES)
}

/// Maximum bytes of values that wait in memory for their row groups, if rows go to this many folders.
#[must_use]
pub fn waiting_bytes(folders: usize) -> u64 {
    folders as u64 * group_bytes(folders)
}

/// How tables of predictions are divided into files.
#[derive(Debug)]
pub struct OutputLayout {
    /// The parts that are written here, in the order in which their rows arrive.
    pub parts: Vec<PartRows>,
    pub(super) precision: OutputPrecision,
    /// The schemas of the tables that arrive, and of those that are stored.
    pub(super) given: SchemaRef,
    pub(super) stored: SchemaRef,
    keys: Vec<usize>,
    kept: Vec<usize>,
    pub(super) properties: WriterProperties,
    group_bytes: u64,
    row_bytes: u64,
}

impl OutputLayout {
    /// Creates the layout for tables of `schema`.
    ///
    /// # Errors
    /// A column to partition by that does not exist, is not text, or is named twice.
    pub fn new(schema: &SchemaRef, options: &FileOptions, parts: Vec<PartRows>) -> Result<Self> {
        let keys = options.partition_by.iter().map(|name| key(schema, name)).collect::<Result<Vec<usize>>>()?;
        if let Some(at) = (1..keys.len()).find(|at| keys[..*at].contains(&keys[*at])) {
            let message = format!("--partition-by names {} twice", options.partition_by[at]);
            return Err(Error::usage(message, "name each column once"));
        }
        let kept: Vec<usize> = (0..schema.fields().len()).filter(|at| !keys.contains(at)).collect();
        let fields: Vec<_> = kept.iter().map(|at| Arc::clone(&schema.fields()[*at])).collect();
        let mut metadata = schema.metadata().clone();
        metadata.insert(PRECISION_KEY.to_owned(), options.precision.name().to_owned());
        let stored: SchemaRef = Arc::new(Schema::new_with_metadata(fields, metadata));
        let folders = parts.iter().map(|part| part.folders).max().unwrap_or(1);
        Ok(Self {
            precision: options.precision,
            given: Arc::clone(schema),
            properties: parquet_file::properties_of_predictions(&stored),
            group_bytes: group_bytes(folders),
            row_bytes: row_bytes(&stored),
            parts,
            stored,
            keys,
            kept,
        })
    }

    /// Approximate size of this many rows in memory, in bytes.
    pub(super) fn bytes(&self, rows: u64) -> u64 {
        rows * self.row_bytes
    }

    /// Whether this many rows are enough for a row group.
    pub(super) fn fill_a_group(&self, rows: u64) -> bool {
        rows >= GROUP_ROWS || self.group_bytes <= self.bytes(rows)
    }

    /// Runs of rows that go to the same folder, without the columns that are in folder names.
    pub(super) fn by_folder(&self, batch: &RecordBatch) -> Result<Vec<(String, RecordBatch)>> {
        let kept = batch.project(&self.kept).map_err(|error| Error::Bug(error.to_string()))?;
        if !self.is_partitioned() {
            return Ok(vec![(String::new(), kept)]);
        }
        let columns: Vec<_> = self.keys.iter().map(|at| batch.column(*at).as_string::<i32>()).collect();
        let (mut runs, mut start) = (Vec::new(), 0);
        while start < batch.num_rows() {
            let differs = |row: &usize| columns.iter().any(|column| column.value(*row) != column.value(start));
            let end = (start + 1..batch.num_rows()).find(differs).unwrap_or(batch.num_rows());
            let names = self.keys.iter().map(|at| self.given.field(*at).name().as_str());
            let folder = hive::folder(names.zip(columns.iter().map(|column| column.value(start))))?;
            runs.push((folder, kept.slice(start, end - start)));
            start = end;
        }
        Ok(runs)
    }

    /// Whether rows are distributed over folders.
    pub(super) fn is_partitioned(&self) -> bool {
        !self.keys.is_empty()
    }
}

/// The index of a column to partition by.
fn key(schema: &Schema, name: &str) -> Result<usize> {
    let texts = schema.fields().iter().filter(|field| *field.data_type() == DataType::Utf8);
    match schema.index_of(name) {
        Ok(at) if *schema.field(at).data_type() == DataType::Utf8 => Ok(at),
        _ => Err(Error::unknown("column to partition by", name, texts.map(|field| field.name().as_str()))),
    }
}

/// Approximate size of a row in memory, in bytes; the size of texts is a guess.
#[must_use]
pub fn row_bytes(schema: &Schema) -> u64 {
    fn value_bytes(kind: &DataType) -> u64 {
        match kind {
            DataType::FixedSizeList(item, length) => value_bytes(item.data_type()) * u64::from(length.unsigned_abs()),
            DataType::List(item) => TEXT_BYTES * value_bytes(item.data_type()),
            kind => kind.primitive_width().map_or(TEXT_BYTES, |width| width as u64),
        }
    }
    schema.fields().iter().map(|field| value_bytes(field.data_type())).sum()
}

/// Whether predictions are written to a single file.
#[must_use]
pub fn is_one_file(target: &Path) -> bool {
    is_named(target, "parquet")
}

/// Refuses a name for a table or a folder of tables that promises another format.
///
/// # Errors
/// A name that ends in `.csv`, `.h5ad` or the like.
pub fn check_name(target: &Path) -> Result<()> {
    output_name::check_name("--out", target, &["parquet"], true)
}
