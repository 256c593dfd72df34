//! Writes tables of texts and numbers to one file of comma-separated values.

use std::{io::BufWriter, ops::ControlFlow, path::Path};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Schema},
};
use schemas::{Error, Result};
use stage::{BoxError, Sink};
use storage::disk::{DiskFile, StagedFile};

/// A file that is being written; if dropped without the last table, it leaves nothing behind.
#[derive(Debug)]
pub struct CsvTable {
    writer: csv::Writer<BufWriter<DiskFile>>,
    staged: StagedFile,
    rows: u64,
}

impl CsvTable {
    /// Starts a file with the names of the columns.
    ///
    /// # Errors
    /// A target that exists or can't be created, or a column that is a list.
    pub fn create(path: &Path, schema: &Schema) -> Result<Self> {
        if let Some(list) = schema.fields().iter().find(|field| field.data_type().is_nested()) {
            return Err(Error::usage(
                format!("a .csv file has no lists, which the column `{}` is", list.name()),
                "use --output changes or --layout long, or give --out a name that ends in .parquet",
            ));
        }
        let staged = StagedFile::create(path)?;
        let file = BufWriter::new(DiskFile::append_to(staged.path())?);
        let mut table = Self { writer: csv::Writer::from_writer(file), staged, rows: 0 };
        let names = schema.fields().iter().map(|field| field.name());
        table.writer.write_record(names).map_err(|error| table.failed(error))?;
        Ok(table)
    }

    fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        let text = |column: &ArrayRef| cast(column, &DataType::Utf8).map_err(|error| Error::Bug(error.to_string()));
        let columns = batch.columns().iter().map(text).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            let values = columns
                .iter()
                .map(|column| if column.is_null(row) { "" } else { column.as_string::<i32>().value(row) });
            self.writer.write_record(values).map_err(|error| self.failed(error))?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn failed(&self, error: csv::Error) -> Error {
        match error.into_kind() {
            csv::ErrorKind::Io(error) => Error::io("write", self.staged.path())(error),
            other => Error::Bug(format!("{other:?}")),
        }
    }
}

impl Sink for CsvTable {
    type In = RecordBatch;
    type Summary = u64;

    fn push(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>, BoxError> {
        self.append(&batch)?;
        Ok(ControlFlow::Continue(()))
    }

    fn finish(mut self) -> Result<u64, BoxError> {
        self.writer.flush().map_err(Error::io("write", self.staged.path()))?;
        drop(self.writer);
        self.staged.commit()?;
        Ok(self.rows)
    }
}
