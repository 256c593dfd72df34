//! A shard of models: its files are written where they will stay, so that a later try goes on with them. Where a file system has no locks,
//! two tries at once would write the same files: there, each has a folder of its own, and the first to be complete counts.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use schemas::{Error, Result};
use storage::{
    disk::{
        FolderLock, can_be_locked, checksum_of, create_folders, files_below, refuse_existing, rename, sync_folder,
        write_atomically,
    },
    sealed::sealed,
};

use super::{
    Published, PublishedFile,
    portable::{PortableShard, RECORD},
    shard_plan::{Shard, ShardPlan, ShardRecord},
    shards::{ShardFolder, remove_unlisted},
};

/// A shard whose files stay if it is dropped without [`ResumableShard::finish`].
#[derive(Debug)]
pub struct ResumableShard {
    place: ResumablePlace,
    plan: ShardPlan,
    shard: Shard,
}

#[derive(Debug)]
enum ResumablePlace {
    /// Beside the output, with other shards.
    Beside(ShardFolder),
    /// The same where nothing can be locked.
    Alone(ShardFolder),
    /// A hidden folder that becomes a portable shard.
    Hidden { work: PathBuf, target: PathBuf, _lock: FolderLock },
    /// The same where nothing can be locked.
    HiddenAlone(PortableShard),
}

impl ResumableShard {
    /// Starts or continues a shard of the folder `target`, or, if it is `portable`, one that becomes the folder `target`.
    ///
    /// # Errors
    /// A target that exists or that another process is writing, complete shards of another plan, or a folder that can't be created.
    pub fn create(target: &Path, plan: &ShardPlan, shard: Shard, portable: bool) -> Result<Self> {
        let place = if portable {
            let alone = PortableShard::create(target, plan, shard)?;
            if !alone.is_locked() {
                return Ok(Self { place: ResumablePlace::HiddenAlone(alone), plan: plan.clone(), shard });
            }
            drop(alone);
            let name = target.file_name().unwrap_or_default().to_string_lossy();
            let work = target.with_file_name(format!(".{name}.unfinished"));
            create_folders(&work)?;
            ResumablePlace::Hidden { target: target.to_path_buf(), _lock: FolderLock::take(&work)?, work }
        } else {
            let shard = ShardFolder::create(target, plan, shard)?;
            match can_be_locked(shard.writing())? {
                true => ResumablePlace::Beside(shard),
                false => ResumablePlace::Alone(shard),
            }
        };
        Ok(Self { place, plan: plan.clone(), shard })
    }

    /// Where to write.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        match &self.place {
            ResumablePlace::Beside(shard) => shard.data(),
            ResumablePlace::Alone(shard) => shard.writing().to_path_buf(),
            ResumablePlace::Hidden { work, .. } => work.clone(),
            ResumablePlace::HiddenAlone(shard) => shard.folder().to_path_buf(),
        }
    }

    /// Records that the shard is complete, with these files of its folder, and all in these folders.
    ///
    /// # Errors
    /// A file that can't be read, a target that exists by now, or a broken disk.
    pub fn finish(self, names: &[PathBuf]) -> Result<Published> {
        if let ResumablePlace::Alone(shard) = &self.place {
            for name in names {
                take_over(&shard.writing().join(name), &shard.data().join(name))?;
            }
        }
        let folder = match &self.place {
            ResumablePlace::Alone(shard) => shard.data(),
            _ => self.folder(),
        };
        let published = Published::new(&self.plan.plan, files_of(&folder, names)?);
        let listed: BTreeSet<&Path> = published.files.iter().map(|file| Path::new(&file.name)).collect();
        match self.place {
            ResumablePlace::Beside(shard) | ResumablePlace::Alone(shard) => shard.finish(&published)?,
            ResumablePlace::HiddenAlone(shard) => {
                remove_unlisted(shard.folder(), shard.folder(), &listed)?;
                shard.finish(&published)?;
            }
            ResumablePlace::Hidden { work, target, _lock } => {
                remove_unlisted(&work, &work, &listed)?;
                let record = ShardRecord { shard: self.shard, plan: self.plan, files: published.files.clone() };
                write_atomically(&work.join(RECORD), &sealed(&record)?)?;
                refuse_existing(&target)?;
                rename(&work, &target)?;
                sync_folder(target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
            }
        }
        Ok(published)
    }
}

/// Moves a file or folder to its place, unless another try was first: that is whole, too, as it was moved there.
fn take_over(from: &Path, to: &Path) -> Result<()> {
    create_folders(to.parent().unwrap_or(Path::new(".")))?;
    match rename(from, to) {
        Err(_) if to.is_dir() => Ok(()),
        renamed => renamed,
    }
}

/// The files of these names, and all in the folders of these names, by their places in a folder.
fn files_of(folder: &Path, names: &[PathBuf]) -> Result<Vec<PublishedFile>> {
    let mut files = Vec::new();
    for path in names.iter().map(|name| folder.join(name)) {
        let found = if path.is_dir() { files_below(&path)? } else { vec![path] };
        for file in found.iter().filter(|file| !is_hidden(file)) {
            let entry = checksum_of(file)?;
            let name = file.strip_prefix(folder).map_err(|error| Error::Bug(error.to_string()))?;
            let name = name.to_string_lossy().into_owned();
            files.push(PublishedFile { name, rows: 0, bytes: entry.bytes, checksum: entry.checksum });
        }
    }
    Ok(files)
}

/// Whether a file's name begins with a dot, as those of locks and of files in the making do.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}
