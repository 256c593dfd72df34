//! Flows of a model: its training, its predictions, and what is made of them.

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

/// A GPU failure, if a stage's error or panic is one in libtorch's words.
pub(super) fn of_device(error: Error) -> Error {
    match error {
        Error::Bug(text) => device_failure(&text).unwrap_or(Error::Bug(text)),
        other => other,
    }
}
