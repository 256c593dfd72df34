//! How predictions are written.

use crate::{FileOptions, Shard};

/// Approximate bytes of values of a file, unless others are requested.
pub const FILE_BYTES: u64 = 256 << 20;

/// The format of predictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PredictionFormat {
    /// A folder of Parquet files, or one file.
    #[default]
    Parquet,
    /// One file of comma-separated values.
    Csv,
    /// One `.h5ad` file.
    H5ad {
        /// Whether the real control cells of the same covariate combinations follow the predicted ones.
        with_controls: bool,
    },
}

/// Options for writing predictions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// The format.
    pub format: PredictionFormat,
    /// Precision and partitions.
    pub files: FileOptions,
    /// The shard to write, until [`commit`](crate::commit) publishes them all.
    pub shard: Option<Shard>,
    /// Whether the shard is a folder of its own, which can be moved, until
    /// [`commit_portable`](crate::portable::commit_portable) publishes them all.
    pub portable: bool,
    /// Maximum size of the output in bytes, checked before work begins.
    pub max_bytes: Option<u64>,
    /// Approximate bytes of values per file, and per part of the work.
    pub file_bytes: u64,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            format: PredictionFormat::default(),
            files: FileOptions::default(),
            shard: None,
            portable: false,
            max_bytes: None,
            file_bytes: FILE_BYTES,
        }
    }
}
