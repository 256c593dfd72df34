//! Libtorch's profiler.
#![expect(unsafe_code, reason = "functions of C are called; each call says why it is sound")]

use std::{ffi::CString, os::unix::ffi::OsStrExt, path::Path};

use schemas::{Error, Result};

use crate::shim::{done, perturbine_profile_start, perturbine_profile_stop};

/// Profiles libtorch's operations on this thread until [`stop_profiler`]; with `device`, also the device's
/// work; with `memory`, also the memory of tensors.
///
/// # Errors
/// The profiler is already running.
pub fn start_profiler(device: bool, memory: bool) -> Result<()> {
    // SAFETY: only booleans are passed.
    done(unsafe { perturbine_profile_start(device, memory) })
}

/// Stops profiling, and writes the events in Chrome's trace format.
///
/// # Errors
/// The profiler is not running.
pub fn stop_profiler(path: &Path) -> Result<()> {
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|error| Error::Bug(error.to_string()))?;
    // SAFETY: the text is valid for the call, and ends with a zero.
    done(unsafe { perturbine_profile_stop(text.as_ptr()) })
}
