//! Results as a stream of Arrow record batches on standard output, for the program that started this one.
//!
//! The stream ends with a marker, but readers take a stream without one for complete as well: who reads it has to look at the
//! exit code.

use std::{
    io::{self, BufWriter, Stdout},
    ops::ControlFlow,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef, ipc::writer::StreamWriter};
use cli::model_args::writing::WriteArgs;
use perturbine::{
    Error, Pipeline, Result,
    flows::{AGAIN, completed},
};
use stages::{BoxError, Sink};

/// Writes all batches; returns the number of their rows.
///
/// # Errors
/// Those of the pipeline, or a reader that is gone.
pub(super) fn write(schema: &SchemaRef, batches: Pipeline<RecordBatch>) -> Result<u64> {
    Ok(completed(batches.run("write", ToStandardOutput::begin(schema)?), AGAIN)?.0)
}

/// Writes batches that are already there.
///
/// # Errors
/// A reader that is gone.
pub(super) fn write_all(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<u64> {
    let mut output = ToStandardOutput::begin(schema)?;
    batches.iter().try_for_each(|batch| output.write(batch))?;
    output.end()
}

/// Refuses flags about files.
///
/// # Errors
/// The flags.
pub(super) fn refuse_files(writing: &WriteArgs, force: bool) -> Result<()> {
    match writing.of_files().or(force.then_some("--force")) {
        Some(flag) => {
            let message = format!("--out - writes a stream of Arrow record batches, and {flag} is about files");
            Err(Error::usage(message, format!("leave out {flag}, or name a file or folder")))
        }
        None => Ok(()),
    }
}

struct ToStandardOutput {
    writer: StreamWriter<BufWriter<Stdout>>,
    rows: u64,
}

impl ToStandardOutput {
    fn begin(schema: &SchemaRef) -> Result<Self> {
        let writer = StreamWriter::try_new_buffered(io::stdout(), schema).map_err(failed)?;
        Ok(Self { writer, rows: 0 })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).map_err(failed)
    }

    fn end(mut self) -> Result<u64> {
        self.writer.finish().and_then(|()| self.writer.flush()).map_err(failed)?;
        Ok(self.rows)
    }
}

impl Sink for ToStandardOutput {
    type In = RecordBatch;
    type Summary = u64;

    fn push(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>, BoxError> {
        self.write(&batch)?;
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<u64, BoxError> {
        Ok(self.end()?)
    }
}

fn failed(error: arrow::error::ArrowError) -> Error {
    match error {
        arrow::error::ArrowError::IoError(_, source) => Error::io("write", "standard output")(source),
        other => Error::Bug(other.to_string()),
    }
}
