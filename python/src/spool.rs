//! Any Arrow table as a file, for commands that read files.

use std::{path::PathBuf, sync::Arc};

use arrow::{
    array::{RecordBatch, RecordBatchReader},
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    ipc::{
        CompressionType,
        writer::{FileWriter, IpcWriteOptions},
    },
};
use pyo3::prelude::*;
use schemas::Error;
use storage::disk::DiskFile;

use crate::{arrow_stream::taken_from, error::OrRaise};

/// Writes the table of an object with `__arrow_c_stream__` to an Arrow file, and returns its number of rows.
///
/// Categories become their values, as `perturbine ingest` takes columns of text. Nothing is kept in memory but one record batch.
#[pyfunction]
pub(crate) fn write_table(py: Python<'_>, table: &Bound<'_, PyAny>, path: PathBuf) -> PyResult<u64> {
    let mut batches = taken_from(table)?;
    let schema = plain(&batches.schema());
    let failed = |error: ArrowError| match error {
        ArrowError::IoError(_, source) => Error::io("write", &path)(source),
        other => Error::data("the Arrow stream", other.to_string(), "check that its producer can be read to its end"),
    };
    let writer = || {
        let compressed = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME));
        let file = DiskFile::create_new(&path)?;
        compressed.and_then(|options| FileWriter::try_new_with_options(file, &schema, options)).map_err(failed)
    };
    let mut writer = py.detach(writer).or_raise(py)?;
    let mut rows = 0;
    loop {
        py.check_signals()?;
        let written = || {
            let Some(batch) = batches.next() else { return writer.finish().map(|()| None) };
            let batch = as_plain(&batch?, &schema)?;
            writer.write(&batch)?;
            Ok(Some(batch.num_rows() as u64))
        };
        match py.detach(written).map_err(failed).or_raise(py)? {
            Some(more) => rows += more,
            None => return Ok(rows),
        }
    }
}

/// The schema without dictionaries.
fn plain(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            DataType::Dictionary(_, values) => field.as_ref().clone().with_data_type(values.as_ref().clone()),
            _ => field.as_ref().clone(),
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn as_plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}
