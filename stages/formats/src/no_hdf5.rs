//! Replaces the formats in HDF5 files if the library is built without HDF5.

use std::{path::Path, sync::Arc};

use schemas::{Error, Result};

use super::{
    choice::{Choice, SourceFormat},
    source::Source,
};

fn refused(path: &Path) -> Error {
    Error::data(path.display().to_string(), "this build does not read HDF5 files", "build with the feature `hdf5`")
}

pub(super) fn format_of(path: &Path) -> Result<SourceFormat> {
    match super::hdf5_signature::is_hdf5(path)? {
        true => Err(refused(path)),
        false => Err(Error::data(
            path.display().to_string(),
            "its format is not supported",
            "docs/inputs.md lists the formats",
        )),
    }
}

pub(super) fn layers_of(path: &Path) -> Result<Vec<String>> {
    Err(refused(path))
}

pub(super) fn text_in_uns(path: &Path, _: &str, _: &str) -> Result<Option<String>> {
    Err(refused(path))
}

pub(super) fn open_h5ad(path: &Path, _: &Choice) -> Result<Arc<dyn Source>> {
    Err(refused(path))
}

pub(super) fn open_tenx(path: &Path, _: &Choice) -> Result<Arc<dyn Source>> {
    Err(refused(path))
}

pub(super) fn open_remote(_: &Path, path: &Path, _: &Choice) -> Result<Arc<dyn Source>> {
    Err(refused(path))
}
