//! The chunks of a dataset: where each lies in the file, and those that were unfiltered last.

use std::{fs::File, os::unix::fs::FileExt};

use hdf5_metno::{Dataset, plist::dataset_create::ChunkOpts};
use schemas::{Result, atlas::StoredChunk, numbers::to_usize};

use super::{
    Place,
    filters::{Filters, Workspace},
};
use crate::{
    kept::{Held, Kept},
    recycle::{Pool, Pooled},
};

/// Unfiltered chunks that are kept, in bytes: rows that are read next may share a chunk with those before.
const KEPT_BYTES: u64 = 4 << 20;
/// As much is kept of very wide datasets at most, where one row needs many chunks.
const MOST_KEPT_BYTES: u64 = 96 << 20;
/// Larger chunks are left to libhdf5.
const MOST_CHUNK_BYTES: u64 = 1 << 30;
/// More chunks than this are left to libhdf5, so that no file can make a large table.
const MOST_CHUNKS: u64 = 1 << 24;

/// The chunks of a dataset, in a grid of rows and columns.
#[derive(Debug)]
pub(super) struct Chunks {
    /// Rows and columns of each chunk.
    pub(super) rows: u64,
    pub(super) columns: u64,
    /// Chunks next to one another.
    pub(super) across: u64,
    bytes: usize,
    entries: Vec<StoredChunk>,
    filters: Filters,
    kept: Kept<Pooled<Vec<u8>>>,
    spare: Pool<Vec<u8>>,
    work: Pool<Workspace>,
}

impl Chunks {
    /// Asks libhdf5 where the chunks of a dataset are; none if they can't be read without it, or some were never written.
    pub(super) fn open(dataset: &Dataset, rows: u64, columns: u64, element_bytes: usize) -> Option<Self> {
        let (chunk_rows, chunk_columns) = match *dataset.chunk()?.as_slice() {
            [rows] => (rows as u64, 1),
            [rows, columns] => (rows as u64, columns as u64),
            _ => return None,
        };
        let properties = dataset.create_plist().ok()?;
        if properties.chunk_opts().is_some_and(|options| options.contains(ChunkOpts::DONT_FILTER_PARTIAL_CHUNKS)) {
            return None;
        }
        let filters = Filters::of_dataset(&dataset.filters(), element_bytes)?;
        if chunk_rows == 0 || chunk_columns == 0 {
            return None;
        }
        let across = columns.div_ceil(chunk_columns);
        let count = across.checked_mul(rows.div_ceil(chunk_rows))?;
        if MOST_CHUNKS < count || dataset.num_chunks()? as u64 != count {
            return None;
        }
        let mut entries: Vec<Option<StoredChunk>> = vec![None; to_usize(count)];
        let visited = dataset.chunks_visit(|chunk| {
            let (row, column) = match *chunk.offset {
                [row] => (row, 0),
                [row, column] => (row, column),
                _ => return -1,
            };
            let place = row / chunk_rows * across + column / chunk_columns;
            if let Some(entry) = entries.get_mut(to_usize(place)) {
                *entry =
                    Some(StoredChunk { address: chunk.addr, bytes: chunk.size, left_out: chunk.filter_mask.into() });
            }
            0
        });
        visited.ok()?;
        let entries = entries.into_iter().collect::<Option<Vec<_>>>()?;
        Self::new([columns, chunk_rows, chunk_columns], element_bytes, filters, entries)
    }

    /// The chunks of an array with this many columns, in chunks of this many rows and columns; none of chunks that are too large.
    pub(super) fn new(
        [columns, rows, chunk_columns]: [u64; 3],
        element_bytes: usize,
        filters: Filters,
        entries: Vec<StoredChunk>,
    ) -> Option<Self> {
        let bytes = rows.checked_mul(chunk_columns)?.checked_mul(element_bytes as u64)?;
        if bytes == 0 || MOST_CHUNK_BYTES < bytes {
            return None;
        }
        let across = columns.div_ceil(chunk_columns);
        // A piece may end within a row of chunks, and the next piece is read next to it.
        let kept = bytes.saturating_mul(across + across / 2).clamp(KEPT_BYTES, MOST_KEPT_BYTES);
        let most_kept = to_usize((kept / bytes).max(2));
        Some(Self {
            rows,
            columns: chunk_columns,
            across,
            bytes: to_usize(bytes),
            entries,
            filters,
            kept: Kept::new(most_kept),
            spare: Pool::default(),
            work: Pool::default(),
        })
    }

    /// Each chunk, row by row of the grid.
    pub(super) fn entries(&self) -> &[StoredChunk] {
        &self.entries
    }

    /// The filters of the chunks.
    pub(super) fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Where the chunks lie, if they are whole rows without filters: then parts of them can be read.
    pub(super) fn plain_addresses(&self) -> Option<Vec<u64>> {
        let whole = |entry: &StoredChunk| {
            let is_whole = entry.bytes == self.bytes as u64 && entry.address.checked_add(entry.bytes).is_some();
            is_whole.then_some(entry.address)
        };
        match self.across == 1 && self.filters.steps().is_empty() {
            true => self.entries.iter().map(whole).collect(),
            false => None,
        }
    }

    /// A chunk's bytes, row by row. Threads that want the same one wait for the first of them.
    ///
    /// # Errors
    /// A chunk that lies outside the file or was not made by the dataset's filters.
    pub(super) fn get(&self, index: u64, file: &File, place: &Place) -> Result<Chunk> {
        self.kept.get(index, || self.unfilter(index, file, place)).map(Chunk)
    }

    fn unfilter(&self, index: u64, file: &File, place: &Place) -> Result<Pooled<Vec<u8>>> {
        let damaged = |what: &str| {
            let hint = "the file may be damaged or cut short; restore it from a copy, or write it again";
            place.error(format!("chunk {index} {what}"), hint)
        };
        let entry = self.entries.get(to_usize(index));
        let StoredChunk { address, bytes, left_out } = *entry.ok_or_else(|| damaged("is not there"))?;
        let length = file.metadata().map_err(|error| damaged(&format!("can't be read ({error})")))?.len();
        if address.checked_add(bytes).is_none_or(|end| length < end) {
            return Err(damaged("is beyond the end of the file"));
        }
        let mut work = self.work.take(Workspace::default);
        work.stored.resize(to_usize(bytes), 0);
        file.read_exact_at(&mut work.stored, address).map_err(|error| damaged(&format!("can't be read ({error})")))?;
        let mut chunk = self.spare.take(Vec::new);
        self.filters.undo(left_out, &mut work, self.bytes, &mut chunk).map_err(damaged)?;
        Ok(chunk)
    }
}

/// The bytes of a chunk.
pub(super) struct Chunk(Held<Pooled<Vec<u8>>>);

impl Chunk {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
