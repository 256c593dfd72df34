//! Recognises HDF5 files without libhdf5.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use schemas::{Error, Result};

/// The signature of an HDF5 file, at its start or after a user block of 512 bytes, twice that, twice that
/// again, and so on.
const HDF5_SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
/// Larger user blocks are not supported.
const LARGEST_USER_BLOCK: u64 = 1 << 20;

/// Whether a file is an HDF5 file.
pub(super) fn is_hdf5(path: &Path) -> Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut blocks =
        std::iter::successors(Some(512), |size| Some(2 * size)).take_while(|size| *size <= LARGEST_USER_BLOCK);
    let begins = |offset: u64| {
        let mut found = [0; 8];
        file.read_exact_at(&mut found, offset).is_ok() && found == *HDF5_SIGNATURE
    };
    Ok(begins(0) || blocks.any(begins))
}
