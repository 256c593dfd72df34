//! Renames complete files and folders: over an existing one, or only to a name that is not in use.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use schemas::{Error, Result};

use super::{
    faults,
    folders::{parent_of, remove_all, sync_folder},
    lock::{self, hidden_sibling},
};
use crate::output_name::output_of;

/// Renames a file or folder.
///
/// # Errors
/// A rename that fails.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    faults::before_rename(from, to).and_then(|()| fs::rename(from, to)).map_err(Error::io("create", to))
}

/// Renames a file to a name that is not in use, even if another process is about to take it.
pub(super) fn rename_to_new(from: &Path, to: &Path) -> Result<()> {
    faults::before_rename(from, to).map_err(Error::io("create", to))?;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(already_exists(to)),
        // The file system has no such call.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if to.symlink_metadata().is_ok() => Err(already_exists(to)),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(from, to).map_err(Error::io("create", to)),
        Err(error) => Err(Error::io("create", to)(error.into())),
    }
}

/// Refuses a name that is in use.
///
/// # Errors
/// A file or folder of that name.
pub fn refuse_existing(target: &Path) -> Result<()> {
    if target.exists() { Err(already_exists(target)) } else { Ok(()) }
}

fn already_exists(target: &Path) -> Error {
    // A replacement is there only while another process writes it.
    let output = output_of(target);
    if output != target {
        return Error::Busy { path: output };
    }
    Error::usage(
        format!("{} already exists", target.display()),
        format!("remove {} first, or choose another name", target.display()),
    )
}

/// Puts a folder in the place of another one, if there is one. If the process is killed, the old folder keeps
/// the name or, only between two renames, neither has it; the new folder is always whole under one of its two
/// names.
///
/// # Errors
/// A rename that fails; then the old folder has its name.
pub fn replace_folder(new: &Path, target: &Path) -> Result<()> {
    let old = hidden_sibling(target)?;
    let is_replaced = target.exists();
    if is_replaced {
        rename(target, &old)?;
    }
    if let Err(error) = rename(new, target) {
        if is_replaced {
            rename(&old, target)?;
        }
        return Err(error);
    }
    sync_folder(parent_of(target))?;
    if is_replaced { remove_all(&old) } else { Ok(()) }
}

/// Removes a folder such that its name is gone at once: a killed process never leaves a part of it under that
/// name.
///
/// # Errors
/// A file that can't be removed.
pub fn discard(folder: &Path) -> Result<()> {
    let hidden = hidden_sibling(folder)?;
    rename(folder, &hidden)?;
    remove_all(&hidden)
}

/// Removes the leftovers of killed processes under hidden names in a folder that nobody else writes to.
///
/// # Errors
/// A file that can't be removed.
pub fn remove_leftovers(folder: &Path) -> Result<()> {
    for name in lock::hidden_names(folder)? {
        remove_all(&folder.join(name))?;
    }
    Ok(())
}

/// Removes leftovers of killed processes next to a name: files or folders that would have become it, or that
/// it replaced.
///
/// # Errors
/// A file that can't be removed.
pub fn remove_leftovers_of(target: &Path) -> Result<()> {
    lock::clear_leftovers(target, &PathBuf::new()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{StagedFile, write_new};

    #[test]
    fn of_two_new_files_of_one_name_the_second_is_refused() {
        let home = tempfile::tempdir().expect("a folder");
        let target = home.path().join("p.parquet");
        let first = StagedFile::create(&target).expect("a file");
        let refused = StagedFile::create(&target).expect_err("it is being written").to_string();
        assert!(refused.contains("another process is writing"), "{refused}");
        first.commit().expect("a rename");
        let refused = StagedFile::create(&target).expect_err("it is there").to_string();
        assert!(refused.contains("already exists"), "{refused}");
    }

    #[test]
    fn a_new_file_does_not_replace_one_that_came_to_be_meanwhile() {
        let home = tempfile::tempdir().expect("a folder");
        let target = home.path().join("p.parquet");
        let staged = StagedFile::create(&target).expect("a file");
        fs::write(&target, "of the user").expect("a file");
        assert!(staged.commit().expect_err("it is there").to_string().contains("already exists"));
        assert_eq!(fs::read(&target).expect("the file"), b"of the user");
        assert_eq!(fs::read_dir(home.path()).expect("the folder").count(), 1, "nothing is left behind");
        assert!(write_new(&target, b"").is_err());
    }

    #[test]
    fn a_folder_that_can_not_be_replaced_keeps_its_name() {
        let home = tempfile::tempdir().expect("a folder");
        let target = home.path().join("s.atlas");
        fs::create_dir(&target).expect("a folder");
        assert!(replace_folder(&home.path().join("nowhere"), &target).is_err());
        assert!(target.is_dir());
        let new = home.path().join("new");
        fs::create_dir_all(new.join("inside")).expect("a folder");
        replace_folder(&new, &target).expect("two renames");
        assert!(target.join("inside").is_dir() && !new.exists());
        assert_eq!(fs::read_dir(home.path()).expect("the folder").count(), 1, "nothing is left behind");
    }
}
