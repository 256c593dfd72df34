//! Flows of a model: training it, predicting with it, and using the predictions.

mod batch_sizes;
mod cell_testing;
pub mod crossvalidating;
pub mod data_overview;
pub mod dose_response;
pub mod embedding;
pub mod evaluation;
mod evaluation_cells;
pub mod figures;
pub mod gene_choice;
mod held_out;
pub mod judging;
pub mod predicting;
pub mod profiling;
pub mod publishing;
mod stored_order;
pub mod training;
mod truth;

use schemas::Error;
use stages::torch::failures::device_failure;

/// The hint after a stopped run that leaves nothing behind.
const AGAIN: &str = "run the same command again";

/// The GPU failure in a stage's error or panic, recognised by libtorch's message; any other error is returned
/// unchanged.
pub(super) fn of_device(error: Error) -> Error {
    match error {
        Error::Bug(text) => device_failure(&text).unwrap_or(Error::Bug(text)),
        other => other,
    }
}
