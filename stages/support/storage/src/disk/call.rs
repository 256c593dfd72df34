//! The calls that change the disk.

use std::fmt;

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Creates or empties a file.
    Create,
    /// Writes bytes to a file.
    Write,
    /// Allocates space for a file.
    Allocate,
    /// Syncs a file.
    Sync,
    /// Creates a folder.
    CreateFolder,
    /// Syncs the names in a folder.
    SyncFolder,
    /// Renames a file or folder.
    Rename,
    /// Removes a file, or a folder with all its content.
    Remove,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Write => "write",
            Self::Allocate => "allocate",
            Self::Sync => "sync",
            Self::CreateFolder => "create-folder",
            Self::SyncFolder => "sync-folder",
            Self::Rename => "rename",
            Self::Remove => "remove",
        })
    }
}

impl Call {
    /// Whether it fails on a full disk.
    #[cfg(any(test, feature = "faults"))]
    pub(super) fn takes_room(self) -> bool {
        matches!(self, Self::Create | Self::Write | Self::Allocate | Self::CreateFolder)
    }
}
