//! The memory map: a file as a slice.
#![expect(unsafe_code, reason = "mapping a file is unsafe by nature; the contract below confines it")]

use std::{fs::File, path::Path};

use schemas::{Error, Result};

/// Maps a file for reading.
///
/// Atlases are written once and published by rename, so nothing of ours ever changes a file that is mapped.
///
/// # Errors
/// A file that can't be opened or mapped.
pub(crate) fn map(path: &Path) -> Result<memmap2::Mmap> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    // SAFETY: the map is only read, through slices that borrow it. What the type system can't see is another process that
    // rewrites or truncates the file meanwhile; the files of an atlas are immutable once they are visible, and lengths are
    // checked against the manifest before the first access.
    unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("map", path))
}
