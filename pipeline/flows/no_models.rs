//! Replaces the flows of a model if the library is built without libtorch.

use schemas::Error;

/// Returns the error unchanged: without libtorch, there is no GPU that could fail.
pub(super) fn of_device(error: Error) -> Error {
    error
}
