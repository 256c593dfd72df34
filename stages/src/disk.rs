//! Files that are whole or not there: written under a hidden name, made visible by rename.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use schemas::{Error, Result, atlas::FileEntry};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// A folder in the making; dropped without [`StagedFolder::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct StagedFolder {
    staged: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl StagedFolder {
    /// Starts a folder that will become `target`.
    ///
    /// # Errors
    /// A target that exists, or a parent that can't be written to.
    pub fn create(target: &Path) -> Result<Self> {
        if target.exists() {
            let hint = format!("remove {} first, or choose another name", target.display());
            return Err(Error::usage(format!("{} exists already", target.display()), hint));
        }
        let staged = hidden_sibling(target)?;
        // A process that was killed may have left a folder under the number that is now ours.
        if staged.exists() {
            fs::remove_dir_all(&staged).map_err(Error::io("remove", &staged))?;
        }
        fs::create_dir(&staged).map_err(Error::io("create", &staged))?;
        Ok(Self { staged, target: target.to_path_buf(), committed: false })
    }

    /// Where to write a file of the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.staged.join(name)
    }

    /// Makes the folder visible under its name.
    ///
    /// # Errors
    /// A rename that fails; nothing is visible then.
    pub fn commit(mut self) -> Result<()> {
        sync_folder(&self.staged)?;
        fs::rename(&self.staged, &self.target).map_err(Error::io("create", &self.target))?;
        self.committed = true;
        sync_folder(parent_of(&self.target))
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = fs::remove_dir_all(&self.staged)
        {
            tracing::warn!("could not remove {}: {error}", self.staged.display());
        }
    }
}

/// Writes a small file so that readers see the old one or the new one, whole.
///
/// # Errors
/// A file that can't be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let staged = StagedFile::beside(path)?;
    let mut file = File::create(staged.path()).map_err(Error::io("create", path))?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    staged.commit()
}

/// A hidden name for a file in the making; dropped without [`StagedFile::commit`], the file is removed.
#[derive(Debug)]
pub struct StagedFile {
    staged: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl StagedFile {
    /// A hidden name beside `target`, which it will become or replace.
    ///
    /// # Errors
    /// A parent that can't be created.
    pub fn beside(target: &Path) -> Result<Self> {
        Ok(Self { staged: hidden_sibling(target)?, target: target.to_path_buf(), committed: false })
    }

    /// Where to write the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.staged
    }

    /// Brings the file to the disk and makes it visible under its name.
    ///
    /// # Errors
    /// Bytes that did not reach the disk, or a rename that fails; nothing is visible then.
    pub fn commit(mut self) -> Result<()> {
        File::open(&self.staged).and_then(|file| file.sync_all()).map_err(Error::io("write", &self.target))?;
        fs::rename(&self.staged, &self.target).map_err(Error::io("create", &self.target))?;
        self.committed = true;
        sync_folder(parent_of(&self.target))
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.committed
            && self.staged.exists()
            && let Err(error) = fs::remove_file(&self.staged)
        {
            tracing::warn!("could not remove {}: {error}", self.staged.display());
        }
    }
}

/// A folder for files that nobody is to keep; it goes with its last owner.
#[derive(Debug)]
pub struct ScratchFolder(PathBuf);

impl ScratchFolder {
    /// A new, empty folder among the system's temporary ones.
    ///
    /// # Errors
    /// A folder that can't be created.
    pub fn create() -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let parent = std::env::temp_dir();
        loop {
            let name = format!("perturbine-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = parent.join(name);
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("create", path)(error)),
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("could not remove {}: {error}", self.0.display());
        }
    }
}

/// A file that is hashed while it is written.
pub struct HashedFile {
    writer: io::BufWriter<File>,
    hash: Xxh3,
    bytes: u64,
    path: PathBuf,
}

impl std::fmt::Debug for HashedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashedFile").field("path", &self.path).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl HashedFile {
    /// Creates the file.
    ///
    /// # Errors
    /// A file that can't be created.
    pub fn create(path: PathBuf) -> Result<Self> {
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        Ok(Self { writer: io::BufWriter::with_capacity(1 << 20, file), hash: Xxh3::new(), bytes: 0, path })
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// A disk that is full or broken.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.writer.write_all(bytes).map_err(Error::io("write", &self.path))
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    /// A disk that is full or broken.
    pub fn finish(mut self) -> Result<FileEntry> {
        self.writer.flush().map_err(Error::io("write", &self.path))?;
        self.writer.get_ref().sync_all().map_err(Error::io("write", &self.path))?;
        Ok(FileEntry { bytes: self.bytes, checksum: Some(hex(self.hash.digest())) })
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A checksum as text.
#[must_use]
pub fn hex(checksum: u64) -> String {
    format!("{checksum:016x}")
}

/// XXH3-64 of a text.
#[must_use]
pub fn checksum_of_text(text: &str) -> String {
    hex(xxh3_64(text.as_bytes()))
}

/// XXH3-64 of a file's bytes.
///
/// # Errors
/// A file that can't be read.
pub fn checksum_of(path: &Path) -> Result<FileEntry> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let (mut hash, mut bytes) = (Xxh3::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = io::Read::read(&mut file, &mut buffer).map_err(Error::io("read", path))?;
        if read == 0 {
            return Ok(FileEntry { bytes, checksum: Some(hex(hash.digest())) });
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

fn hidden_sibling(target: &Path) -> Result<PathBuf> {
    let name = target.file_name().ok_or_else(|| {
        Error::usage(format!("`{}` names no file", target.display()), "give a path that ends in a name")
    })?;
    let parent = parent_of(target);
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    Ok(parent.join(format!(".{}.tmp-{}", name.to_string_lossy(), std::process::id())))
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_committed_leaves_nothing_behind() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let staged = StagedFolder::create(&home.path().join("a.atlas")).expect("a folder");
        fs::write(staged.file("x"), b"x").expect("a file");
        drop(staged);
        assert_eq!(fs::read_dir(home.path()).expect("the folder").count(), 0);
    }

    #[test]
    fn a_full_disk_is_told_from_other_errors() {
        let full = Path::new("/dev/full");
        let file = File::options().write(true).open(full).expect("the device");
        let mut hashed = HashedFile {
            writer: io::BufWriter::with_capacity(4, file),
            hash: Xxh3::new(),
            bytes: 0,
            path: full.into(),
        };
        let error = hashed.append(&[0; 64]).expect_err("nothing fits on a full device");
        assert_eq!(error.exit_code(), schemas::error::ExitCode::NoSpace);
    }
}
