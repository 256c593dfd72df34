//! The memory map: a file as a slice.
#![expect(unsafe_code, reason = "mapping a file is unsafe by nature; the contract below confines it")]

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};
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

/// A file of numbers that are written in any order: a `u64` each, all zero at first. They are the kernel's to write out, and
/// count as no memory of this process's own.
#[derive(Debug)]
pub(crate) struct Table {
    map: Option<memmap2::MmapMut>,
    file: File,
    path: PathBuf,
}

impl Table {
    /// Creates the file, with so many numbers.
    ///
    /// # Errors
    /// A file that can't be created, or a disk without room for it.
    pub(crate) fn create(path: &Path, numbers: u64) -> Result<Self> {
        let file =
            File::options().read(true).write(true).create_new(true).open(path).map_err(Error::io("create", path))?;
        file.set_len(8 * numbers).map_err(Error::io("write", path))?;
        if numbers == 0 {
            return Ok(Self { map: None, file, path: path.to_path_buf() });
        }
        // SAFETY: the file was just created under a name that nobody else knows, so nobody else changes it.
        let map = unsafe { memmap2::MmapMut::map_mut(&file) }.map_err(Error::io("map", path))?;
        Ok(Self { map: Some(map), file, path: path.to_path_buf() })
    }

    /// Creates a file that goes with the table: it has no name from now on. Room on the disk is taken at once.
    ///
    /// # Errors
    /// As for [`Table::create`].
    pub(crate) fn create_unnamed(path: &Path, numbers: u64) -> Result<Self> {
        let mut table = Self::create(path, numbers)?;
        let kept = std::fs::remove_file(path).map_err(Error::io("remove", path));
        // A page without room behind it would be found out by a signal; room that is asked for is refused by an error.
        let taken = match fallocate(&table.file, FallocateFlags::empty(), 0, 8 * numbers) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                std::io::copy(&mut std::io::repeat(0).take(8 * numbers), &mut table.file).map(drop)
            }
            taken => taken.map_err(Into::into),
        };
        taken.map_err(Error::io("write", path))?;
        kept.map(|()| table)
    }

    /// The table as records.
    pub(crate) fn slice<T: bytemuck::Pod>(&self) -> &[T] {
        self.map.as_ref().map_or(&[], |map| bytemuck::cast_slice(map))
    }

    /// The table as records that can be written.
    pub(crate) fn slice_mut<T: bytemuck::Pod>(&mut self) -> &mut [T] {
        self.map.as_mut().map_or(&mut [], |map| bytemuck::cast_slice_mut(&mut *map))
    }

    /// The numbers, in the byte order of this machine, which is little-endian.
    pub(crate) fn numbers(&mut self) -> &mut [u64] {
        self.map.as_mut().map_or(&mut [], |map| bytemuck::cast_slice_mut(&mut *map))
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    /// A disk that is full or broken.
    pub(crate) fn finish(self) -> Result<()> {
        if let Some(map) = self.map {
            map.flush().map_err(Error::io("write", &self.path))?;
        }
        self.file.sync_all().map_err(Error::io("write", &self.path))
    }
}
