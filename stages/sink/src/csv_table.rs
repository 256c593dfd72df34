//! Writes tables of texts and numbers to one file of comma-separated values.

use std::{io::BufWriter, ops::ControlFlow, path::Path, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array},
    compute::{cast, take},
    datatypes::{DataType, Field, Schema},
    error::ArrowError,
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
    has_vectors: bool,
}

impl CsvTable {
    /// Starts a file with the names of the columns.
    ///
    /// # Errors
    /// A target that exists or can't be created, or a column that is a list.
    pub fn create(path: &Path, schema: &Schema) -> Result<Self> {
        Self::start(path, schema, false)
    }

    /// The same with a column for each number of a vector: `basal_1`, `basal_2` and so on.
    ///
    /// # Errors
    /// A target that exists or can't be created, or a column that is a list of any length.
    pub fn with_vectors(path: &Path, schema: &Schema) -> Result<Self> {
        Self::start(path, &schema_of_numbers(schema), true)
    }

    /// Writes a whole file.
    ///
    /// # Errors
    /// Those of [`CsvTable::create`], or a file that can't be written.
    pub fn write(path: &Path, table: &RecordBatch) -> Result<u64> {
        let mut file = Self::create(path, &table.schema())?;
        file.append(table)?;
        file.commit()
    }

    fn start(path: &Path, schema: &Schema, has_vectors: bool) -> Result<Self> {
        if let Some(list) = schema.fields().iter().find(|field| field.data_type().is_nested()) {
            return Err(Error::usage(
                format!("a .csv file has no lists, which the column `{}` is", list.name()),
                "use --output changes or --layout long, or give --out a name that ends in .parquet",
            ));
        }
        let staged = StagedFile::create(path)?;
        let file = BufWriter::new(DiskFile::append_to(staged.path())?);
        let mut table = Self { writer: csv::Writer::from_writer(file), staged, rows: 0, has_vectors };
        let names = schema.fields().iter().map(|field| field.name());
        table.writer.write_record(names).map_err(|error| table.failed(error))?;
        Ok(table)
    }

    fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        let text = |column: &ArrayRef| cast(column, &DataType::Utf8).map_err(|error| Error::Bug(error.to_string()));
        let columns = match self.has_vectors {
            true => numbers_of(batch).map_err(|error| Error::Bug(error.to_string()))?,
            false => batch.columns().to_vec(),
        };
        let columns = columns.iter().map(text).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            let values = columns
                .iter()
                .map(|column| if column.is_null(row) { "" } else { column.as_string::<i32>().value(row) });
            self.writer.write_record(values).map_err(|error| self.failed(error))?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn commit(mut self) -> Result<u64> {
        self.writer.flush().map_err(Error::io("write", self.staged.path()))?;
        drop(self.writer);
        self.staged.commit()?;
        Ok(self.rows)
    }

    fn failed(&self, error: csv::Error) -> Error {
        match error.into_kind() {
            csv::ErrorKind::Io(error) => Error::io("write", self.staged.path())(error),
            other => Error::Bug(format!("{other:?}")),
        }
    }
}

/// The columns, with those of numbers in place of those of vectors.
fn schema_of_numbers(schema: &Schema) -> Schema {
    let columns = |field: &Arc<Field>| match field.data_type() {
        DataType::FixedSizeList(item, width) => {
            let number =
                |place| Arc::new(Field::new(format!("{}_{place}", field.name()), item.data_type().clone(), true));
            (1..=*width).map(number).collect()
        }
        _ => vec![Arc::clone(field)],
    };
    Schema::new(schema.fields().iter().flat_map(columns).collect::<Vec<_>>())
}

/// The same of a table: the numbers at each place of vectors.
fn numbers_of(batch: &RecordBatch) -> Result<Vec<ArrayRef>, ArrowError> {
    let mut columns = Vec::new();
    for column in batch.columns() {
        let Some(vectors) = column.as_fixed_size_list_opt() else {
            columns.push(Arc::clone(column));
            continue;
        };
        let width = vectors.value_offset_at(1);
        for place in 0..width {
            let at = |row: usize| vectors.is_valid(row).then(|| (vectors.value_offset_at(row) + place) as u64);
            columns.push(take(vectors.values(), &UInt64Array::from_iter((0..vectors.len()).map(at)), None)?);
        }
    }
    Ok(columns)
}

impl Sink for CsvTable {
    type In = RecordBatch;
    type Summary = u64;

    fn push(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>, BoxError> {
        self.append(&batch)?;
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<u64, BoxError> {
        Ok(self.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::{array::FixedSizeListArray, datatypes::Int32Type};

    use super::*;

    #[test]
    fn a_vector_is_a_column_for_each_number() {
        let rows = [Some(vec![Some(1), Some(2)]), None, Some(vec![Some(3), Some(4)])];
        let vectors = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(rows, 2);
        let names = Arc::new(arrow::array::StringArray::from_iter_values(["a", "b", "c"])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("cell", names), ("basal", Arc::new(vectors) as _)]).expect("columns");
        let names: Vec<String> =
            schema_of_numbers(&batch.schema()).fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["cell", "basal_1", "basal_2"]);
        let columns = numbers_of(&batch.slice(1, 2)).expect("a table");
        let numbers = |at: usize| columns[at].as_primitive::<Int32Type>().iter().collect::<Vec<_>>();
        assert_eq!((numbers(1), numbers(2)), (vec![None, Some(3)], vec![None, Some(4)]));
    }
}
