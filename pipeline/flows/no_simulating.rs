//! Replaces `simulate` if the library is built without HDF5.

use std::path::{Path, PathBuf};

use schemas::{Error, Result};
use simulate::Simulator;

use super::Resources;

/// Refuses to simulate.
///
/// # Errors
/// Always.
pub fn simulate(_: &Simulator, _: &Path, _: Option<u8>, _: &Resources) -> Result<PathBuf> {
    Err(Error::usage("this program was built without HDF5", "build with the feature hdf5"))
}
