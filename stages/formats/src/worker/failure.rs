//! Errors that are sent through the pipe, and keep their kind, their exit code and their text.

use std::{io, path::Path};

use rustix::io::Errno;
use schemas::Error;
use serde::{Deserialize, Serialize};

/// An error in the form in which it is sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    Usage { message: String, hint: String },
    Data { place: String, message: String, hint: String },
    Unknown { kind: String, name: String, nearest: Vec<String> },
    Missing { path: String, kind: String },
    Damaged { path: String, what: String },
    Io { action: String, path: String, code: Option<i32>, message: String },
    NoRoom { path: String, needed: u64, free: u64 },
    Bug(String),
}

/// The kinds of names that sources look up.
const KINDS: [&str; 5] = ["layer", "genome", "obs column", "var column", "column"];
/// The kinds of files that sources look for.
const MISSING: [&str; 2] = ["file or folder", "atlas"];
/// The actions on files.
const ACTIONS: [&str; 10] = ["allocate", "close", "create", "find", "lock", "map", "open", "remove", "start", "write"];

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let shown = |path: &Path| path.display().to_string();
        match error {
            Error::Usage { message, hint } => Self::Usage { message: message.clone(), hint: hint.clone() },
            Error::Data { place, message, hint } => {
                Self::Data { place: place.clone(), message: message.clone(), hint: hint.clone() }
            }
            Error::Unknown { kind, name, nearest } => {
                Self::Unknown { kind: (*kind).to_owned(), name: name.clone(), nearest: nearest.clone() }
            }
            Error::Missing { path, kind } => Self::Missing { path: shown(path), kind: (*kind).to_owned() },
            Error::Damaged { path, what } => Self::Damaged { path: shown(path), what: what.clone() },
            Error::Io { action, path, source } => Self::Io {
                action: (*action).to_owned(),
                path: shown(path),
                code: code_of(source),
                message: source.to_string(),
            },
            Error::NoRoom { path, needed, free } => Self::NoRoom { path: shown(path), needed: *needed, free: *free },
            // Readers of files don't have these errors.
            Error::Busy { .. }
            | Error::Stopped { .. }
            | Error::Diverged { .. }
            | Error::DeviceMemory { .. }
            | Error::Device { .. }
            | Error::Bug(_) => Self::Bug(error.to_string()),
        }
    }
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Usage { message, hint } => Error::usage(message, hint),
            Self::Data { place, message, hint } => Error::data(place, message, hint),
            Self::Unknown { kind, name, nearest } => {
                Error::Unknown { kind: known(&KINDS, &kind, "name"), name, nearest }
            }
            Self::Missing { path, kind } => {
                Error::Missing { path: path.into(), kind: known(&MISSING, &kind, "file or folder") }
            }
            Self::Damaged { path, what } => Error::damaged(path, what),
            Self::Io { action, path, code, message } => {
                let source = code.map_or_else(|| io::Error::other(message), io::Error::from_raw_os_error);
                Error::Io { action: known(&ACTIONS, &action, "read"), path: path.into(), source }
            }
            Self::NoRoom { path, needed, free } => Error::NoRoom { path: path.into(), needed, free },
            Self::Bug(message) => Error::Bug(message.trim_start_matches("internal error: ").to_owned()),
        }
    }
}

/// The static copy of a word, if this program knows it.
fn known(words: &[&'static str], word: &str, otherwise: &'static str) -> &'static str {
    words.iter().copied().find(|known| *known == word).unwrap_or(otherwise)
}

/// The code of a system error; an error without a code gets that of its kind, if that kind has an exit code.
fn code_of(error: &io::Error) -> Option<i32> {
    error.raw_os_error().or_else(|| match error.kind() {
        io::ErrorKind::StorageFull => Some(Errno::NOSPC.raw_os_error()),
        io::ErrorKind::QuotaExceeded => Some(Errno::DQUOT.raw_os_error()),
        io::ErrorKind::PermissionDenied => Some(Errno::ACCESS.raw_os_error()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_crossed_the_pipe_is_what_it_was() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        for error in [
            Error::usage("message", "hint"),
            Error::data("a: b", "message: more", "hint"),
            Error::unknown("layer", "count", ["counts"]),
            Error::io("open", "gone.h5ad")(io::ErrorKind::NotFound.into()),
            Error::damaged("a", "cut short"),
            Error::io("write", "/tmp/x")(io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error())),
            Error::io("write", "/tmp/x")(full()),
            Error::io("create", "/tmp/x")(io::Error::from_raw_os_error(Errno::ACCESS.raw_os_error())),
            Error::io("read", "/tmp/x")(io::Error::from_raw_os_error(Errno::IO.raw_os_error())),
            Error::NoRoom { path: "/tmp".into(), needed: 10, free: 5 },
            Error::Bug("a".into()),
        ] {
            let sent = serde_json::to_string(&Failure::from(&error)).expect("JSON");
            let there = serde_json::from_str::<Failure>(&sent).expect("JSON").into_error();
            assert_eq!((there.exit_code(), there.hint()), (error.exit_code(), error.hint()), "{error}");
            assert_eq!(there.to_string(), error.to_string());
        }
    }
}
