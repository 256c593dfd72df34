//! Reads [`AnnData`] from `.h5ad` files.

mod compound;
pub(super) mod group;
pub(super) mod values;

use std::path::Path;

use arrays::place::ObjectPlace;
use hdf5_metno::Group;
use schemas::{Error, Result};

use self::group::H5Group;
use super::{anndata::AnnData, choice::Choice};

/// Opens a file and checks its structure.
///
/// # Errors
/// A file that is missing, is not an HDF5 file or is cut short; no matrix, or one with an unknown encoding;
/// an unknown layer; shapes that disagree. The error names the object and how to fix it.
pub fn open(path: &Path, choice: &Choice) -> Result<AnnData> {
    let file = hdf5::open_for_reading(path)?;
    let bytes = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
    AnnData::open("h5ad", &H5Group::new(Group::clone(&file), ObjectPlace::root(path)), bytes, choice)
}
