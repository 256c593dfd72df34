//! A Parquet or Arrow file as parts that can be read one by one: row groups, or record batches.

use std::{
    error::Error as StdError,
    fs::File,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
};

use arrow::{array::RecordBatch, compute::concat_batches, datatypes::SchemaRef};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder},
    },
    file::statistics::Statistics,
};
use schemas::{Error, Result};
use storage::parquet_read::{Batches, Pages, parquet_metadata};

use super::{
    ipc::Ipc,
    part::{TablePart, unreadable},
};

/// Rows per batch in which a part is read.
const BATCH_ROWS: usize = 1024;

/// An open file.
#[derive(Clone, Debug)]
pub(super) struct TableFile {
    path: PathBuf,
    kind: TableFormat,
}

#[derive(Clone, Debug)]
enum TableFormat {
    Parquet(ArrowReaderMetadata),
    Ipc(Ipc),
}

/// Whether a file's first bytes are those of a table, or its name is.
pub(super) fn is_one(path: &Path) -> bool {
    let mut start = [0; 6];
    let is_known = File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok()
        && (start.starts_with(b"PAR1") || start == *b"ARROW1");
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    is_known || matches!(extension.as_str(), "parquet" | "pq" | "arrow" | "feather" | "ipc")
}

impl TableFile {
    /// Opens a file and reads its description.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let mut start = [0; 4];
        let is_parquet = file.read_exact(&mut start).is_ok() && start == *b"PAR1";
        let kind = if is_parquet {
            TableFormat::Parquet(parquet_metadata(&file).map_err(|error| unreadable(path, &error))?)
        } else {
            TableFormat::Ipc(Ipc::open(file, path)?)
        };
        Ok(Self { path: path.to_path_buf(), kind })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn schema(&self) -> SchemaRef {
        match &self.kind {
            TableFormat::Parquet(metadata) => metadata.schema().clone(),
            TableFormat::Ipc(ipc) => ipc.schema(),
        }
    }

    /// The parts, in order, with the number of values that a column of lists holds in each.
    pub(super) fn parts(&self, lists: Option<usize>) -> Result<Vec<TablePart>> {
        let metadata = match &self.kind {
            TableFormat::Parquet(metadata) => metadata,
            TableFormat::Ipc(ipc) => return Ok(ipc.parts()),
        };
        let leaf = lists.and_then(|column| self.leaf(column));
        let count = |number: i64| {
            u64::try_from(number).map_err(|_| self.error("a row group has a negative size", "the file is damaged"))
        };
        let groups = metadata.metadata().row_groups().iter();
        groups
            .map(|group| {
                let values = leaf.map_or(0, |leaf| group.column(leaf).num_values());
                Ok(TablePart { rows: count(group.num_rows())?, list_values: count(values)? })
            })
            .collect()
    }

    /// The largest number in a column, if the file states it.
    pub(super) fn largest(&self, column: usize) -> Option<i64> {
        let TableFormat::Parquet(metadata) = &self.kind else { return None };
        let leaf = self.leaf(column)?;
        let of_group = |statistics: &Statistics| match statistics {
            Statistics::Int32(numbers) => numbers.max_opt().map(|most| i64::from(*most)),
            Statistics::Int64(numbers) => numbers.max_opt().copied(),
            _ => None,
        };
        let groups = metadata.metadata().row_groups().iter();
        let largest = groups.map(|group| group.column(leaf).statistics().and_then(of_group));
        largest.collect::<Option<Vec<i64>>>()?.into_iter().max()
    }

    /// Some rows of a part: these columns, in this order.
    pub(super) fn read(&self, part: usize, columns: &[usize], rows: Range<usize>) -> Result<RecordBatch> {
        let mut batches = Vec::new();
        self.for_each(part, columns, rows, |batch| {
            batches.push(batch);
            Ok(())
        })?;
        match batches.as_slice() {
            [batch] => Ok(batch.clone()),
            [] => {
                let schema = self.schema().project(columns).map_err(|error| self.unreadable(&error))?;
                Ok(RecordBatch::new_empty(schema.into()))
            }
            [first, ..] => concat_batches(&first.schema(), &batches).map_err(|error| self.unreadable(&error)),
        }
    }

    /// Calls `show` with some rows of a part, batch by batch: these columns, in this order.
    pub(super) fn for_each(
        &self,
        part: usize,
        columns: &[usize],
        rows: Range<usize>,
        mut show: impl FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        // A reader returns columns in the order of the file.
        let mut in_file: Vec<usize> = columns.to_vec();
        in_file.sort_unstable();
        let places: Vec<usize> = columns.iter().map(|column| in_file.partition_point(|other| other < column)).collect();
        match &self.kind {
            TableFormat::Parquet(metadata) => {
                let file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
                let mask = ProjectionMask::roots(metadata.parquet_schema(), in_file);
                let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(Pages(file), metadata.clone())
                    .with_row_groups(vec![part])
                    .with_projection(mask)
                    .with_batch_size(BATCH_ROWS)
                    .with_offset(rows.start)
                    .with_limit(rows.len());
                for batch in Batches::new(builder).map_err(|error| self.unreadable(&error))? {
                    let batch = batch.map_err(|error| self.unreadable(&error))?;
                    show(batch.project(&places).map_err(|error| self.unreadable(&error))?)?;
                }
                Ok(())
            }
            TableFormat::Ipc(ipc) => {
                let batch = ipc.read(part, columns, &self.path)?;
                if batch.num_rows() < rows.end {
                    return Err(self.error("a record batch is shorter than it says", "the file is damaged"));
                }
                show(batch.slice(rows.start, rows.len()))
            }
        }
    }

    /// An error about the file.
    pub(super) fn error(&self, message: impl Into<String>, hint: &str) -> Error {
        Error::data(self.path.display().to_string(), message, hint)
    }

    /// An error of a library about the file.
    pub(super) fn unreadable(&self, error: &dyn StdError) -> Error {
        unreadable(&self.path, error)
    }

    /// The Parquet column with the values of a column, which may be a list.
    fn leaf(&self, column: usize) -> Option<usize> {
        let TableFormat::Parquet(metadata) = &self.kind else { return None };
        let schema = metadata.parquet_schema();
        (0..schema.num_columns()).find(|leaf| schema.get_column_root_idx(*leaf) == column)
    }
}
