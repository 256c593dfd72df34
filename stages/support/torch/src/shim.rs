//! The functions of `shim/torch.cpp`, and what their results mean.
#![expect(unsafe_code, reason = "functions of C are called; each call says why it is sound")]

use std::ffi::{CStr, c_char, c_int};

use schemas::{Error, Result};
use torch_sys::C_tensor;

use stage::device_failure::device_failure;

/// An opaque C++ object.
#[repr(C)]
pub(crate) struct Opaque([u8; 0]);

// SAFETY: these are the functions of `shim/torch.cpp`, as it declares them.
unsafe extern "C" {
    fn perturbine_error() -> *const c_char;
    pub(crate) fn perturbine_on_terminate(on_message: extern "C" fn(*const c_char) -> c_int);
    pub(crate) fn perturbine_pinned(bytes: usize, out: *mut *mut C_tensor) -> c_int;
    pub(crate) fn perturbine_copy(to: *mut C_tensor, from: *const C_tensor) -> c_int;
    pub(crate) fn perturbine_stream(index: c_int, out: *mut *mut Opaque) -> c_int;
    pub(crate) fn perturbine_current_stream(index: c_int, out: *mut *mut Opaque) -> c_int;
    pub(crate) fn perturbine_exchange_stream(stream: *const Opaque, before: *mut *mut Opaque) -> c_int;
    pub(crate) fn perturbine_stream_free(stream: *mut Opaque);
    pub(crate) fn perturbine_record_stream(tensor: *mut C_tensor, stream: *const Opaque) -> c_int;
    pub(crate) fn perturbine_event(stream: *const Opaque, out: *mut *mut Opaque) -> c_int;
    pub(crate) fn perturbine_await_event(event: *mut Opaque, stream: *const Opaque) -> c_int;
    pub(crate) fn perturbine_wait_for_event(event: *mut Opaque) -> c_int;
    pub(crate) fn perturbine_event_free(event: *mut Opaque);
    pub(crate) fn perturbine_synchronise(index: c_int) -> c_int;
    pub(crate) fn perturbine_memory(index: c_int, out: *mut u64) -> c_int;
    pub(crate) fn perturbine_reset_peak(index: c_int) -> c_int;
    pub(crate) fn perturbine_empty_cache() -> c_int;
    pub(crate) fn perturbine_allow_tf32(allowed: bool);
    pub(crate) fn perturbine_profile_start(device: bool, memory: bool) -> c_int;
    pub(crate) fn perturbine_profile_stop(path: *const c_char) -> c_int;
}

/// Turns a function's status into a result; the error has the message of libtorch's exception.
pub(crate) fn done(status: c_int) -> Result<()> {
    match status {
        0 => Ok(()),
        // SAFETY: the text is this thread's, ends with a zero, and lasts until the next function fails.
        _ => Err(refused(unsafe { CStr::from_ptr(perturbine_error()) })),
    }
}

pub(crate) fn refused(text: &CStr) -> Error {
    error_of(&text.to_string_lossy())
}

/// Libtorch's message as an error: a device error if it is about the device, otherwise a bug.
pub(crate) fn error_of(text: &str) -> Error {
    device_failure(text).unwrap_or_else(|| Error::Bug(format!("libtorch: {}", text.lines().next().unwrap_or_default())))
}

pub(crate) fn int(index: usize) -> c_int {
    c_int::try_from(index).unwrap_or(c_int::MAX)
}

/// Calls a function that returns its result through a pointer.
pub(crate) fn out_pointer<T>(f: impl FnOnce(*mut *mut T) -> c_int) -> Result<*mut T> {
    let mut out = std::ptr::null_mut();
    done(f(&mut out))?;
    Ok(out)
}
