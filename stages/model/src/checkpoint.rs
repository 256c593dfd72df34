//! Checkpoints: everything that a stopped run needs to continue as if it had not been stopped.
//!
//! A checkpoint is a folder `checkpoint/EPOCH-BATCH/` that appears by rename: `state.safetensors` (weights,
//! optimisers, the best weights so far under `best.`) and `state.json` (position, sums, and the checksum of
//! the former). The newest complete one is used.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use model_card::BestEpoch;
use schemas::{Error, Result, batch::Position};
use serde::{Deserialize, Serialize};
use storage::{
    disk::{StagedFolder, checksum_of, discard, write_atomically},
    sealed::{read_sealed, sealed},
};
use tch::Tensor;
use torch::parameters::{read_safetensors, write_safetensors};

const WEIGHTS: &str = "state.safetensors";
const STATE: &str = "state.json";
const BEST_PREFIX: &str = "best.";
/// Number of checkpoints that are kept, in case the newest turns out to be damaged.
pub const KEPT: usize = 2;

/// The part of a training run's state other than tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingProgress {
    /// The next batch.
    pub position: Position,
    /// Updates of all optimisers so far.
    #[serde(default)]
    pub updates: u64,
    /// Sums of the current epoch.
    pub sums: BTreeMap<String, (f64, u64)>,
    /// The best epoch so far.
    pub best: Option<BestEpoch>,
    /// The share of the perturbations' latent terms that its weights keep, if it was looked for.
    #[serde(default)]
    pub share: Option<f64>,
    /// Validations since the best epoch.
    pub stale: u32,
    /// Lines written to `history.jsonl`.
    pub history_lines: u64,
    /// Number of cells trained on, and the training time in seconds.
    pub trained: (u64, f64),
    /// Whether training has finished, early or not.
    pub ended: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredProgress {
    progress: TrainingProgress,
    weights_checksum: Option<String>,
}

/// A loaded checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    /// The checkpoint's folder.
    pub path: PathBuf,
    /// The run's position.
    pub progress: TrainingProgress,
    /// Weights and optimisers, by name.
    pub state: BTreeMap<String, Tensor>,
    /// The best weights so far, by name; empty if there are none.
    pub best: BTreeMap<String, Tensor>,
}

/// Writes a checkpoint, then removes old ones.
///
/// # Errors
/// A full or broken disk; the older checkpoints then still exist.
pub fn write(
    folder: &Path,
    progress: &TrainingProgress,
    mut state: BTreeMap<String, Tensor>,
    best: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let target = folder.join(format!("{:06}-{:09}", progress.position.epoch, progress.position.batch));
    let staged = StagedFolder::in_place_of(&target)?;
    state.extend(best.iter().map(|(name, tensor)| (format!("{BEST_PREFIX}{name}"), tensor.shallow_clone())));
    write_safetensors(&state, &staged.file(WEIGHTS))?;
    let stored =
        StoredProgress { progress: progress.clone(), weights_checksum: checksum_of(&staged.file(WEIGHTS))?.checksum };
    write_atomically(&staged.file(STATE), &sealed(&stored)?)?;
    staged.commit()?;
    for old in found(folder)?.into_iter().rev().skip(KEPT) {
        discard(&old)?;
    }
    Ok(())
}

/// The newest complete checkpoint, if any; damaged ones are skipped.
///
/// # Errors
/// A folder that can't be read, or one in which all checkpoints are damaged.
pub fn newest(folder: &Path) -> Result<Option<Checkpoint>> {
    let mut last_error = None;
    for path in found(folder)?.into_iter().rev() {
        match read(&path) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(error) => {
                tracing::warn!("skipping a checkpoint: {error}");
                last_error.get_or_insert(error);
            }
        }
    }
    last_error.map_or(Ok(None), Err)
}

/// Checks every checkpoint of a folder; lists the damaged ones.
///
/// # Errors
/// A folder that can't be read.
pub fn verify(folder: &Path) -> Result<Vec<(PathBuf, Error)>> {
    Ok(found(folder)?.into_iter().filter_map(|path| read(&path).err().map(|error| (path, error))).collect())
}

fn read(path: &Path) -> Result<Checkpoint> {
    let (weights, state) = (path.join(WEIGHTS), path.join(STATE));
    let stored: StoredProgress = read_sealed(&state)?;
    if checksum_of(&weights)?.checksum != stored.weights_checksum {
        return Err(Error::damaged(weights, "its checksum does not match state.json"));
    }
    let (best, state) = read_safetensors(&weights)?
        .into_iter()
        .partition::<BTreeMap<_, _>, _>(|(name, _)| name.starts_with(BEST_PREFIX));
    let best = best.into_iter().map(|(name, tensor)| (name[BEST_PREFIX.len()..].to_owned(), tensor)).collect();
    Ok(Checkpoint { path: path.into(), progress: stored.progress, state, best })
}

/// Checkpoints, oldest first.
fn found(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let is_checkpoint = |path: &PathBuf| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_checkpoint).collect();
    paths.sort();
    Ok(paths)
}
