//! Errors of the library as exceptions of the package.

use std::error::Error as StdError;

use pyo3::prelude::*;
use runtime::RunError;
use schemas::Error;
use stage::BoxError;

/// The exception of an error, made by `perturbine._errors`.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let mut because = Vec::new();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        because.push(deeper.to_string());
        cause = deeper.source();
    }
    let made = py.import("perturbine._errors").and_then(|errors| {
        errors.call_method1("error_of", (error.exit_code() as u8, error.to_string(), error.hint(), because))
    });
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}

/// Turns results of the library into those of Python.
pub(crate) trait OrRaise<T> {
    /// The value, or the exception of the error.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for schemas::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error))
    }
}

/// The library's error that made a run fail; any other cause is a bug.
pub(crate) fn of_run(error: RunError) -> Error {
    match error {
        RunError::Stopped => Error::Stopped { resume: "iterate again from a saved state".into() },
        RunError::Failed { stage, cause } => of_stage(stage, cause),
    }
}

fn of_stage(stage: &str, cause: BoxError) -> Error {
    match cause.downcast::<Error>() {
        Ok(error) => *error,
        Err(other) => Error::Bug(format!("stage `{stage}`: {other}")),
    }
}
