//! Arrow tables by the C stream interface, in capsules, as pyarrow, polars, pandas and duckdb exchange them.
#![expect(unsafe_code, reason = "a stream comes in as a pointer in a capsule; one place reads it")]

use std::{ffi::CStr, sync::Arc};

use arrow::{
    array::{RecordBatch, RecordBatchIterator, RecordBatchReader},
    datatypes::SchemaRef,
    error::ArrowError,
    ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader},
};
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyCapsule, PyCapsuleMethods},
};

use crate::error::OrRaise;

/// The name that the interface gives to the capsule of a stream.
const NAME: &CStr = c"arrow_array_stream";

/// Record batches, in order.
pub(crate) type RecordBatches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// Begins the stream from its first batch.
type Begin = Arc<dyn Fn() -> schemas::Result<RecordBatches> + Send + Sync>;

/// A table that is read when it is taken: `pyarrow.table(stream)`, `polars.from_arrow(stream)`; as often as one likes.
#[pyclass(frozen, module = "perturbine._native")]
pub(crate) struct ArrowStream {
    schema: SchemaRef,
    begin: Begin,
}

impl ArrowStream {
    /// A table with this schema; `begin` returns its batches from the first one on.
    pub(crate) fn new(
        schema: SchemaRef,
        begin: impl Fn() -> schemas::Result<RecordBatches> + Send + Sync + 'static,
    ) -> Self {
        Self { schema, begin: Arc::new(begin) }
    }
}

#[pymethods]
impl ArrowStream {
    /// The names of the columns.
    #[getter]
    fn columns(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // The interface lets a producer answer with its own schema, from which the consumer converts.
        drop(requested_schema);
        let begin = Arc::clone(&self.begin);
        let batches = py.detach(|| begin()).or_raise(py)?;
        let reader = RecordBatchIterator::new(batches, Arc::clone(&self.schema));
        let stream = FFI_ArrowArrayStream::new(Box::new(reader) as Box<dyn RecordBatchReader + Send>);
        PyCapsule::new_with_value(py, stream, NAME)
    }

    fn __repr__(&self) -> String {
        format!("<Arrow stream of {}>", self.columns().join(", "))
    }
}

/// Takes the stream of any object that has one.
///
/// # Errors
/// An object without `__arrow_c_stream__`, or whose stream was taken before.
pub(crate) fn taken_from(object: &Bound<'_, PyAny>) -> PyResult<RecordBatchStreamReader> {
    let py = object.py();
    let capsule = object.call_method0("__arrow_c_stream__")?;
    let capsule =
        capsule.cast::<PyCapsule>().map_err(|_| PyTypeError::new_err("__arrow_c_stream__ returns no capsule"))?;
    let pointer = capsule.pointer_checked(Some(NAME))?.as_ptr().cast::<FFI_ArrowArrayStream>();
    // SAFETY: a capsule of this name holds a pointer to a stream by the interface's definition, and the capsule is alive here. Reading it
    // moves the stream out and leaves a released one behind, which the capsule's destructor ignores.
    let reader = unsafe { RecordBatchStreamReader::from_raw(pointer) };
    reader.map_err(|error| {
        let message = format!("the Arrow stream can't be read: {error}");
        crate::error::exception(py, &schemas::Error::usage(message, "a stream can be taken once: make it again"))
    })
}
