//! Stands in for the flows of a model where the library is built without libtorch.

use schemas::Error;

/// Without libtorch there is no GPU that could fail.
pub(super) fn of_device(error: Error) -> Error {
    error
}
