//! The list of an atlas's splits: without it, a split's file could vanish unnoticed.
//!
//! A split is listed after its file has its name, and taken off before its file is removed: a process that is killed between the two
//! leaves a file that is not listed, never a name without a file.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use schemas::{Error, Result, atlas::files};
use serde::{Deserialize, Serialize};
use storage::{
    disk::{FolderLock, write_atomically},
    sealed::{read_sealed, sealed},
};

use super::Split;
use crate::atlas::{Atlas, Damage};

/// The content of the file. A flipped bit in the name of its checksum would make an unknown field of that.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    splits: BTreeSet<String>,
}

impl Split {
    /// The splits of an atlas that are damaged or lost, and the damage.
    ///
    /// # Errors
    /// A disk that can't be read.
    pub fn damages(atlas: &Atlas) -> Result<Vec<Damage>> {
        let file = |name: &str| format!("{}/{name}.parquet", files::SPLITS);
        let damage = |file: String, what: String| Damage { file, block: None, what };
        let mut damages = Vec::new();
        for name in Self::names(atlas) {
            if let Err(error) = Self::read(atlas, &name) {
                damages.push(damage(file(&name), error.to_string()));
            }
        }
        match lost(atlas.path()) {
            Ok(names) => damages.extend(names.iter().map(|name| {
                let path = atlas.path().display();
                let what = format!("it is missing; `perturbine split {path} --remove {name}` takes it off the list");
                damage(file(name), what)
            })),
            Err(Error::Damaged { what, .. }) => damages.push(damage(files::SPLIT_LIST.into(), what)),
            Err(error) => return Err(error),
        }
        Ok(damages)
    }
}

/// The list of an atlas's splits, locked for a change.
pub(super) struct SplitList {
    path: PathBuf,
    splits: BTreeSet<String>,
    _lock: FolderLock,
}

impl SplitList {
    /// Locks the list of an atlas that has a folder of splits. An atlas of an older version has no list: the splits that it has start one.
    ///
    /// # Errors
    /// A damaged list, a broken disk.
    pub(super) fn lock(atlas: &Path) -> Result<Self> {
        let lock = FolderLock::wait(&atlas.join(files::SPLITS))?;
        let splits = read(atlas)?.unwrap_or_else(|| names_in(atlas).into_iter().collect());
        Ok(Self { path: atlas.join(files::SPLIT_LIST), splits, _lock: lock })
    }

    /// Adds a split whose file is there.
    ///
    /// # Errors
    /// A full or broken disk.
    pub(super) fn add(mut self, name: &str) -> Result<()> {
        self.splits.insert(name.to_owned());
        self.write()
    }

    /// Takes a split off the list; returns whether it was listed.
    ///
    /// # Errors
    /// A full or broken disk.
    pub(super) fn remove(mut self, name: &str) -> Result<bool> {
        let was_listed = self.splits.remove(name);
        if was_listed {
            self.write()?;
        }
        Ok(was_listed)
    }

    fn write(self) -> Result<()> {
        write_atomically(&self.path, &sealed(&Listed { splits: self.splits })?)
    }
}

/// The listed splits without a file.
///
/// # Errors
/// A damaged list, a broken disk.
pub(super) fn lost(atlas: &Path) -> Result<Vec<String>> {
    let without_file = || {
        let there: BTreeSet<String> = names_in(atlas).into_iter().collect();
        Ok::<_, Error>(read(atlas)?.unwrap_or_default().difference(&there).cloned().collect::<Vec<_>>())
    };
    match without_file()? {
        lost if lost.is_empty() => Ok(lost),
        // Another process may have written or removed a split between the two readings; the next reading shows it.
        _ => without_file(),
    }
}

/// The listed splits; `None` in atlases of older versions.
fn read(atlas: &Path) -> Result<Option<BTreeSet<String>>> {
    match read_sealed::<Listed>(&atlas.join(files::SPLIT_LIST)) {
        Ok(listed) => Ok(Some(listed.splits)),
        Err(Error::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names of the splits that have a file, sorted.
pub(super) fn names_in(atlas: &Path) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(atlas.join(files::SPLITS)) else { return Vec::new() };
    let file_names = folder.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = file_names
        .filter_map(|name| name.strip_suffix(".parquet").map(str::to_owned))
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}
