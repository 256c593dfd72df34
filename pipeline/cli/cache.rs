//! Data that is named where an atlas is expected: made one beside itself once, and again when data or flags change.
//!
//! From the first look for that atlas until it is open, a lock on its name is held, so that of two processes one makes it, and
//! the other one waits and finds it.

use std::{path::Path, thread, time::Duration};

use perturbine::{Atlas, Error, Result, flows::ingesting::IngestOptions};
use schemas::atlas::{Codec, Origin};
use serde::{Deserialize, Serialize};
use stages::{
    disk::{PathLock, discard, rename, sync_folder, write_atomically},
    ingest::{
        format::open,
        version::{is_same, length_and_time},
    },
    split::Split,
};

use super::{
    Context,
    args::KeyArgs,
    data::{ingest_source, is_atlas},
};

/// In an atlas that was made so: what it was made from. An atlas without it is the user's own, and is never replaced.
const RECORD: &str = "source.json";

/// How often it is looked whether another process has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What an atlas was made from.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    files: Vec<FileState>,
    flags: String,
}

/// A file or folder as it was.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FileState {
    /// Its name, beside the atlas; older records have its path as it was spelled, or one for each file of a folder.
    path: String,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u64,
}

/// What becomes of an atlas that stands where ours would.
enum Found {
    /// It will do.
    Fits,
    /// It was made of another version, or with other flags.
    Outdated(&'static str),
}

impl Context {
    /// Opens an atlas, or that of a data file or folder, which is ingested first where need be. Without flags any atlas of
    /// the data as they are will do.
    pub(super) fn open_data(&self, path: &Path, flags: Option<&KeyArgs>) -> Result<Atlas> {
        if !path.exists() || (path.is_dir() && is_atlas(path)) {
            return self.open(path);
        }
        // What is spelled `.` has a name as well.
        let whole = match path.file_name() {
            Some(_) => path.to_path_buf(),
            None => path.canonicalize().map_err(Error::io("find", path))?,
        };
        let (path, cache) = (whole.as_path(), whole.with_extension("atlas"));
        let _lock = self.lock(&cache)?;
        if !cache.exists() {
            return self.make(path, &cache, flags);
        }
        let Some(made) = record(&cache) else { return self.own(path, &cache, flags) };
        match self.look_at(&made, path, &cache, flags)? {
            Found::Fits => {
                self.show.note(&format!("using {}", cache.display()));
                self.open(&cache)
            }
            Found::Outdated(what) => {
                self.show.note(&format!("{what} changed: making {} anew", cache.display()));
                self.make(path, &cache, flags)
            }
        }
    }

    /// Waits until nobody else makes or looks for an atlas.
    fn lock(&self, cache: &Path) -> Result<PathLock> {
        let mut told = false;
        loop {
            if let Some(lock) = PathLock::try_take(cache)? {
                return Ok(lock);
            }
            if !told {
                self.show.note(&format!("waiting for another process that makes {}", cache.display()));
                told = true;
            }
            if self.resources.stop.requested() {
                return Err(Error::Stopped { resume: "run the same command again".into() });
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Whether an atlas that was made so still fits its source and the flags.
    fn look_at(&self, made: &Record, path: &Path, cache: &Path, flags: Option<&KeyArgs>) -> Result<Found> {
        let name = name_of(path);
        let of_another = made.files.iter().find(|file| match path.is_dir() {
            // Older records have the files of a folder, each with the folder in its path.
            true => !Path::new(&file.path).iter().any(|part| part.to_string_lossy() == name),
            false => !Path::new(&file.path).ends_with(&name),
        });
        if let Some(other) = of_another {
            let message = format!("{} was made from {}, not from {}", cache.display(), other.path, path.display());
            let hint = format!("ingest {} into an atlas of another name, and name that", path.display());
            return Err(Error::usage(message, hint));
        }
        let (bytes, modified) = length_and_time(path)?;
        let then = (
            made.files.iter().map(|file| file.bytes).sum::<u64>(),
            made.files.iter().map(|file| file.modified).max().unwrap_or_default(),
        );
        let fits = match flags {
            Some(flags) if format!("{flags:?}") != made.flags => Found::Outdated("the flags have"),
            _ => Found::Fits,
        };
        if then == (bytes, modified) {
            return Ok(fits);
        }
        // A copy has another time, and the same cells.
        let atlas = self.open(cache)?;
        match atlas.manifest().sources.as_slice() {
            [Origin { version: Some(version), .. }] if is_same(path, version)? => {
                write_record(
                    cache,
                    &Record { files: vec![FileState { path: name, bytes, modified }], flags: made.flags.clone() },
                )?;
                Ok(fits)
            }
            _ => Ok(Found::Outdated("its source has")),
        }
    }

    /// Makes the atlas under a hidden name, and puts it where one may be already, whose splits it takes over. A process that is
    /// killed leaves the one or the other, and under the hidden name nothing that the next one minds.
    fn make(&self, path: &Path, cache: &Path, flags: Option<&KeyArgs>) -> Result<Atlas> {
        let flags = flags.cloned().unwrap_or_default();
        let (bytes, modified) = length_and_time(path)?;
        let source = open(path, &flags.choice.choice(&self.resources.stop))?;
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
        let options = IngestOptions { codec, files: vec![path.to_path_buf()], ..flags.options() };
        ingest_source(source, &anew, options, self)?;
        let file = FileState { path: name_of(path), bytes, modified };
        write_record(&anew, &Record { files: vec![file], flags: format!("{flags:?}") })?;
        if cache.exists() {
            self.take_over_splits(cache, &anew)?;
            discard(cache)?;
        }
        rename(&anew, cache)?;
        sync_folder(cache.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")))?;
        self.open(cache)
    }

    /// Brings the splits of an atlas into the one that takes its place; where one of them does not fit, the old atlas stays.
    fn take_over_splits(&self, cache: &Path, anew: &Path) -> Result<()> {
        match Split::take_over(cache, &self.open(anew)?) {
            Ok(taken) if taken.is_empty() => Ok(()),
            Ok(taken) => {
                self.show.note(&format!("its splits stay: {}", taken.join(", ")));
                Ok(())
            }
            Err(error) => {
                discard(anew)?;
                let message = format!("{} can't be made anew without losing a split: {error}", cache.display());
                let hint = "rename the atlas, and it is made anew; or remove it, if its splits are not wanted any more";
                Err(Error::usage(message, hint))
            }
        }
    }

    /// An atlas that stands where ours would: it will do unless it says something else than the data or the flags.
    fn own(&self, path: &Path, cache: &Path, flags: Option<&KeyArgs>) -> Result<Atlas> {
        let atlas = self.open(cache)?;
        let hint = "name the atlas to use it as it is; rename or remove it, and it is made anew";
        if !is_made_from(&atlas, path)? {
            let message = format!("{} was made from another version of {}", cache.display(), path.display());
            return Err(Error::usage(message, hint));
        }
        if let Some(flag) = flags.and_then(|flags| flags.disagrees_with(atlas.manifest())) {
            let message = format!("{} was made with another {flag}", cache.display());
            return Err(Error::usage(message, hint));
        }
        self.show.note(&format!("using {}", cache.display()));
        Ok(atlas)
    }
}

/// Whether an atlas holds the cells of a file or folder as it is, and of nothing else.
fn is_made_from(atlas: &Atlas, path: &Path) -> Result<bool> {
    let [source] = atlas.manifest().sources.as_slice() else { return Ok(false) };
    if let Some(version) = &source.version {
        return is_same(path, version);
    }
    // Atlases of older versions remember the length alone; a file that was changed since is newer than they are.
    let (bytes, modified) = length_and_time(path)?;
    let (_, made) = length_and_time(&atlas.path().join(schemas::atlas::files::MANIFEST))?;
    Ok(source.bytes == bytes && modified <= made)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn record(cache: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(cache.join(RECORD)).ok()?).ok()
}

fn write_record(atlas: &Path, record: &Record) -> Result<()> {
    let text = serde_json::to_vec_pretty(record).map_err(|error| Error::Bug(error.to_string()))?;
    write_atomically(&atlas.join(RECORD), &text)
}
