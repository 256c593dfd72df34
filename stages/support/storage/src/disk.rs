//! Atomic files and folders: written under a hidden name, made visible by rename.
//!
//! All writing goes through this module: bytes are synced before their name, and a name before the next step
//! relies on it. A writer locks its hidden name, so that leftovers of killed processes can be distinguished
//! from another process's work. `faults` lets tests see what happens when a call fails.
#![expect(clippy::disallowed_methods, reason = "this is the place that writes files")]

mod below;
mod call;
#[cfg(any(test, feature = "faults"))]
pub mod faults;
#[cfg(not(any(test, feature = "faults")))]
#[path = "disk/no_faults.rs"]
mod faults;
mod file;
mod folders;
mod lock;
mod replace;
mod room;

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use schemas::{Error, Result};

pub(crate) use self::file::add_to_hash;
pub use self::file::checksum_of_file;
pub use self::{
    below::files_below,
    file::{DiskFile, HashedFile, checksum_of, checksum_of_text, hex},
    folders::{create_folders, remove_all, sync_folder},
    lock::{FolderLock, PathLock, can_be_locked},
    replace::{discard, refuse_existing, remove_leftovers, remove_leftovers_of, rename, replace_folder},
    room::{check_room, free_bytes},
};
use self::{
    call::Call,
    folders::{create_folder, parent_of, unique},
    lock::{Lock, hidden_sibling},
};
use crate::output_name::output_of;

/// A folder being written; dropped without [`StagedFolder::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct StagedFolder {
    staged: PathBuf,
    target: PathBuf,
    committed: bool,
    replaces: bool,
    /// The lock that shows other processes that the folder is in use.
    lock: Lock,
}

impl StagedFolder {
    /// Starts a folder that will become `target`. Leftovers of killed processes are removed.
    ///
    /// # Errors
    /// A target that exists or that another process is writing, a parent that is not writable.
    pub fn create(target: &Path) -> Result<Self> {
        refuse_existing(target)?;
        Self::begin(target, false)
    }

    /// Starts a folder that will replace `target`, if that exists.
    ///
    /// # Errors
    /// Those of [`StagedFolder::create`], except for an existing target.
    pub fn in_place_of(target: &Path) -> Result<Self> {
        Self::begin(target, true)
    }

    fn begin(target: &Path, replaces: bool) -> Result<Self> {
        if let Ok(to) = fs::read_link(target)
            && !target.exists()
        {
            let message = format!("{} is a link to {}, which does not exist", target.display(), to.display());
            return Err(Error::usage(message, "remove the link, or choose another name"));
        }
        let staged = hidden_sibling(target)?;
        create_folder(&staged)?;
        let lock = Lock::take(&staged)?;
        let folder = Self { staged, target: target.to_path_buf(), committed: false, replaces, lock };
        if lock::clear_leftovers(target, &folder.staged)? {
            return Err(Error::Busy { path: output_of(target) });
        }
        Ok(folder)
    }

    /// The path for a file of the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.staged.join(name)
    }

    /// The folder before it has its name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.staged
    }

    /// Whether other processes see that the folder is in use, which takes a file system with locks.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self.lock, Lock::Taken { .. })
    }

    /// Makes the folder visible under its name.
    ///
    /// # Errors
    /// A rename that fails; then nothing is visible.
    pub fn commit(mut self) -> Result<()> {
        sync_folder(&self.staged)?;
        if self.replaces {
            replace_folder(&self.staged, &self.target)?;
            self.committed = true;
            return Ok(());
        }
        // Renaming over a folder works only if it is empty.
        rename(&self.staged, &self.target)?;
        self.committed = true;
        sync_folder(parent_of(&self.target))
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = remove_all(&self.staged)
        {
            tracing::warn!("could not remove {}: {error}", self.staged.display());
        }
    }
}

/// Atomically writes a small file: readers see either the old one or the new one.
///
/// # Errors
/// A file that can't be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_into(StagedFile::beside(path)?, path, bytes)
}

/// Atomically writes a small file under a name that is not in use.
///
/// # Errors
/// A name that is in use, or a file that can't be written.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    write_into(StagedFile::create(path)?, path, bytes)
}

fn write_into(staged: StagedFile, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = DiskFile::create(staged.path())?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    staged.commit()
}

/// A file being written under a hidden name; dropped without [`StagedFile::commit`], it is removed.
#[derive(Debug)]
pub struct StagedFile {
    staged: PathBuf,
    target: PathBuf,
    committed: bool,
    replaces: bool,
    /// The lock that shows other processes that the file is in use.
    lock: Lock,
}

impl StagedFile {
    /// An empty file next to `target`, which it will become or replace. Leftovers of killed processes are removed.
    ///
    /// # Errors
    /// A parent that can't be created or is not writable.
    pub fn beside(target: &Path) -> Result<Self> {
        // If two are written at once, the later one replaces the other: either is whole.
        Self::begin(target, true).map(|(file, _)| file)
    }

    /// An empty file beside `target`, which it will become, as [`StagedFolder::create`] makes a folder.
    ///
    /// # Errors
    /// A target that exists or that another process is writing, a parent that is not writable.
    pub fn create(target: &Path) -> Result<Self> {
        refuse_existing(target)?;
        match Self::begin(target, false)? {
            (_, true) => Err(Error::Busy { path: output_of(target) }),
            (file, false) => Ok(file),
        }
    }

    /// Starts a file, and reports whether another process is writing one of the same name.
    fn begin(target: &Path, replaces: bool) -> Result<(Self, bool)> {
        let staged = hidden_sibling(target)?;
        DiskFile::create(&staged)?;
        let lock = Lock::take(&staged)?;
        let file = Self { staged, target: target.to_path_buf(), committed: false, replaces, lock };
        let at_work = lock::clear_leftovers(target, &file.staged)?;
        Ok((file, at_work))
    }

    /// The path for the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.staged
    }

    /// Writes with a library that opens files itself; counts as one call.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn write_by<T>(&self, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        faults::before(Call::Write, &self.staged).map_err(Error::io("write", &self.staged))?;
        write(&self.staged)
    }

    /// Releases the lock, for a library that locks its files itself.
    pub fn unlock(&mut self) {
        self.lock = Lock::Nobodys;
    }

    /// Syncs the file and makes it visible under its name.
    ///
    /// # Errors
    /// Bytes that could not be synced, or a rename that fails; then nothing is visible.
    pub fn commit(mut self) -> Result<()> {
        faults::before(Call::Sync, &self.staged)
            .and_then(|()| File::open(&self.staged)?.sync_all())
            .map_err(Error::io("write", &self.target))?;
        if self.replaces {
            rename(&self.staged, &self.target)?;
        } else {
            replace::rename_to_new(&self.staged, &self.target)?;
        }
        self.committed = true;
        sync_folder(parent_of(&self.target))
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.committed
            && self.staged.exists()
            && let Err(error) = remove_all(&self.staged)
        {
            tracing::warn!("could not remove {}: {error}", self.staged.display());
        }
    }
}

/// Where Linux keeps files in memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// A folder for temporary files; it is removed with its last owner.
#[derive(Debug)]
pub struct ScratchFolder(PathBuf);

impl ScratchFolder {
    /// A new, empty folder in the system's temporary folder.
    ///
    /// # Errors
    /// A folder that can't be created.
    pub fn create() -> Result<Self> {
        Self::create_in(&std::env::temp_dir())
    }

    /// The same in memory if there is room for this many bytes: no disk has to sync what is removed as soon as it is open.
    ///
    /// # Errors
    /// A folder that can't be created.
    pub fn in_memory(bytes: u64) -> Result<Self> {
        let memory = Path::new(SHARED_MEMORY);
        // Some systems have none, or let nobody write there.
        let created = free_bytes(memory).filter(|free| bytes < *free).and_then(|_| Self::create_in(memory).ok());
        created.map_or_else(Self::create, Ok)
    }

    fn create_in(parent: &Path) -> Result<Self> {
        loop {
            let path = parent.join(format!("perturbine-{}", unique()));
            match faults::before(Call::CreateFolder, &path).and_then(|()| fs::create_dir(&path)) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("create", path)(error)),
            }
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if let Err(error) = remove_all(&self.0) {
            tracing::warn!("could not remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).expect("the folder").count()
    }

    #[test]
    fn a_folder_that_is_not_committed_leaves_nothing_behind() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let staged = StagedFolder::create(&home.path().join("a.atlas")).expect("a folder");
        fs::write(staged.file("x"), b"x").expect("a file");
        drop(staged);
        assert_eq!(names(home.path()), 0);
    }

    #[test]
    fn what_a_killed_process_left_goes_with_the_next_try_and_what_is_alike_stays() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| home.path().join(name);
        for left in [".a.atlas.tmp-1", ".a.atlas.tmp-99-3"] {
            fs::create_dir(path(left)).expect("a folder");
            fs::write(path(left).join("matrix.bin"), b"half").expect("a file");
        }
        for mine in [".a.atlas.tmp-mine", ".a.atlas.tmp-", ".b.atlas.tmp-1", "a.atlas.tmp-1"] {
            fs::create_dir(path(mine)).expect("a folder");
        }
        StagedFolder::create(&path("a.atlas")).expect("a folder").commit().expect("a rename");
        assert_eq!(names(home.path()), 5);
        fs::write(path(".c.json.tmp-7"), b"half").expect("a file");
        write_atomically(&path("c.json"), b"whole").expect("a file");
        assert_eq!(names(home.path()), 6);
    }

    #[test]
    fn of_two_who_write_one_folder_the_second_is_refused() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let target = home.path().join("a.atlas");
        let first = StagedFolder::create(&target).expect("a folder");
        let message = StagedFolder::create(&target).expect_err("it is being written").to_string();
        assert!(message.contains("another process is writing") && message.contains("a.atlas"), "{message}");
        assert!(first.file("").exists(), "the first one is left alone");
        first.commit().expect("a rename");
        assert_eq!(names(home.path()), 1);
    }

    #[test]
    fn two_who_write_one_file_both_write_it_whole() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let target = home.path().join("a.json");
        let first = StagedFile::beside(&target).expect("a file");
        write_atomically(&target, b"second").expect("a file");
        fs::write(first.path(), b"first").expect("a file");
        assert_eq!(fs::read(&target).expect("the file"), b"second");
        first.commit().expect("a rename");
        assert_eq!(fs::read(&target).expect("the file"), b"first");
        assert_eq!(names(home.path()), 1);
    }
}
