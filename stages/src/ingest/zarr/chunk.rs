//! Finds the chunks of an array: which file each lies in, and those that were unpacked last.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use schemas::{Error, Result};

use super::{
    codecs::{Codecs, Decoded},
    metadata::Keys,
    shards::{ShardIndex, read_chunk},
};
use crate::{
    kept::{Held, Kept},
    place::Place,
};

/// Unpacked chunks that are kept, in bytes: rows that are read next may share a chunk with those before.
const KEPT_BYTES: u64 = 4 << 20;
/// As much is kept of very wide arrays at most, where one row needs many chunks.
const MOST_KEPT_BYTES: u64 = 96 << 20;
/// Shards whose index is kept.
const KEPT_SHARDS: usize = 8;
/// Files are never packed to more than this; what is larger must not make us allocate.
const MOST_FILE_BYTES: u64 = 1 << 31;

/// The chunks of an array of one or two dimensions.
#[derive(Debug)]
pub(super) struct Chunks {
    folder: PathBuf,
    place: Place,
    keys: Keys,
    codecs: Codecs,
    /// Chunks beside one another.
    pub(super) across: u64,
    kept: Kept<Option<Decoded>>,
    shards: Kept<Option<ShardIndex>>,
    has_warned: AtomicBool,
}

impl Chunks {
    /// The chunks of an array whose rows have so many columns.
    pub(super) fn new(folder: PathBuf, place: Place, keys: Keys, codecs: Codecs, columns: u64, bytes: u64) -> Self {
        let across = codecs.chunk.shape.get(1).map_or(1, |chunk| columns.div_ceil(*chunk).max(1));
        // A piece may end within a row of chunks, and the next piece is read beside it.
        let kept = bytes.saturating_mul(across.saturating_add(across / 2)).clamp(KEPT_BYTES, MOST_KEPT_BYTES);
        let most = usize::try_from((kept / bytes.max(1)).clamp(2, 1 << 16)).unwrap_or(2);
        Self {
            folder,
            place,
            keys,
            codecs,
            across,
            kept: Kept::new(most),
            shards: Kept::new(KEPT_SHARDS),
            has_warned: AtomicBool::new(false),
        }
    }

    /// Rows of each chunk.
    pub(super) fn rows(&self) -> u64 {
        self.codecs.chunk.shape.first().copied().unwrap_or(1)
    }

    /// Columns of each chunk.
    pub(super) fn columns(&self) -> u64 {
        self.codecs.chunk.shape.get(1).copied().unwrap_or(1)
    }

    /// The values of the chunk in a band of rows, and in a column of chunks; none if it was never written. Threads that want
    /// the same one wait for the first of them.
    ///
    /// # Errors
    /// A file that can't be read, or was not made by the array's codecs.
    pub(super) fn get(&self, band: u64, column: u64) -> Result<Held<Option<Decoded>>> {
        let index = band.checked_mul(self.across).and_then(|first| first.checked_add(column));
        let index = index.ok_or_else(|| Error::Bug("a chunk of more than 2^64".into()))?;
        let at = if self.codecs.chunk.shape.len() == 1 { vec![band] } else { vec![band, column] };
        self.kept.get(index, || self.read(&at))
    }

    /// The error that a chunk is lost.
    pub(super) fn lost(&self, band: u64, column: u64) -> Error {
        let at = if self.codecs.chunk.shape.len() == 1 { vec![band] } else { vec![band, column] };
        let file = self.file_of(&at).0;
        let hint = "copy the store again, all of its files; if a chunk of nothing but zeros was left out when it was \
                    written, write it with zarr.config.set({'array.write_empty_chunks': True})";
        self.place.error(format!("the chunk `{file}` is missing"), hint)
    }

    /// The file of a chunk, and its number there.
    fn file_of(&self, at: &[u64]) -> (String, usize) {
        let Some(shards) = &self.codecs.shards else { return (self.keys.path(at), 0) };
        let shard: Vec<u64> = at.iter().zip(&shards.chunks).map(|(at, chunks)| at / chunks).collect();
        let within = at.iter().zip(&shards.chunks).fold(0, |within, (at, chunks)| within * chunks + at % chunks);
        (self.keys.path(&shard), usize::try_from(within).unwrap_or(usize::MAX))
    }

    fn read(&self, at: &[u64]) -> Result<Option<Decoded>> {
        let (name, within) = self.file_of(at);
        let damaged = |what: String| {
            let hint = "the store may be damaged; restore this file from a copy, or write the store again";
            match &self.codecs.shards {
                None => self.place.error(format!("the chunk `{name}` {what}"), hint),
                Some(_) => self.place.error(format!("the chunk {at:?} in the shard `{name}` {what}"), hint),
            }
        };
        let path = self.folder.join(&name);
        let stored = match &self.codecs.shards {
            None => read_file(&path).map_err(damaged)?,
            Some(layout) => {
                let shard: Vec<u64> = at.iter().zip(&layout.chunks).map(|(at, chunks)| at / chunks).collect();
                let number = shard.iter().fold(0_u64, |number, at| number.wrapping_mul(1 << 32) ^ at);
                let index = self.shards.get(number, || match open(&path).map_err(damaged)? {
                    Some(file) => layout.index(&file).map(Some).map_err(damaged),
                    None => Ok(None),
                })?;
                match (&*index, open(&path).map_err(damaged)?) {
                    (Some(index), Some(file)) => read_chunk(&file, index, within).map_err(damaged)?,
                    _ => None,
                }
            }
        };
        match stored {
            Some(stored) => self.codecs.chunk.decode(stored).map(Some).map_err(damaged),
            None => {
                self.tell_missing(&name);
                Ok(None)
            }
        }
    }

    /// A chunk of nothing but the fill value may be left out. Where others are there, it may as well have been lost.
    fn tell_missing(&self, name: &str) {
        let mut members = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let is_data = |name: &str| !name.starts_with('.') && name != "zarr.json";
        let has_others = members.any(|member| is_data(&member.file_name().to_string_lossy()));
        if has_others && !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!("{}: the chunk `{name}` is not there and stands for the fill value", self.place);
        }
    }
}

fn open(path: &Path) -> std::result::Result<Option<File>, String> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("can't be read ({error})")),
    }
}

fn read_file(path: &Path) -> std::result::Result<Option<Vec<u8>>, String> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    let read = file.take(MOST_FILE_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| format!("can't be read ({error})"))?;
    Ok(Some(bytes))
}
