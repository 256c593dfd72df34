//! Which format a file or folder has, and how it is opened.

use std::{path::Path, sync::Arc};

use schemas::{Error, Result};

use super::source::Source;

/// Which matrix of a file is taken, where a format can hold several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// A layer to take instead of `X`.
    pub layer: Option<String>,
    /// Whether to take `raw/X` (and `raw/var`) instead of `X`.
    pub raw: bool,
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

/// Opens cells of any format.
///
/// # Errors
/// A path that leads nowhere, a format that is not known here, a file that is not as it should be.
pub fn open(path: &Path, choice: &Choice) -> Result<Arc<dyn Source>> {
    if !path.exists() {
        return Err(Error::Missing { path: path.into(), kind: "file or folder" });
    }
    #[cfg(feature = "hdf5")]
    return Ok(Arc::new(super::h5ad::H5adReader::open(path, choice)?));
    #[cfg(not(feature = "hdf5"))]
    Err(Error::data(path.display().to_string(), "its format is not known here", "build with the feature `hdf5`"))
}
