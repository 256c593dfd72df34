//! Parts of a file, and the error about one that can't be read.

use std::{error::Error as StdError, path::Path};

use schemas::Error;

/// Rows that are stored together.
#[derive(Clone, Copy, Debug)]
pub(super) struct TablePart {
    pub(super) rows: u64,
    /// Maximum number of values in the lists of one column.
    pub(super) list_values: u64,
}

/// An error of a library about a file.
pub(super) fn unreadable(path: &Path, error: &dyn StdError) -> Error {
    let hint = "the file may be damaged, cut short, or compressed in an unsupported way; write it again";
    Error::data(path.display().to_string(), format!("can't be read ({error})"), hint)
}
