//! An array of a batch as a Python object: memory that stays as it is as long as anybody has a view of it.

use std::{any::Any, sync::Arc};

use pyo3::{exceptions::PyBufferError, prelude::*, types::PyTuple};
use schemas::numbers::to_i64;

use crate::dlpack::{self, CPU, DataType};

/// The owner of an array's memory: dropping the last share of it recycles or frees the memory.
pub(crate) trait Memory: Any + Send + Sync {}

impl<T: Any + Send + Sync> Memory for T {}

/// A number that an array holds.
pub(crate) trait Element: Copy {
    /// Its type in the protocol.
    const TYPE: DataType;
}

macro_rules! elements {
    ($($number:ty: $code:literal, $bits:literal;)*) => {
        $(impl Element for $number {
            const TYPE: DataType = {
                assert!($bits == 8 * size_of::<$number>());
                DataType { code: $code, bits: $bits, lanes: 1 }
            };
        })*
    };
}

elements! {
    i32: 0, 32;
    i64: 0, 64;
    u8: 1, 8;
    u16: 1, 16;
    u32: 1, 32;
    f32: 2, 32;
    f64: 2, 64;
    bool: 6, 8;
}

/// An array in memory of one owner.
#[derive(Clone)]
pub(crate) struct Array {
    pub(crate) data: *const u8,
    pub(crate) data_type: DataType,
    pub(crate) shape: Vec<i64>,
    /// Elements from one index to the next, for each dimension.
    pub(crate) strides: Vec<i64>,
    pub(crate) memory: Arc<dyn Memory>,
}

/// A view of an array of a batch, by DLPack: `numpy.from_dlpack` and `torch.from_dlpack` take it without a copy.
#[pyclass(frozen, module = "perturbine._native")]
pub(crate) struct Buffer(Shared);

/// An array that threads may share.
struct Shared(Array);

#[expect(unsafe_code, reason = "a pointer says nothing about threads; its owner does")]
mod threads {
    use super::Shared;

    // SAFETY: the pointer leads into memory of the array's owner, which may be sent to and shared by threads. Nothing here reads or
    // writes it; users of several views of one array take care of their own writes, as with any numpy array.
    unsafe impl Send for Shared {}
    // SAFETY: as above.
    unsafe impl Sync for Shared {}
}

impl Buffer {
    /// A list of numbers that `memory` keeps alive and does not move.
    pub(crate) fn list<T: Element>(memory: &Arc<dyn Memory>, numbers: &[T]) -> Self {
        Self::new(memory, numbers, vec![to_i64(numbers.len())], vec![1])
    }

    /// Rows of numbers, each starting `stride` numbers after the one before.
    pub(crate) fn rows<T: Element>(
        memory: &Arc<dyn Memory>,
        numbers: &[T],
        rows: usize,
        columns: usize,
        stride: usize,
    ) -> Self {
        debug_assert!(rows * stride <= numbers.len() && columns <= stride, "the rows are within the numbers");
        Self::new(memory, numbers, vec![to_i64(rows), to_i64(columns)], vec![to_i64(stride), 1])
    }

    fn new<T: Element>(memory: &Arc<dyn Memory>, numbers: &[T], shape: Vec<i64>, strides: Vec<i64>) -> Self {
        let data = numbers.as_ptr().cast();
        Self(Shared(Array { data, data_type: T::TYPE, shape, strides, memory: Arc::clone(memory) }))
    }
}

#[pymethods]
impl Buffer {
    /// The lengths of the array's dimensions.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.0.shape)
    }

    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if stream.is_some() {
            return Err(PyBufferError::new_err("the array is in the processor's memory, which has no streams"));
        }
        if dl_device.is_some_and(|device| device != CPU) {
            return Err(PyBufferError::new_err("the array is in the processor's memory: move it after taking it"));
        }
        if copy == Some(true) {
            return Err(PyBufferError::new_err("the array is given as it is: copy it after taking it"));
        }
        match max_version {
            Some((1.., _)) => dlpack::versioned_capsule(py, &self.0.0),
            _ => dlpack::capsule(py, &self.0.0),
        }
    }

    fn __dlpack_device__(&self) -> (i32, i32) {
        CPU
    }
}
