//! Flows of a model: training it, predicting with it, and using the predictions.

pub mod choosing;
pub mod crossvalidating;
pub mod embedding;
mod fitting;
pub mod judging;
mod judging_cells;
pub mod picturing;
pub mod predicting;
pub mod profiling;
pub mod publishing;
pub mod responding;
mod stored_order;
pub mod training;

use schemas::Error;
use stages::torch::failures::device_failure;

/// The GPU failure in a stage's error or panic, recognised by libtorch's message; any other error is returned
/// unchanged.
pub(super) fn of_device(error: Error) -> Error {
    match error {
        Error::Bug(text) => device_failure(&text).unwrap_or(Error::Bug(text)),
        other => other,
    }
}
