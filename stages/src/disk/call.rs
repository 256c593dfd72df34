//! The calls that change what is on disk.

use std::fmt;

/// What is done to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// A file comes to be, or is emptied.
    Create,
    /// Bytes go into a file.
    Write,
    /// Room is taken for a file.
    Allocate,
    /// A file is brought to the disk.
    Sync,
    /// A folder comes to be.
    CreateFolder,
    /// The names in a folder are brought to the disk.
    SyncFolder,
    /// A file or folder gets its name.
    Rename,
    /// A file, or a folder with all that is in it, goes.
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
    /// Whether a full disk is in its way.
    #[cfg(any(test, feature = "faults"))]
    pub(super) fn takes_room(self) -> bool {
        matches!(self, Self::Create | Self::Write | Self::Allocate | Self::CreateFolder)
    }
}
