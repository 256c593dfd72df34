//! How streams end.

use std::fmt;

use serde::Serialize;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// All items have passed.
    Complete,
    /// It was stopped on request.
    Stopped,
    /// An error or a panic.
    Cut,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Complete => "complete",
            Self::Stopped => "stopped",
            Self::Cut => "cut",
        })
    }
}
