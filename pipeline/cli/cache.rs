//! Data files given instead of an atlas: an atlas is built next to the file once, and rebuilt when data or
//! flags change.
//!
//! The name of that atlas is locked from the first look at it until it is open, so that of two processes, one
//! builds it and the other one waits.

mod flags;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use formats::{
    format::{Choice, companions, open},
    version::{is_same, stamp_of},
};
use reader::{atlas::read_manifest, split::Split};
use schemas::atlas::{Codec, FileStamp, Manifest, Origin, files};
use serde::{Deserialize, Serialize};
use storage::disk::{discard, remove_leftovers_of, rename, replace_folder, write_atomically};

use crate::{CommandContext, args::KeyArgs, data::ingest_source, inspect::is_atlas, models::is_model};
use flows::ingesting::IngestOptions;
use reader::atlas::Atlas;
use schemas::{Error, Result};

/// The file in such an atlas that records what it was built from. An atlas without it belongs to the user and is never replaced.
const RECORD: &str = "source.json";

/// The source of an atlas. It is written last, so an atlas with this record is complete.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct CacheRecord {
    /// The file or folder; older records have an entry for each file of a folder.
    files: Vec<FileState>,
    /// Other files that were read with it, such as a table of genes. A relative path starts from the folder of
    /// the data.
    #[serde(default)]
    companions: Vec<FileState>,
    flags: String,
}

/// The recorded state of a file or folder.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FileState {
    /// Its name, next to the atlas; older records have its path as the user wrote it.
    path: String,
    #[serde(flatten)]
    stamp: FileStamp,
}

/// The state of an existing atlas with the expected name.
enum CacheState {
    /// It can be used.
    Fits,
    /// It was built from another version, or with other flags.
    Outdated(&'static str),
}

impl CommandContext {
    /// Opens an atlas, or that of a data file or folder, which is ingested first if necessary. Without flags, any atlas of
    /// the current data is accepted.
    pub fn open_data(&self, path: &Path, flags: Option<&KeyArgs>) -> Result<Atlas> {
        if !path.exists() || is_model(path) || (path.is_dir() && is_atlas(path)) {
            let atlas = self.open(path)?;
            return match flags.and_then(|flags| flags.given_otherwise(atlas.manifest())) {
                None => Ok(atlas),
                Some(flag) => {
                    let message = format!("{} was made with a different {flag}", path.display());
                    Err(Error::usage(message, "ingest the data again with these flags, or leave them out"))
                }
            };
        }
        let flags = flags.cloned().map(|flags| KeyArgs { choice: flags.choice.clone().with_whole_paths(), ..flags });
        let flags = flags.as_ref();
        // `.` also has a name.
        let whole = match path.file_name() {
            Some(_) => path.to_path_buf(),
            None => path.canonicalize().map_err(Error::io("find", path))?,
        };
        let (path, cache) = (whole.as_path(), link_target(whole.with_extension("atlas"))?);
        let _lock = self.lock(&cache)?;
        if !cache.exists() {
            let staged = hidden(&cache);
            if record(&staged).is_none() {
                return self.make(path, &cache, flags);
            }
            // A process was killed just before it could rename this atlas.
            rename(&staged, &cache)?;
            remove_leftovers_of(&cache)?;
        }
        let Some(cache_record) = record(&cache) else { return self.own(path, &cache, flags) };
        let made_by_default = cache_record.flags == format!("{:?}", KeyArgs::default());
        match self.look_at(cache_record, path, &cache, flags)? {
            CacheState::Fits => {
                self.show.note(&format!("using {}", cache.display()));
                self.open(&cache)
            }
            CacheState::Outdated(_) if flags.is_none() && !made_by_default => {
                let message = format!("{} is not up to date, and was made with flags", cache.display());
                let hint = "run the command that made it, `train` or `ingest`, again with its flags";
                Err(Error::usage(message, hint))
            }
            CacheState::Outdated(what) => {
                self.show.note(&format!("{what} changed: rebuilding {}", cache.display()));
                self.make(path, &cache, flags)
            }
        }
    }

    /// Whether an atlas with this record still matches its source and the flags.
    fn look_at(
        &self,
        cache_record: CacheRecord,
        path: &Path,
        cache: &Path,
        flags: Option<&KeyArgs>,
    ) -> Result<CacheState> {
        let name = name_of(path);
        let of_another = cache_record.files.iter().find(|file| match path.is_dir() {
            // Older records list the files of a folder, with the folder in the path of each.
            true => !Path::new(&file.path).iter().any(|part| part.to_string_lossy() == name),
            false => !Path::new(&file.path).ends_with(&name),
        });
        if let Some(other) = of_another {
            let message = format!("{} was made from {}, not from {}", cache.display(), other.path, path.display());
            let hint = format!("ingest {} into an atlas with another name, and use that one", path.display());
            return Err(Error::usage(message, hint));
        }
        if let Some(flags) = flags
            && format!("{flags:?}") != cache_record.flags
        {
            return Ok(CacheState::Outdated("the flags have"));
        }
        let (folder, defaults) = (folder_of(path), KeyArgs::default());
        let made_with = flags.or((cache_record.flags == format!("{defaults:?}")).then_some(&defaults));
        if let Some(flags) = made_with
            && companions_of(path, &flags.choice.choice(&self.resources.stop))?.len() > cache_record.companions.len()
        {
            return Ok(CacheState::Outdated("the files read with its source have"));
        }
        for FileState { path, stamp } in &cache_record.companions {
            let companion = folder.join(path);
            if !companion.exists() || !stamp_of(&companion)?.is_unchanged_since(stamp) {
                return Ok(CacheState::Outdated("a file read with its source has"));
            }
        }
        let stamp = stamp_of(path)?;
        let then = FileStamp {
            bytes: cache_record.files.iter().map(|file| file.stamp.bytes).sum(),
            modified: cache_record.files.iter().map(|file| file.stamp.modified).max().unwrap_or_default(),
            listing: cache_record.files.first().and_then(|file| file.stamp.listing.clone()),
        };
        if stamp.is_unchanged_since(&then) {
            return Ok(CacheState::Fits);
        }
        // A copy has another modification time, but the same cells.
        match read_manifest(cache)?.sources.as_slice() {
            [Origin { version: Some(version), .. }] if is_same(path, version)? => {
                let CacheRecord { companions, flags, .. } = cache_record;
                let files = vec![FileState { path: name, stamp }];
                // This saves the next command the comparison; it may fail because the folder is read-only.
                if let Err(error) = write_record(cache, &CacheRecord { files, companions, flags }) {
                    tracing::debug!("{error}");
                }
                Ok(CacheState::Fits)
            }
            _ => Ok(CacheState::Outdated("its source has")),
        }
    }

    /// Builds the atlas under a hidden name, copies the splits of the one that it replaces, and puts it in its
    /// place. If the process is killed, either the old atlas remains, or the new one, which the next process
    /// finds under the hidden name and renames.
    fn make(&self, path: &Path, cache: &Path, flags: Option<&KeyArgs>) -> Result<Atlas> {
        refuse_to_lose_entries(cache)?;
        let flags = flags.cloned().unwrap_or_default();
        let choice = flags.choice.choice(&self.resources.stop);
        let companions = companions_of(path, &choice)?;
        let stamp = stamp_of(path)?;
        let source = open(path, &choice)?;
        let codec = flags.codec_beside(&*source);
        self.show.note(&match codec {
            Codec::InPlace => {
                format!("reading {} in place; ingesting its labels into {} (once)", path.display(), cache.display())
            }
            Codec::Raw | Codec::Packed | Codec::Zstd => {
                format!("ingesting {} into {} (once)", path.display(), cache.display())
            }
        });
        let staged = hidden(cache);
        if staged.exists() {
            discard(&staged)?;
        }
        remove_leftovers_of(cache)?;
        let options =
            IngestOptions { codec, files: vec![path.to_path_buf()], choice: choice.clone(), ..flags.options() };
        ingest_source(source, &staged, options, self)?;
        if cache.exists() {
            if record(cache).is_none() {
                discard(&staged)?;
                let message = format!("{} was written by another command in the meantime", cache.display());
                return Err(Error::usage(message, "run the command again to use it, or rename it first"));
            }
            if let Err(error) = refuse_to_lose_entries(cache) {
                discard(&staged)?;
                return Err(error);
            }
            self.take_over_splits(cache, &staged)?;
        }
        let files = vec![FileState { path: name_of(path), stamp }];
        write_record(&staged, &CacheRecord { files, companions, flags: format!("{flags:?}") })?;
        if let Err(error) = replace_folder(&staged, cache) {
            // As long as the old atlas is there, nothing is lost with the new one.
            if staged.exists() && cache.exists() {
                discard(&staged)?;
            }
            return Err(error);
        }
        self.open(cache)
    }

    /// Copies the splits of an atlas to its replacement; if one of them does not match, the old atlas stays.
    fn take_over_splits(&self, cache: &Path, staged: &Path) -> Result<()> {
        let new = self.open(staged)?;
        let has_splits = entries_of(&cache.join(files::SPLITS))?.iter().any(|path| !is_leftover(&name_of(path)));
        let taken = match has_splits && controls(&read_manifest(cache)?) != controls(new.manifest()) {
            true => Err(Error::usage("other cells are controls now", "make the split again")),
            false => Split::take_over(cache, &new),
        };
        match taken {
            Ok(taken) if taken.is_empty() => Ok(()),
            Ok(taken) => {
                self.show.note(&format!("keeping its splits: {}", taken.join(", ")));
                Ok(())
            }
            Err(error) => {
                discard(staged)?;
                let message = format!("{} can't be rebuilt without losing a split: {error}", cache.display());
                let hint = "rename the atlas to have it rebuilt, or remove it if you no longer need its splits";
                Err(Error::usage(message, hint))
            }
        }
    }

    /// Opens a user's atlas with the expected name, unless it contradicts the data or the flags.
    fn own(&self, path: &Path, cache: &Path, flags: Option<&KeyArgs>) -> Result<Atlas> {
        let atlas = self.open(cache)?;
        let hint = "pass the atlas to use it as it is; rename or remove it to have it rebuilt";
        if !is_made_from(&atlas, path)? {
            let message = format!("{} was made from another version of {}", cache.display(), path.display());
            return Err(Error::usage(message, hint));
        }
        if let Some(flag) = flags.and_then(|flags| flags.disagrees_with(atlas.manifest())) {
            let message = format!("{} was made with a different {flag}", cache.display());
            return Err(Error::usage(message, hint));
        }
        self.show.note(&format!("using {}", cache.display()));
        Ok(atlas)
    }
}

/// The names of an atlas's controls.
fn controls(manifest: &Manifest) -> BTreeSet<&String> {
    manifest.conditions.rules().controls.iter().collect()
}

/// Refuses to replace an atlas whose folder holds anything that is not part of an atlas, such as a model.
pub(crate) fn refuse_to_lose_entries(cache: &Path) -> Result<()> {
    let is_ours = |name: &str| files::ALL.contains(&name) || name == RECORD;
    let splits = cache.join(files::SPLITS);
    let is_split = |path: &Path| path.is_file() && path.extension().is_some_and(|extension| extension == "parquet");
    let foreign = [
        foreign_entry(cache, &is_ours)?,
        entries_of(&splits)?.into_iter().find(|path| {
            let name = name_of(path);
            !is_leftover(&name) && (name.starts_with('.') || !is_split(path))
        }),
    ];
    match foreign.into_iter().flatten().next() {
        None => Ok(()),
        Some(path) => {
            let message = format!("{} would be lost when {} is replaced", path.display(), cache.display());
            Err(Error::usage(message, "move it to another folder, or rename the atlas"))
        }
    }
}

/// An entry of a folder that is neither ours, by its name, nor the leftover of a process that was killed.
fn foreign_entry(folder: &Path, is_ours: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    Ok(entries_of(folder)?.into_iter().find(|path| {
        let name = name_of(path);
        !is_ours(&name) && !is_leftover(&name)
    }))
}

/// The same for all files below a folder, by their paths within it.
pub(crate) fn foreign_file(folder: &Path, is_ours: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    for path in entries_of(folder)? {
        let name = name_of(&path);
        if is_leftover(&name) || is_ours(&name) && !path.is_dir() {
            continue;
        }
        let is_empty = || Ok::<_, Error>(entries_of(&path)?.is_empty());
        if path.is_symlink() || !path.is_dir() || (is_empty()? && !is_ours(&name)) {
            return Ok(Some(path));
        }
        let below = foreign_file(&path, &|inner| is_ours(&format!("{name}/{inner}")))?;
        if below.is_some() {
            return Ok(below);
        }
    }
    Ok(None)
}

/// Whether a name is that of a file that was being written when its process was killed.
fn is_leftover(name: &str) -> bool {
    name.starts_with('.') && name.contains(".tmp-")
}

/// The entries of a folder; none if it is not there.
fn entries_of(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.map_err(Error::io("list", folder))?;
    Ok(entries.into_iter().map(|entry| entry.path()).collect())
}

/// Whether an atlas holds exactly the cells of a file or folder in its current state.
fn is_made_from(atlas: &Atlas, path: &Path) -> Result<bool> {
    let [source] = atlas.manifest().sources.as_slice() else { return Ok(false) };
    if let Some(version) = &source.version {
        return is_same(path, version);
    }
    // Atlases of older versions store only the length; a file that was changed since is newer than the atlas.
    let stamp = stamp_of(path)?;
    let atlas_stamp = stamp_of(&atlas.path().join(schemas::atlas::files::MANIFEST))?;
    Ok(source.bytes == stamp.bytes && stamp.modified <= atlas_stamp.modified)
}

/// The name under which an atlas is built.
fn hidden(cache: &Path) -> PathBuf {
    cache.with_file_name(format!(".{}.anew", cache.file_name().unwrap_or_default().to_string_lossy()))
}

/// Follows a link, so that the atlas is built at its target.
fn link_target(cache: PathBuf) -> Result<PathBuf> {
    let Ok(to) = std::fs::read_link(&cache) else { return Ok(cache) };
    cache.canonicalize().map_err(|_| {
        let message = format!("{} is a link to {}, which does not exist", cache.display(), to.display());
        Error::usage(message, "remove the link, or create the folder that it leads to")
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// The other files that are read with a file or folder, in their current state.
fn companions_of(path: &Path, choice: &Choice) -> Result<Vec<FileState>> {
    let state = |companion: PathBuf| {
        let whole = companion.canonicalize().map_err(Error::io("read", &companion))?;
        let folder = folder_of(path).canonicalize().map_err(Error::io("read", path))?;
        let path = whole.strip_prefix(&folder).unwrap_or(&whole).to_string_lossy().into_owned();
        Ok(FileState { path, stamp: stamp_of(&companion)? })
    };
    companions(path, choice)?.into_iter().map(state).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn record(cache: &Path) -> Option<CacheRecord> {
    serde_json::from_slice(&std::fs::read(cache.join(RECORD)).ok()?).ok()
}

fn write_record(atlas: &Path, record: &CacheRecord) -> Result<()> {
    let text = serde_json::to_vec_pretty(record).map_err(|error| Error::Bug(error.to_string()))?;
    write_atomically(&atlas.join(RECORD), &text)
}
