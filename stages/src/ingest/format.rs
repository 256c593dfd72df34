//! Which format a file or folder has, and how it is opened.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use schemas::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{source::Source, worker::RemoteSource};

/// Which matrix of a file is taken, where a format can hold several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// A layer to take instead of `X`.
    pub layer: Option<String>,
    /// Whether to take `raw/X` (and `raw/var`) instead of `X`.
    pub raw: bool,
    /// The program that reads HDF5 files in a process of its own; without one they are read in this process.
    pub worker: Option<PathBuf>,
}

impl Choice {
    /// The name of the matrix within the file.
    #[must_use]
    pub fn matrix(&self) -> String {
        match (&self.layer, self.raw) {
            (Some(layer), _) => format!("layers/{layer}"),
            (None, true) => "raw/X".into(),
            (None, false) => "X".into(),
        }
    }
}

/// Opens cells of any format; HDF5 files by way of the worker, where one is named.
///
/// # Errors
/// A path that leads nowhere, a format that is not known here, a file that is not as it should be.
pub fn open(path: &Path, choice: &Choice) -> Result<Arc<dyn Source>> {
    if !path.exists() {
        return Err(Error::Missing { path: path.into(), kind: "file or folder" });
    }
    match &choice.worker {
        Some(worker) => Ok(Arc::new(RemoteSource::open(worker, path, choice)?)),
        None => open_here(path, choice),
    }
}

/// Opens an HDF5 file in this process.
///
/// # Errors
/// As for [`open`].
pub(super) fn open_here(path: &Path, choice: &Choice) -> Result<Arc<dyn Source>> {
    #[cfg(feature = "hdf5")]
    return Ok(Arc::new(super::h5ad::H5adReader::open(path, choice)?));
    #[cfg(not(feature = "hdf5"))]
    Err(Error::data(path.display().to_string(), "its format is not known here", "build with the feature `hdf5`"))
}
