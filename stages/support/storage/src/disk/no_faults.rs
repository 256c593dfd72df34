//! The replacement of fault injection in programs built without it: nothing.

use std::{io, path::Path};

use super::call::Call;

/// Nothing happens before a call.
pub(super) fn before(_: Call, _: &Path) -> io::Result<()> {
    Ok(())
}

/// Nothing happens before a rename.
pub(super) fn before_rename(_: &Path, to: &Path) -> io::Result<()> {
    before(Call::Rename, to)
}

/// Writes bytes by way of `write`.
pub(super) fn write(_: &Path, bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
    write(bytes)
}
