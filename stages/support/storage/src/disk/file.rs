//! Files for writing: [`super::faults`] is notified before every call.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, fallocate, fstatvfs},
    io::Errno,
};
use schemas::{Error, Result, atlas::FileEntry};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{call::Call, faults};

/// A file for writing.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    path: PathBuf,
    written: u64,
}

impl DiskFile {
    /// Creates or empties the file.
    ///
    /// # Errors
    /// A file that can't be created.
    pub fn create(path: &Path) -> Result<Self> {
        Self::open(path, File::options().read(true).write(true).create(true).truncate(true))
    }

    /// Creates a file that does not exist yet.
    ///
    /// # Errors
    /// A file that can't be created.
    pub fn create_new(path: &Path) -> Result<Self> {
        Self::open(path, File::options().read(true).write(true).create_new(true))
    }

    /// Opens or creates the file for appending.
    ///
    /// # Errors
    /// A file that can't be opened.
    pub fn append_to(path: &Path) -> Result<Self> {
        Self::open(path, File::options().create(true).append(true))
    }

    fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        let opened = faults::before(Call::Create, path).and_then(|()| options.open(path));
        Ok(Self { file: opened.map_err(Error::io("create", path))?, path: path.to_path_buf(), written: 0 })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, for reading.
    pub fn as_file(&self) -> &File {
        &self.file
    }

    /// Allocates this many bytes, filled with 0, so that writing there later can't fail for lack of space.
    ///
    /// # Errors
    /// A disk without that much space.
    pub fn allocate(&mut self, bytes: u64) -> io::Result<()> {
        faults::before(Call::Allocate, &self.path)?;
        self.file.set_len(bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                io::copy(&mut io::Read::take(io::repeat(0), bytes), &mut self.file).map(drop)
            }
            taken => taken.map_err(|error| self.with_needed_room(error.into(), bytes)),
        }
    }

    /// Writes all bytes at a position of the file.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn write_all_at(&mut self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let file = &self.file;
            match faults::write(&self.path, bytes, |bytes| file.write_at(bytes, offset)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.written += written as u64;
                    offset += written as u64;
                    bytes = &bytes[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.with_needed_room(error, bytes.len() as u64)),
            }
        }
        Ok(())
    }

    /// Syncs everything.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn sync(&self) -> Result<()> {
        faults::before(Call::Sync, &self.path)
            .and_then(|()| self.file.sync_all())
            .map_err(|error| Error::io("write", &self.path)(self.with_needed_room(error, 0)))
    }

    /// Adds the size of the write and the free space to an error of a full disk.
    fn with_needed_room(&self, error: io::Error, needed: u64) -> io::Error {
        if error.kind() != io::ErrorKind::StorageFull {
            return error;
        }
        let free = fstatvfs(&self.file).map_or(0, |disk| disk.f_bavail * disk.f_frsize);
        let written = self.written;
        io::Error::new(
            error.kind(),
            format!("no space left: {needed} more bytes were to be written after {written}, but {free} are free"),
        )
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = &mut self.file;
        match faults::write(&self.path, bytes, |bytes| file.write(bytes)) {
            Ok(written) => {
                self.written += written as u64;
                Ok(written)
            }
            Err(error) => Err(self.with_needed_room(error, bytes.len() as u64)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is hashed while it is written.
pub struct HashedFile {
    writer: io::BufWriter<DiskFile>,
    hash: Xxh3,
    bytes: u64,
}

impl std::fmt::Debug for HashedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashedFile")
            .field("path", &self.writer.get_ref().path())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl HashedFile {
    /// Creates the file.
    ///
    /// # Errors
    /// A file that can't be created.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self { writer: io::BufWriter::with_capacity(1 << 20, DiskFile::create(path)?), hash: Xxh3::new(), bytes: 0 })
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.writer.write_all(bytes).map_err(Error::io("write", self.writer.get_ref().path()))
    }

    /// Syncs everything to the disk.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn finish(mut self) -> Result<FileEntry> {
        self.sync()
    }

    /// The same, for a file owned by another writer.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn sync(&mut self) -> Result<FileEntry> {
        self.writer.flush().map_err(Error::io("write", self.writer.get_ref().path()))?;
        self.writer.get_ref().sync()?;
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

/// A checksum as hexadecimal text.
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
    checksum_of_file(&File::open(path).map_err(Error::io("open", path))?, path)
}

/// XXH3-64 of the bytes of an open file at `path`.
///
/// # Errors
/// A file that can't be read.
pub fn checksum_of_file(file: &File, path: &Path) -> Result<FileEntry> {
    let mut hash = Xxh3::new();
    let bytes = add_to_hash(&mut hash, file).map_err(Error::io("read", path))?;
    Ok(FileEntry { bytes, checksum: Some(hex(hash.digest())) })
}

/// Adds all bytes of a reader to a hash, and returns their number.
pub(crate) fn add_to_hash(hash: &mut Xxh3, mut reader: impl io::Read) -> io::Result<u64> {
    let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(read) => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_errors_with_the_bytes_that_were_wanted() {
        let mut file = HashedFile::create(Path::new("/dev/full")).expect("the device");
        let error = file.append(&[0; 2 << 20]).expect_err("nothing fits on a full device");
        assert_eq!(error.exit_code(), schemas::error::ExitCode::NoSpace);
        let cause = std::error::Error::source(&error).expect("what the system said").to_string();
        assert!(cause.contains("2097152 more bytes") && error.to_string().contains("/dev/full"), "{error}: {cause}");
    }
}
