//! Shared code of HDF5 readers and writers: places in a file, errors that name them, [`DatasetNumbers`] read without libhdf5, and a
//! check of a file's structure before libhdf5 opens it.
//!
//! ```
//! use hdf5::h5ad_write::{H5adWriteOptions, H5adWriter};
//! use storage::disk::ScratchFolder;
//!
//! let folder = ScratchFolder::create()?;
//! let path = folder.path().join("empty.h5ad");
//! let genes = ["A".to_owned(), "B".to_owned()];
//! H5adWriter::create(&path, &genes, &[], H5adWriteOptions::default())?.finish()?;
//! assert!(path.exists());
//! # Ok::<(), schemas::Error>(())
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own"))]

mod check;
mod element;
pub mod h5ad_write;
mod heap;
mod numbers;
mod records;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

pub use arrays::place::ObjectPlace;
use hdf5_metno::{
    File,
    file::{FileAccessBuilder, FileBuilder, MetadataCacheConfig},
};
use schemas::{Error, Result};

pub use self::{
    element::LibraryNumber,
    heap::GlobalHeap,
    numbers::DatasetNumbers,
    records::{CompoundTable, RecordMember},
};

/// Size of libhdf5's cache for each dataset between reads or writes: one chunk of h5py's default size, so
/// that no column is cached whole.
const CHUNK_CACHE_BYTES: usize = 1 << 20;
const CHUNK_CACHE_SLOTS: usize = 521;

/// Size of libhdf5's cache for a file's structure, including strings; by default it grows to 32 MiB.
const METADATA_CACHE_BYTES: usize = 4 << 20;

/// The error for a failed write by libhdf5, which names the file.
pub(crate) fn unwritable(place: &ObjectPlace, error: hdf5_metno::Error) -> Error {
    let text = frames(&error);
    let source = if says_no_space(&text) { io::ErrorKind::StorageFull.into() } else { io::Error::other(text) };
    Error::Io { action: "write", path: place.path().into(), source }
}

/// Opens a file for reading, without a lock: nobody changes the file meanwhile, and locks keep readers on
/// network file systems out. If this process has the file open with a lock, it has to be opened with a lock
/// again.
fn open(path: &Path) -> hdf5_metno::Result<File> {
    // The crate accepts only UTF-8 names; by its descriptor, a file can be opened whatever its name is.
    let opened = if path.to_str().is_none() { fs::File::open(path).ok() } else { None };
    let number = opened.as_ref().map(|file| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())));
    let path = number.as_deref().unwrap_or(path);
    files(false).open(path).or_else(|_| files(true).open(path))
}

/// Opens a file named by a user.
///
/// # Errors
/// A file that is missing, is not an HDF5 file, is cut short, or whose structure the check refuses.
pub fn open_for_reading(path: &Path) -> Result<File> {
    check::check(path)?;
    open(path).map_err(|error| {
        ObjectPlace::root(path).error(
            format!("is not an HDF5 file, or is cut short ({error})"),
            "an .h5ad or 10x .h5 file is expected; if it was downloaded, download it again",
        )
    })
}

/// Starts a file that nobody else knows of yet.
pub fn create(path: &Path) -> hdf5_metno::Result<File> {
    files(true).create(path)
}

/// Options for opening files: bounded caches, and no messages on stderr.
fn files(locked: bool) -> FileBuilder {
    hdf5_metno::silence_errors(true);
    let mut files = FileBuilder::new();
    files.with_fapl(|access: &mut FileAccessBuilder| {
        let bounded = MetadataCacheConfig {
            initial_size: METADATA_CACHE_BYTES / 4,
            min_size: METADATA_CACHE_BYTES / 4,
            max_size: METADATA_CACHE_BYTES,
            ..MetadataCacheConfig::default()
        };
        access.chunk_cache(CHUNK_CACHE_SLOTS, CHUNK_CACHE_BYTES, 0.75).mdc_config(&bounded).file_locking(locked)
    });
    files
}

/// All lines of the error stack: the cause is an inner one.
fn frames(error: &hdf5_metno::Error) -> String {
    match error.stack() {
        None => error.to_string(),
        Some(stack) => stack.iter().map(|frame| frame.desc().to_owned()).collect::<Vec<_>>().join("; "),
    }
}

/// Whether an error's text says that the disk is full: libhdf5 reports this only in words.
fn says_no_space(text: &str) -> bool {
    ["errno = 28,", "No space left on device", "errno = 122,", "Disk quota exceeded"]
        .iter()
        .any(|sign| text.contains(sign))
}

#[cfg(test)]
mod place_tests {
    use super::*;

    #[test]
    fn a_full_disk_is_known_by_its_words() {
        let text = "file write failed: time = Sat Nov 21 12:00:00 2026\n, filename = 'a', file descriptor = 3, errno = 28, \
                    error message = 'No space left on device'";
        let error = unwritable(&ObjectPlace::root(Path::new("a.h5ad")), hdf5_metno::Error::Internal(text.to_owned()));
        assert_eq!(error.exit_code(), schemas::error::ExitCode::NoSpace);
        let other = unwritable(
            &ObjectPlace::root(Path::new("a.h5ad")),
            hdf5_metno::Error::Internal("errno = 5, I/O".to_owned()),
        );
        assert_eq!(other.exit_code(), schemas::error::ExitCode::Io);
    }

    #[test]
    fn an_error_names_the_file_and_the_object_in_it() {
        let place = ObjectPlace::root(Path::new("a.h5ad")).child("X").child("indptr");
        assert_eq!(place.error("falls", "").to_string(), "a.h5ad: X/indptr: falls");
    }
}
