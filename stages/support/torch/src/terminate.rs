//! The end of a process whose device is lost.
#![expect(unsafe_code, reason = "functions of C are called; each call says why it is sound")]

use std::{
    ffi::{CStr, c_char, c_int},
    sync::OnceLock,
};

use schemas::Error;

use stage::device_failure::device_failure;

use crate::shim::perturbine_on_terminate;

/// Exits with an error and its exit code in a case where libtorch would abort the process: if a device is
/// lost, libtorch's destructors throw while freeing memory. `report` shows the error.
pub fn exit_where_device_is_lost(report: fn(&Error)) {
    static REPORT: OnceLock<fn(&Error)> = OnceLock::new();
    extern "C" fn on_message(text: *const c_char) -> c_int {
        // SAFETY: the text belongs to the exception, is valid for the call, and ends with a zero.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        match (device_failure(&text), REPORT.get()) {
            (Some(error), Some(report)) => {
                report(&error);
                error.exit_code() as c_int
            }
            _ => -1,
        }
    }
    if REPORT.set(report).is_ok() {
        // SAFETY: the function is valid as long as the process, and no panic leaves it: code that shows errors does not panic.
        unsafe { perturbine_on_terminate(on_message) }
    }
}
