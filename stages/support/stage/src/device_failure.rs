//! Failures of a device as errors with a hint for the user.
//!
//! tch passes on libtorch's messages as text and, in most of its functions, panics with them: the text is the only way to distinguish an
//! exhausted or lost device from a bug in this program.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use schemas::{Error, Result};

/// Libtorch's messages for insufficient memory. A product without room for its workspace has a separate
/// message.
const OUT_OF_MEMORY: [&str; 3] =
    ["CUDA out of memory", "CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED"];
/// Messages for a failure of the device or its driver. Invalid addresses and failed assertions are not among
/// them: those are bugs in this program.
const FAILED: [&str; 11] = [
    "CUDA-capable device(s) is/are busy or unavailable",
    "no CUDA-capable device is detected",
    "unspecified launch failure",
    "the launch timed out and was terminated",
    "uncorrectable ECC error",
    "uncorrectable NVLink error",
    "hardware stack error",
    "driver shutting down",
    "system not yet initialized",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
];

/// The device error in a text from libtorch, if it is about a device that is out of memory or has failed.
#[must_use]
pub fn device_failure(text: &str) -> Option<Error> {
    let from = text.find("CUDA ")?;
    if OUT_OF_MEMORY.iter().any(|sign| text.contains(sign)) {
        let hint = "use a GPU with more memory free, or --device cpu".to_owned();
        return Some(Error::DeviceMemory { message: first_sentences(&text[from..]).to_owned(), hint });
    }
    FAILED.iter().any(|sign| text.contains(sign)).then(|| {
        let hint = "check `nvidia-smi` and the system log, then run the same command again (training: with --resume)";
        Error::Device { message: first_sentences(&text[from..]).to_owned(), hint: hint.to_owned() }
    })
}

/// The message itself, without the advice on libtorch's settings, the source location, or the text that a panic adds.
fn first_sentences(text: &str) -> &str {
    // Within the message of a panic, line breaks are written as two characters.
    let ends = ["\n", "\\n", "\"", " Including non-PyTorch", " Process ", " Of the allocated"];
    let end = ends.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
    text[..end].trim_end_matches(['.', ' '])
}

/// Runs work, and turns panics that are device failures into errors; other panics continue.
///
/// # Errors
/// The work's own errors, and a device that is out of memory or has failed.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done,
        Err(panic) => match of_panic(&*panic) {
            Some(error) => Err(error),
            None => resume_unwind(panic),
        },
    }
}

/// The device error in a panic's message, if it is about a device that is out of memory or has failed.
#[must_use]
pub fn of_panic(panic: &(dyn Any + Send)) -> Option<Error> {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.and_then(device_failure)
}

#[cfg(test)]
mod tests {
    use schemas::error::ExitCode;

    use super::*;

    const TOO_MUCH: &str = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.20 GiB \
                            is free. Including non-PyTorch memory, this process has 77.00 GiB memory in use.";

    #[test]
    fn out_of_memory_is_the_users_and_says_how_much_was_asked_for() {
        // The format of tch's panics.
        let panic = format!(
            "called `Result::unwrap()` on an `Err` value: Torch(\"{TOO_MUCH}\\nException raised from malloc\")"
        );
        for text in [TOO_MUCH, &panic] {
            let error = device_failure(text).expect("it is about a device");
            assert_eq!(error.exit_code(), ExitCode::Data);
            assert_eq!(
                error.to_string(),
                "out of memory on the GPU: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of \
                 which 1.20 GiB is free"
            );
        }
    }

    #[test]
    fn a_lost_device_is_an_error_and_a_mistake_of_ours_stays_one() {
        let error =
            device_failure("CUDA error: unspecified launch failure\nCUDA kernel errors might be").expect("a device");
        assert_eq!(
            (error.exit_code(), error.to_string().as_str()),
            (ExitCode::Io, "the GPU failed: CUDA error: unspecified launch failure")
        );
        assert!(device_failure("CUDA error: an illegal memory access was encountered").is_none());
        assert!(device_failure("mat1 and mat2 shapes cannot be multiplied").is_none());
    }

    #[test]
    fn other_panics_go_on() {
        let done = caught(|| -> Result<()> { panic!("{TOO_MUCH}") });
        assert!(matches!(done, Err(Error::DeviceMemory { .. })), "{done:?}");
        let panicked = catch_unwind(|| caught(|| -> Result<()> { panic!("index out of bounds") }));
        assert!(panicked.is_err());
    }
}
