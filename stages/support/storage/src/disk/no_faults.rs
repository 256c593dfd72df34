//! Replaces fault injection in programs built without it, and does nothing.

use std::{io, path::Path};

use super::call::Call;

/// Files can be locked.
pub(super) fn has_locks() -> bool {
    true
}

/// Does nothing before a call.
pub(super) fn before(_: Call, _: &Path) -> io::Result<()> {
    Ok(())
}

/// Does nothing before a rename.
pub(super) fn before_rename(_: &Path, to: &Path) -> io::Result<()> {
    before(Call::Rename, to)
}

/// Writes bytes with `write`.
pub(super) fn write(_: &Path, bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
    write(bytes)
}
