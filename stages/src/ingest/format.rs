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
    /// The genome to take of a 10x file that has several.
    pub genome: Option<String>,
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

/// The formats that are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A file that anndata wrote, or another program as anndata does.
    H5ad,
    /// An HDF5 file of Cell Ranger or Space Ranger.
    TenX,
}

impl Format {
    /// What a file or folder is taken for, by what is in it.
    ///
    /// # Errors
    /// A path that leads nowhere; a format that is not known here.
    pub fn of(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::Missing { path: path.into(), kind: "file or folder" });
        }
        #[cfg(feature = "hdf5")]
        return super::hdf5::format_of(path);
        #[cfg(not(feature = "hdf5"))]
        Err(Error::data(path.display().to_string(), "its format is not known here", "build with the feature `hdf5`"))
    }

    /// Its name, as `inspect` tells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::H5ad => "h5ad",
            Self::TenX => "10x",
        }
    }
}

/// Opens cells of any format.
///
/// # Errors
/// A path that leads nowhere, a format that is not known here, a file that is not as it should be.
pub fn open(path: &Path, choice: &Choice) -> Result<Arc<dyn Source>> {
    match Format::of(path)? {
        #[cfg(feature = "hdf5")]
        Format::H5ad => Ok(Arc::new(super::h5ad::H5adReader::open(path, choice)?)),
        #[cfg(feature = "hdf5")]
        Format::TenX => Ok(Arc::new(super::tenx::TenXReader::open(path, choice)?)),
        #[cfg(not(feature = "hdf5"))]
        format => Err(Error::Bug(format!("{} files are not read by this build", format.name()))),
    }
}
