//! The end of the prediction pipeline: writes record batches to Parquet files, which are visible only when
//! they are complete.
//!
//! [`gather`] makes row groups, [`encode`] turns them into bytes on many threads (`lists` handles the columns
//! with nearly all of the data), and [`files`] appends the bytes in order. [`layout`] holds everything that
//! determines the bytes. In [`shards`], several processes write one folder together; [`portable`] shards need no common folder; those of models are
//! [`resumable`].
//!
//! ```no_run
//! let damaged = sink::verify("predictions".as_ref())?;
//! assert!(damaged.is_empty(), "{damaged:?}");
//! # Ok::<(), schemas::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod csv_table;
pub mod encode;
pub mod files;
pub mod gather;
#[cfg(feature = "hdf5")]
pub mod h5ad;
#[cfg(feature = "hdf5")]
pub mod h5ad_doses;
pub mod hive;
#[cfg(feature = "hdf5")]
pub mod latent_h5ad;
pub mod layout;
mod lists;
pub mod portable;
pub mod precision;
pub mod publication;
pub mod resumable;
mod shard_plan;
pub mod shards;
pub mod write_options;
pub mod written;

use std::{
    fs,
    path::{Component, Path},
};

pub use schemas::arrow::PREDICTIONS_MANIFEST as MANIFEST;
use schemas::{Error, Result, atlas::FileEntry};
use serde::{Deserialize, Serialize};
use storage::{
    disk::checksum_of,
    parquet_read::{self, Batches},
    sealed::{read_sealed, sealed},
};

pub use self::{
    encode::{Encoded, RowGroupEncoder},
    files::Publish,
    gather::{GatherRowGroups, RowGroupEvent},
    layout::{FileOptions, OutputLayout, PartRows},
    precision::OutputPrecision,
    publication::Publication,
    shard_plan::{Shard, ShardPlan},
    shards::commit,
};

/// A published folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The plan of the files: model, atlas, query and output. Equal plans make equal files.
    #[serde(default)]
    pub plan: String,
    /// Total number of rows.
    pub rows: u64,
    /// The files.
    pub files: Vec<PublishedFile>,
}

impl Published {
    /// Some files of a plan.
    fn new(plan: &str, mut files: Vec<PublishedFile>) -> Self {
        files.sort_by(|one, other| one.name.cmp(&other.name));
        // Shards may have some in common.
        files.dedup_by(|one, other| one.name == other.name);
        Self { plan: plan.to_owned(), rows: files.iter().map(|file| file.rows).sum(), files }
    }

    /// Total size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn to_json(&self) -> Result<Vec<u8>> {
        sealed(self)
    }
}

/// A file of a prediction set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedFile {
    /// Its name, preceded by the folder of its partition.
    pub name: String,
    /// Number of rows.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// XXH3-64 of its bytes.
    pub checksum: Option<String>,
}

impl PublishedFile {
    /// Whether the name can't lead outside of the folder.
    fn is_below(&self) -> bool {
        let mut parts = Path::new(&self.name).components().peekable();
        parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
    }

    fn has(&self, found: &FileEntry) -> bool {
        found.bytes == self.bytes && found.checksum == self.checksum
    }
}

/// Checks a folder of predictions against its manifest; returns each damaged file and a description of the
/// damage.
///
/// # Errors
/// A folder without a readable manifest.
pub fn verify(folder: &Path) -> Result<Vec<(String, String)>> {
    let path = folder.join(MANIFEST);
    let published: Published = read_sealed(&path)?;
    Ok(damaged(folder, &published.files))
}

/// The damaged files, each with a description of the damage.
fn damaged(folder: &Path, files: &[PublishedFile]) -> Vec<(String, String)> {
    let mut damaged = Vec::new();
    for file in files {
        if !file.is_below() {
            damaged.push((file.name.clone(), "its name leads out of the folder".to_owned()));
            continue;
        }
        let what = match checksum_of(&folder.join(&file.name)) {
            Ok(found) if file.has(&found) => continue,
            Ok(_) => "its checksum does not match the manifest".to_owned(),
            Err(error) => error.to_string(),
        };
        damaged.push((file.name.clone(), what));
    }
    damaged
}

/// Checks a single Parquet file, which has no checksum, by reading all of it; returns a description of the
/// damage, if any.
///
/// # Errors
/// A file that does not exist.
pub fn verify_file(path: &Path) -> Result<Option<String>> {
    let file = fs::File::open(path).map_err(Error::io("open", path))?;
    let reader = parquet_read::parquet(file).and_then(Batches::new);
    let read = reader
        .map_err(|error| error.to_string())
        .and_then(|mut batches| batches.try_for_each(|batch| batch.map(|_| ())).map_err(|error| error.to_string()));
    Ok(read.err())
}
