//! A training run with a recorded timeline.

use std::{cell::Cell, path::Path, rc::Rc};

use schemas::Result;
use stages::{
    storage::disk::ScratchFolder,
    torch::{start_profiler, stop_profiler},
    trainer::train::{OnEpoch, TrainingResult},
};
use tch::Device;

use super::training::Training;
use runtime::Report;

use crate::flows::trace::Trace;

/// Number of epochs in which libtorch's operations and the device's work are recorded: each has thousands of
/// events.
const EPOCHS: u32 = 2;

/// Trains, and writes a timeline to `path`: of the stages throughout, and of libtorch and the device in the
/// first epochs. `trace` must already listen to `tracing`.
///
/// # Errors
/// As for [`Training::run`], or a file that can't be written.
pub fn profiled(
    training: Training,
    resume: bool,
    mut on_epoch: OnEpoch,
    path: &Path,
    trace: &Trace,
) -> Result<(TrainingResult, Report)> {
    let scratch = ScratchFolder::create()?;
    let file = scratch.path().join("libtorch.json");
    start_profiler(training.device() != Device::Cpu, false)?;
    let left = Rc::new(Cell::new(EPOCHS));
    let (counted, ended) = (Rc::clone(&left), file.clone());
    let counting: OnEpoch = Box::new(move |report| {
        counted.set(counted.get().saturating_sub(1));
        if counted.get() == 0
            && !ended.exists()
            && let Err(error) = stop_profiler(&ended)
        {
            tracing::warn!("libtorch's operations are not recorded: {error}");
        }
        on_epoch(report);
    });
    let trained = training.run(resume, counting);
    let watched = if left.get() > 0 { stop_profiler(&file) } else { Ok(()) };
    let written = watched.and_then(|()| trace.write(path, file.exists().then_some(&file)));
    // The error of the run is more important than one from writing its trace.
    trained.and_then(|trained| written.map(|()| trained))
}
