//! Folders: created, synced, removed; and names in them.

use std::{
    fs::{self, File},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use schemas::{Error, Result};

use super::{call::Call, faults};

/// Creates a folder that does not exist yet.
pub(super) fn create_folder(path: &Path) -> Result<()> {
    faults::before(Call::CreateFolder, path).and_then(|()| fs::create_dir(path)).map_err(Error::io("create", path))
}

/// Creates a folder, and its parents, if they do not exist yet.
///
/// # Errors
/// A folder that can't be created.
pub fn create_folders(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let create = || {
        faults::before(Call::CreateFolder, path)?;
        fs::create_dir_all(path)
    };
    create().map_err(Error::io("create", path))
}

/// Removes a file, or a folder with everything in it.
///
/// # Errors
/// Files or folders that can't be removed.
pub fn remove_all(path: &Path) -> Result<()> {
    let remove = || {
        faults::before(Call::Remove, path)?;
        match path.symlink_metadata()?.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        }
    };
    remove().map_err(Error::io("remove", path))
}

/// Syncs the names in a folder to the disk.
///
/// # Errors
/// A broken disk.
pub fn sync_folder(path: &Path) -> Result<()> {
    faults::before(Call::SyncFolder, path).and_then(|()| File::open(path)?.sync_all()).map_err(Error::io("write", path))
}

/// Text that is unique in this process.
pub(super) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The folder that has a path.
pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
