//! Errors as users see them: where, what, and how to fix it.

use std::{
    io,
    path::{Path, PathBuf},
};

/// A result whose error can be shown to a user.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong on the way from a file to a prediction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request that is invalid for any data.
    #[error("{message}")]
    Usage {
        /// The problem.
        message: String,
        /// How to fix it.
        hint: String,
    },
    /// Data that can't be used.
    #[error("{place}: {message}")]
    Data {
        /// File, column and row, as far as known.
        place: String,
        /// The problem.
        message: String,
        /// How to fix it.
        hint: String,
    },
    /// An unknown name.
    #[error("unknown {kind} `{name}`{}", among(.nearest))]
    Unknown {
        /// The kind of name: `perturbation`, `column`, ...
        kind: &'static str,
        /// The name.
        name: String,
        /// The most similar known names.
        nearest: Vec<String>,
    },
    /// A missing file.
    #[error("{}: no such {kind}", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
        /// The kind of file that was expected.
        kind: &'static str,
    },
    /// A damaged file written by Perturbine.
    #[error("{}: damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damaged part, and a description of the damage.
        what: String,
    },
    /// A failed request to the operating system.
    #[error("can't {action} {}", path.display())]
    Io {
        /// `read`, `write`, `create`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A disk with too little space for the output.
    #[error("{}: {needed} bytes are to be written there, but the disk has room for {free}", path.display())]
    NoRoom {
        /// The output.
        path: PathBuf,
        /// Its size in bytes.
        needed: u64,
        /// Free bytes.
        free: u64,
    },
    /// An output that another process is writing at the moment.
    #[error("another process is writing {}", path.display())]
    Busy {
        /// The output.
        path: PathBuf,
    },
    /// The run was stopped on request, and can be resumed.
    #[error("stopped on request")]
    Stopped {
        /// How to resume it.
        resume: String,
    },
    /// Training that diverged.
    #[error("{what} is not finite at epoch {epoch}, batch {batch}")]
    Diverged {
        /// The name of the quantity.
        what: String,
        /// The epoch, from 0.
        epoch: u32,
        /// The batch of that epoch, from 0.
        batch: u64,
    },
    /// A GPU with too little memory for the computation.
    #[error("out of memory on the GPU: {message}")]
    DeviceMemory {
        /// The requested and the available memory.
        message: String,
        /// How to fix it.
        hint: String,
    },
    /// A GPU that failed, was lost, or refused a request.
    #[error("the GPU failed: {message}")]
    Device {
        /// The driver's message.
        message: String,
        /// How to fix it.
        hint: String,
    },
    /// A broken invariant of this program.
    #[error("internal error: {0}")]
    Bug(String),
}

/// The documented exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// An invalid request.
    Usage = 2,
    /// No space left on a device.
    NoSpace = 28,
    /// Bad data, or an unknown name.
    Data = 65,
    /// A missing input.
    MissingInput = 66,
    /// A bug.
    Bug = 70,
    /// An output that can't be created.
    CantCreate = 73,
    /// An input or output error, or a GPU that failed.
    Io = 74,
    /// Stopped by a signal, with a state that can be resumed, or kept out by another process that writes the same output.
    Stopped = 75,
}

impl Error {
    /// Data that can't be used.
    pub fn data(place: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Data { place: place.into(), message: message.into(), hint: hint.into() }
    }

    /// An invalid request.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: hint.into() }
    }

    /// A damaged file written by Perturbine.
    pub fn damaged(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), what: what.into() }
    }

    /// Turns an I/O error into one that names its file; for `map_err`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = path.as_ref().to_path_buf();
            match source.kind() {
                io::ErrorKind::NotFound if action != "create" => Self::Missing { path, kind: "file or folder" },
                _ => Self::Io { action, path, source },
            }
        }
    }

    /// An unknown name, with the nearest ones of `known`.
    pub fn unknown<'a>(kind: &'static str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Unknown { kind, name: name.to_owned(), nearest: nearest(name, known) }
    }

    /// The exit code of the command line for this error.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage { .. } => ExitCode::Usage,
            Self::Data { .. } | Self::Unknown { .. } | Self::Damaged { .. } | Self::Diverged { .. } => ExitCode::Data,
            // It is the user's batch size that does not fit.
            Self::DeviceMemory { .. } => ExitCode::Data,
            Self::Missing { .. } => ExitCode::MissingInput,
            Self::NoRoom { .. } => ExitCode::NoSpace,
            Self::Io { source, .. } if is_out_of_space(source) => ExitCode::NoSpace,
            Self::Io { action: "create", .. } => ExitCode::CantCreate,
            Self::Io { .. } | Self::Device { .. } => ExitCode::Io,
            Self::Stopped { .. } | Self::Busy { .. } => ExitCode::Stopped,
            Self::Bug(_) => ExitCode::Bug,
        }
    }

    /// How to fix it, if known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Usage { hint, .. } | Self::Data { hint, .. } => hint.clone(),
            Self::DeviceMemory { hint, .. } | Self::Device { hint, .. } => hint.clone(),
            Self::Unknown { kind, .. } if INSPECTED.contains(kind) => {
                "check the spelling; `perturbine inspect` lists the known names".into()
            }
            Self::Unknown { .. } => "check the spelling".into(),
            Self::Missing { .. } => "check the path".into(),
            Self::Damaged { .. } => {
                "restore the file from a copy, or make it again; `perturbine verify` lists every damaged block".into()
            }
            Self::NoRoom { needed, free, .. } => {
                format!(
                    "free some space ({} MiB more are needed), or write elsewhere",
                    (needed - free).div_ceil(1 << 20)
                )
            }
            Self::Io { source, .. } if is_out_of_space(source) => {
                "free some space, then run the same command again".into()
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::FileTooLarge => {
                "raise the file-size limit (`ulimit -f`), or write to a file system that allows larger files".into()
            }
            Self::Io { .. } => return None,
            Self::Busy { .. } => "try again later, or choose another name".into(),
            Self::Stopped { resume } => resume.clone(),
            Self::Diverged { .. } => {
                "lower train.lr, or set train.gradient_clip_value; the last good checkpoint is kept".into()
            }
            Self::Bug(_) => "please report it with the command that you ran".into(),
        };
        (!hint.is_empty()).then_some(hint)
    }
}

/// Kinds of names that `perturbine inspect` lists.
const INSPECTED: [&str; 8] =
    ["perturbation", "condition", "covariate", "covariate value", "batch", "split", "obs column", "layer"];

fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The names most similar to `name`, best first, at most five.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let lowercase = name.to_lowercase();
    let mut scored: Vec<(f64, &str)> =
        known.into_iter().map(|other| (strsim::jaro_winkler(&lowercase, &other.to_lowercase()), other)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.into_iter().take(5).map(|(_, name)| name.to_owned()).collect()
}

fn among(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        names => format!("; the nearest known: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_ones() {
        let error = Error::unknown("perturbation", "klf1", ["MAP2K6", "KLF1", "KLF2"]);
        assert_eq!(error.to_string(), "unknown perturbation `klf1`; the nearest known: KLF1, KLF2, MAP2K6");
        assert_eq!(error.exit_code(), ExitCode::Data);
    }

    #[test]
    fn a_full_disk_has_its_own_exit_code() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Error::io("write", "out.parquet")(full).exit_code(), ExitCode::NoSpace);
    }
}
