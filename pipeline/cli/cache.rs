//! Data that is named where an atlas is expected: made one beside itself once, and again when data or flags change.

use std::{
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use perturbine::{Atlas, Error, Result};
use schemas::atlas::Codec;
use serde::{Deserialize, Serialize};
use stages::{
    disk::{discard, rename, sync_folder, write_atomically},
    ingest::format::open,
};

use super::{
    Context,
    args::KeyArgs,
    data::{ingest_source, is_atlas},
};

/// In an atlas that was made so: what it was made from. An atlas without it is the user's own, and is never replaced.
const RECORD: &str = "source.json";

/// What an atlas was made from.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    files: Vec<FileState>,
    flags: String,
}

/// A file as it was.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FileState {
    path: PathBuf,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u128,
}

impl Context {
    /// Opens an atlas, or that of a data file or folder, which is ingested first where need be. Without flags any atlas of
    /// the data as they are will do.
    pub(super) fn open_data(&self, path: &Path, flags: Option<&KeyArgs>) -> Result<Atlas> {
        if !path.exists() || (path.is_dir() && is_atlas(path)) {
            return self.open(path);
        }
        let cache = path.with_extension("atlas");
        let text = flags.map(|flags| format!("{flags:?}"));
        let state = file_states(path)?;
        match (cache.exists(), record(&cache)) {
            (false, _) => self.make(path, &cache, flags, state),
            (true, None) => self.own(path, &cache, flags),
            (true, Some(made)) if made.files == state && text.is_none_or(|text| text == made.flags) => {
                self.show.note(&format!("using {}", cache.display()));
                self.open(&cache)
            }
            (true, Some(made)) => {
                let what = if made.files == state { "the flags have" } else { "its source has" };
                self.show.note(&format!("{what} changed: making {} anew", cache.display()));
                self.make(path, &cache, flags, state)
            }
        }
    }

    /// Makes the atlas under a hidden name, and puts it where one may be already. A process that is killed leaves the one or
    /// the other, and under the hidden name nothing that the next one minds.
    fn make(&self, path: &Path, cache: &Path, flags: Option<&KeyArgs>, files: Vec<FileState>) -> Result<Atlas> {
        let flags = flags.cloned().unwrap_or_default();
        let source = open(path, &flags.choice.choice())?;
        let codec = flags.codec_beside(&*source);
        self.show.note(&match codec {
            Codec::InPlace => {
                format!("{} is read in place; its labels go into {}, once", path.display(), cache.display())
            }
            Codec::Raw | Codec::Zstd => format!("ingesting {} into {}, once", path.display(), cache.display()),
        });
        let anew = cache.with_file_name(format!(".{}.anew", cache.file_name().unwrap_or_default().to_string_lossy()));
        if anew.exists() {
            discard(&anew)?;
        }
        ingest_source(source, &anew, &flags, codec, self)?;
        let record = Record { files, flags: format!("{flags:?}") };
        let text = serde_json::to_vec_pretty(&record).map_err(|error| Error::Bug(error.to_string()))?;
        write_atomically(&anew.join(RECORD), &text)?;
        if cache.exists() {
            discard(cache)?;
        }
        rename(&anew, cache)?;
        sync_folder(cache.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")))?;
        self.open(cache)
    }

    /// An atlas that stands where ours would: it will do unless it says something else than the data or the flags.
    fn own(&self, path: &Path, cache: &Path, flags: Option<&KeyArgs>) -> Result<Atlas> {
        let atlas = self.open(cache)?;
        let bytes: u64 = file_states(path)?.iter().map(|file| file.bytes).sum();
        if atlas.manifest().sources.iter().all(|source| source.bytes != bytes) {
            let message = format!("{} was made from another version of {}", cache.display(), path.display());
            return Err(Error::usage(message, "remove the atlas, and it is made anew"));
        }
        if let Some(flag) = flags.and_then(|flags| flags.disagrees_with(atlas.manifest())) {
            let message = format!("{} was made with another {flag}", cache.display());
            return Err(Error::usage(message, "remove the atlas, and it is made anew"));
        }
        self.show.note(&format!("using {}", cache.display()));
        Ok(atlas)
    }
}

fn record(cache: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(cache.join(RECORD)).ok()?).ok()
}

/// A file, or all files of a folder, by name.
fn file_states(path: &Path) -> Result<Vec<FileState>> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !metadata.is_dir() {
        let modified = metadata.modified().map_err(Error::io("read", path))?;
        let modified = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        return Ok(vec![FileState { path: path.to_path_buf(), bytes: metadata.len(), modified }]);
    }
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io("read", path))? {
        entries.push(entry.map_err(Error::io("read", path))?.path());
    }
    entries.sort();
    let states: Vec<Vec<FileState>> = entries.iter().map(|entry| file_states(entry)).collect::<Result<_>>()?;
    Ok(states.into_iter().flatten().collect())
}
