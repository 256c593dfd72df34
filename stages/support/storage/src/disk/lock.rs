//! Locks on files and folders being written; they end with their process.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use schemas::{Error, Result};

use super::{
    call::Call,
    faults,
    folders::{create_folders, parent_of, remove_all, unique},
};
use crate::output_name::output_of;

/// Separates the target's name from the writer's number in a hidden name.
pub(super) const MARK: &str = ".tmp-";

/// The result of trying to lock a file or folder; a lock is held as long as this value exists.
#[derive(Debug)]
pub(super) enum Lock {
    /// This value holds the lock.
    Taken { _held: File },
    /// Another process, or another part of this one, holds it.
    Anothers,
    /// Nobody holds it: the file system has no locks, the file is gone, or the lock was released.
    Nobodys,
}

impl Lock {
    /// Tries to lock, without waiting.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let Ok(file) = File::open(path) else { return Ok(Self::Nobodys) };
        match lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self::Taken { _held: file }),
            Err(Errno::WOULDBLOCK) => Ok(Self::Anothers),
            Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK | Errno::INVAL | Errno::BADF) => Ok(Self::Nobodys),
            Err(error) => Err(Error::io("lock", path)(error.into())),
        }
    }
}

/// Locks a file, which not all file systems can.
fn lock(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    if faults::has_locks() { flock(file, operation) } else { Err(Errno::NOLCK) }
}

/// Whether a folder that nobody else knows can be locked: on some network file systems nothing can.
///
/// # Errors
/// A broken disk.
pub fn can_be_locked(folder: &Path) -> Result<bool> {
    Ok(matches!(Lock::take(folder)?, Lock::Taken { .. }))
}

/// Prevents others from writing to a folder, as long as this value exists.
#[derive(Debug)]
pub struct FolderLock {
    _lock: Lock,
}

impl FolderLock {
    /// Locks a folder. On a file system without locks, nobody is prevented from writing.
    ///
    /// # Errors
    /// Another process that holds the lock.
    pub fn take(folder: &Path) -> Result<Self> {
        match Lock::take(folder)? {
            Lock::Anothers => Err(Error::Busy { path: output_of(folder) }),
            lock => Ok(Self { _lock: lock }),
        }
    }

    /// Locks a folder once nobody else holds its lock: for work of milliseconds.
    ///
    /// # Errors
    /// A folder that does not exist, or a broken disk.
    pub fn wait(folder: &Path) -> Result<Self> {
        let file = File::open(folder).map_err(Error::io("open", folder))?;
        loop {
            match lock(&file, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                // A file system without locks keeps nobody out.
                taken => return Ok(Self { _lock: taken.map_or(Lock::Nobodys, |()| Lock::Taken { _held: file }) }),
            }
        }
    }
}

/// A lock on a name, whether something has that name or not: a hidden file next to it, which is removed with
/// this value.
#[derive(Debug)]
pub struct PathLock {
    /// `None` if nothing can be written next to the name, or if the file system has no locks: then nobody is kept
    /// out.
    held: Option<(File, PathBuf)>,
}

impl PathLock {
    /// Tries to lock a name, without waiting; `None` if another process, or another part of this one, holds the
    /// lock.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn try_take(target: &Path) -> Result<Option<Self>> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = parent_of(target).join(format!(".{name}.lock"));
        loop {
            // A file of another user's may be one to read only, which is enough for a lock.
            let open = || {
                let opened = File::options().create(true).append(true).open(&path);
                opened.or_else(|error| File::open(&path).map_err(|_| error))
            };
            let file = match faults::before(Call::Create, &path).and_then(|()| open()) {
                Ok(file) => file,
                Err(error) if is_refused(error.kind()) => return Ok(Some(Self { held: None })),
                Err(error) => return Err(Error::io("create", path)(error)),
            };
            match lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(_) => return Ok(Some(Self { held: None })),
            }
            // The previous owner may have removed the file since it was opened, and another file may have its name by
            // now.
            let is_there = file.metadata().ok().zip(path.metadata().ok());
            if is_there.is_some_and(|(ours, there)| (ours.dev(), ours.ino()) == (there.dev(), there.ino())) {
                return Ok(Some(Self { held: Some((file, path)) }));
            }
        }
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        // This happens before the lock is released, so that nobody locks a file without a name.
        if let Some((_file, path)) = &self.held
            && let Err(error) = remove_all(path)
        {
            tracing::debug!("could not remove the lock {}: {error}", path.display());
        }
    }
}

fn is_refused(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(kind, PermissionDenied | ReadOnlyFilesystem | NotFound)
}

/// A hidden name next to a target that nobody uses; leftovers of killed processes are found by it.
pub(super) fn hidden_sibling(target: &Path) -> Result<PathBuf> {
    let name = target.file_name().ok_or_else(|| {
        Error::usage(format!("`{}` does not name a file", target.display()), "give a path that ends in a name")
    })?;
    let parent = parent_of(target);
    create_folders(parent)?;
    loop {
        let path = parent.join(format!(".{}{}{}", name.to_string_lossy(), MARK, unique()));
        // A killed process may have had the same process id.
        if path.symlink_metadata().is_err() {
            return Ok(path);
        }
    }
}

/// Removes leftovers of killed processes for `target`; returns whether a writer other than that of `own` is
/// still at work.
pub(super) fn clear_leftovers(target: &Path, own: &Path) -> Result<bool> {
    let mut at_work = !own.exists();
    for other in leftovers(target)?.into_iter().filter(|other| other != own) {
        match Lock::take(&other)? {
            Lock::Anothers => at_work = true,
            // It is gone in the meantime, or belongs to another user and can't be opened.
            Lock::Nobodys => {}
            Lock::Taken { .. } => match remove_all(&other) {
                // Another process has removed it.
                Err(Error::Missing { .. }) => {}
                // It belongs to another user, in a shared folder, and does no harm.
                Err(Error::Io { source, .. }) if is_refused(source.kind()) => {
                    tracing::debug!("{} is left where it is: {source}", other.display());
                }
                removed => removed?,
            },
        }
    }
    Ok(at_work)
}

/// Files and folders next to `target` that are or were being written, to become it.
fn leftovers(target: &Path) -> Result<Vec<PathBuf>> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let parent = parent_of(target);
    let of_target = |hidden: &String| hidden.rsplit_once(MARK).is_some_and(|(start, _)| start[1..] == *name);
    Ok(hidden_names(parent)?.into_iter().filter(of_target).map(|hidden| parent.join(hidden)).collect())
}

/// Hidden names in a folder that are or were being written to.
pub(super) fn hidden_names(folder: &Path) -> Result<Vec<String>> {
    let is_hidden = |name: &String| {
        let number = name.strip_prefix('.').and_then(|name| Some(name.rsplit_once(MARK)?.1));
        number.is_some_and(|number| {
            number.starts_with(|first: char| first.is_ascii_digit())
                && number.chars().all(|sign| sign.is_ascii_digit() || sign == '-')
        })
    };
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
    let names = read().map_err(Error::io("read", folder))?.into_iter().filter_map(|name| name.into_string().ok());
    Ok(names.filter(is_hidden).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_of_a_name_is_had_by_one_and_leaves_nothing_behind() {
        let home = tempfile::tempdir().expect("a folder");
        let target = home.path().join("s.atlas");
        for _ in 0..2 {
            let first = PathLock::try_take(&target).expect("a lock");
            assert!(first.is_some() && PathLock::try_take(&target).expect("no fault").is_none());
            drop(first);
            assert_eq!(fs::read_dir(home.path()).expect("the folder").count(), 0);
        }
    }

    #[test]
    fn a_name_that_another_user_locks_is_locked() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().expect("a folder");
        let target = home.path().join("s.atlas");
        let _held = PathLock::try_take(&target).expect("a lock").expect("nobody has it");
        // To all but root, this is as if the file were another user's.
        let file = home.path().join(".s.atlas.lock");
        fs::set_permissions(file, fs::Permissions::from_mode(0o444)).expect("our own file");
        assert!(PathLock::try_take(&target).expect("no fault").is_none());
    }
}
