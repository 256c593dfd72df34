//! The DLPack protocol, to the byte: an array as numpy, torch and others take it, without a copy.
//!
//! Either form of the exchange is a struct that owns a share of the memory. It is given away in a capsule; whoever takes it
//! renames the capsule and calls the struct's deleter when done, from any thread, with or without the interpreter's lock.
#![expect(unsafe_code, reason = "the protocol is one of C structs behind pointers; each struct owns what it points to")]

use std::{
    ffi::{CStr, c_void},
    sync::Arc,
};

use pyo3::{ffi, prelude::*};

use crate::buffer::{Array, Memory};

/// The type of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct DataType {
    /// 0 for signed integers, 1 for unsigned ones, 2 for floats, 6 for flags.
    pub(crate) code: u8,
    /// Its bits.
    pub(crate) bits: u8,
    /// Elements of a vector type; always 1.
    pub(crate) lanes: u16,
}

/// Where memory is.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Device {
    kind: i32,
    id: i32,
}

/// The processor's memory.
pub(crate) const CPU: (i32, i32) = (1, 0);

#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device: Device,
    dimensions: i32,
    data_type: DataType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

/// The struct of the first form of the protocol.
#[repr(C)]
struct Managed {
    tensor: Tensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Self)>,
}

/// The struct since version 1.0; unlike the first form, it says whether the memory may be written.
#[repr(C)]
struct ManagedVersioned {
    version: [u32; 2],
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Self)>,
    flags: u64,
    tensor: Tensor,
}

/// The version that is written; any reader of version 1 understands it.
const VERSION: [u32; 2] = [1, 0];

const UNUSED: &CStr = c"dltensor";
const UNUSED_VERSIONED: &CStr = c"dltensor_versioned";

/// The memory that such a struct points to: it lives until the struct's deleter is called.
struct Context {
    shape: Box<[i64]>,
    strides: Box<[i64]>,
    _memory: Arc<dyn Memory>,
}

/// A tensor of an array, and the context that it points into.
fn tensor(array: &Array) -> (Tensor, *mut c_void) {
    let context = Box::into_raw(Box::new(Context {
        shape: array.shape.as_slice().into(),
        strides: array.strides.as_slice().into(),
        _memory: Arc::clone(&array.memory),
    }));
    // SAFETY: the context was just leaked and is freed by a deleter alone, which is called after the last use of the tensor. Boxed slices
    // stay where they are when their box is moved.
    let (shape, strides) = unsafe { ((*context).shape.as_mut_ptr(), (*context).strides.as_mut_ptr()) };
    let tensor = Tensor {
        data: array.data.cast_mut().cast(),
        device: Device { kind: CPU.0, id: CPU.1 },
        dimensions: i32::try_from(array.shape.len()).unwrap_or(i32::MAX),
        data_type: array.data_type,
        shape,
        strides,
        byte_offset: 0,
    };
    (tensor, context.cast())
}

/// An array in a capsule of the first form.
pub(crate) fn capsule<'py>(py: Python<'py>, array: &Array) -> PyResult<Bound<'py, PyAny>> {
    let (tensor, context) = tensor(array);
    let managed = Box::into_raw(Box::new(Managed { tensor, context, deleter: Some(delete) }));
    // SAFETY: the pointer is valid until `delete` is called, which either the capsule's destructor does or whoever renamed it; the name is
    // static. If no capsule comes about, nobody else will free the struct.
    unsafe {
        let made = ffi::PyCapsule_New(managed.cast(), UNUSED.as_ptr(), Some(drop_unused));
        if made.is_null() {
            delete(managed);
        }
        Bound::from_owned_ptr_or_err(py, made)
    }
}

/// An array in a capsule of version 1.
pub(crate) fn versioned_capsule<'py>(py: Python<'py>, array: &Array) -> PyResult<Bound<'py, PyAny>> {
    let (tensor, context) = tensor(array);
    let deleter = Some(delete_versioned as unsafe extern "C" fn(*mut ManagedVersioned));
    let managed = Box::into_raw(Box::new(ManagedVersioned { version: VERSION, context, deleter, flags: 0, tensor }));
    // SAFETY: as in `capsule`.
    unsafe {
        let made = ffi::PyCapsule_New(managed.cast(), UNUSED_VERSIONED.as_ptr(), Some(drop_unused_versioned));
        if made.is_null() {
            delete_versioned(managed);
        }
        Bound::from_owned_ptr_or_err(py, made)
    }
}

/// Frees a struct of the first form.
///
/// # Safety
/// It has to come from [`capsule`], and nobody may use it any more.
unsafe extern "C" fn delete(managed: *mut Managed) {
    // SAFETY: both boxes were leaked together, and the protocol has the deleter called once.
    unsafe {
        let managed = Box::from_raw(managed);
        drop(Box::from_raw(managed.context.cast::<Context>()));
    }
}

/// Frees a struct of version 1.
///
/// # Safety
/// It has to come from [`versioned_capsule`], and nobody may use it any more.
unsafe extern "C" fn delete_versioned(managed: *mut ManagedVersioned) {
    // SAFETY: as in `delete`.
    unsafe {
        let managed = Box::from_raw(managed);
        drop(Box::from_raw(managed.context.cast::<Context>()));
    }
}

/// The destructor of a capsule of the first form: frees the struct if nobody took it, which would have renamed the capsule.
///
/// # Safety
/// Python calls it, with a capsule of [`capsule`] that is about to go.
unsafe extern "C" fn drop_unused(capsule: *mut ffi::PyObject) {
    // SAFETY: a capsule that still has its first name holds a struct that nobody took.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, UNUSED.as_ptr()) == 1 {
            delete(ffi::PyCapsule_GetPointer(capsule, UNUSED.as_ptr()).cast());
        }
    }
}

/// The same, of version 1.
///
/// # Safety
/// Python calls it, with a capsule of [`versioned_capsule`] that is about to go.
unsafe extern "C" fn drop_unused_versioned(capsule: *mut ffi::PyObject) {
    // SAFETY: as in `drop_unused`.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, UNUSED_VERSIONED.as_ptr()) == 1 {
            delete_versioned(ffi::PyCapsule_GetPointer(capsule, UNUSED_VERSIONED.as_ptr()).cast());
        }
    }
}
