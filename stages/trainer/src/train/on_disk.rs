//! Files of a run: the checkpoint to go on from, the history of its epochs, and the room for all of them.

use std::{fs, io::Write, path::Path};

use model::{
    checkpoint::{self, Checkpoint},
    step::Learner,
};
use schemas::{Error, Result, model_files as files, numbers::to_usize};
use storage::disk::{DiskFile, write_atomically};
use tch::Tensor;

use super::EpochReport;

/// Bytes that the checkpoints and the model will take: weights, optimisers and the best weights so far, times
/// the number of checkpoints that exist at the same time.
pub(super) fn room_of(learner: &Learner, resume: bool) -> u64 {
    let bytes = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
    let state = learner.state_bytes();
    let weights: u64 = learner.network.parameters.all().map(|(_, tensor)| bytes(tensor)).sum();
    // Existing checkpoints are removed when new ones are written.
    let checkpoints = if resume { 1 } else { 1 + checkpoint::KEPT as u64 };
    checkpoints * (state + weights) + weights
}

/// The newest checkpoint of a run; `None` if there is none.
///
/// # Errors
/// A run with another table of embeddings than the learner's.
pub(super) fn checkpoint_of(folder: &Path, learner: &Learner) -> Result<Option<Checkpoint>> {
    let newest = checkpoint::newest(&folder.join(files::CHECKPOINTS))?;
    match newest {
        Some(Checkpoint { state, .. }) if !learner.network.has_embeddings_of(&state) => Err(Error::usage(
            format!("the table of embeddings differs from that of the run in {}", folder.display()),
            "resume with the same table, or train into another folder",
        )),
        other => Ok(other),
    }
}

/// Appends an epoch to the history.
pub(super) fn append_line(path: &Path, report: &EpochReport) -> Result<()> {
    let mut line = serde_json::to_vec(report).map_err(|error| Error::Bug(error.to_string()))?;
    line.push(b'\n');
    DiskFile::append_to(path)?.write_all(&line).map_err(Error::io("write", path))
}

/// Removes lines after those of the checkpoint: they come from a run that ended before its next checkpoint.
pub(super) fn truncate_history(path: &Path, lines: u64) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let kept: String = text.lines().take(to_usize(lines)).map(|line| format!("{line}\n")).collect();
    write_atomically(path, kept.as_bytes())
}
