//! Valid files of every style pass; damaged ones are refused quickly, with a message.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

mod files;
mod mutations;
mod refusals;

use std::path::{Path, PathBuf};

use self::files::{Style, write};
use super::check;

/// A file of this style in a temporary folder.
fn file(style: Style) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    write(&path, style);
    (folder, path)
}

#[track_caller]
fn refused(path: &Path) -> String {
    check(path).unwrap_err().to_string()
}

#[test]
fn files_that_libhdf5_has_written_pass() {
    for style in [Style::Old, Style::Middle, Style::New] {
        let (_folder, path) = file(style);
        check(&path).unwrap_or_else(|error| panic!("{style:?}: {error}"));
    }
}

#[test]
fn a_file_behind_a_user_block_passes() {
    for style in [Style::Old, Style::New] {
        let (folder, path) = file(style);
        let moved = folder.path().join("moved.h5");
        let bytes = [vec![0; 2048], std::fs::read(&path).unwrap()].concat();
        std::fs::write(&moved, bytes).unwrap();
        check(&moved).unwrap_or_else(|error| panic!("{style:?}: {error}"));
    }
}

#[test]
fn a_file_that_is_missing_or_not_hdf5_is_distinguished_from_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    assert!(matches!(check(&path), Err(schemas::Error::Missing { .. } | schemas::Error::Io { .. })));
    for bytes in [&b""[..], b"this is no HDF5 file, though it is long enough to hold a header"] {
        std::fs::write(&path, bytes).unwrap();
        assert!(refused(&path).contains("is not an HDF5 file"), "{bytes:?}");
    }
}
