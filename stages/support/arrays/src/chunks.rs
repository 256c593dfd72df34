//! The chunks of a dataset: where each is in the file, and a cache of those that were unfiltered last.

use std::{fs::File, os::unix::fs::FileExt};

use schemas::{
    Result,
    atlas::{StoredChunk, StoredFilter},
    numbers::to_usize,
};
use stage::pool::{Pool, Pooled};

use super::{
    chunk_cache::{CachedChunk, ChunkCache},
    filters::{FilterWorkspace, Filters},
    place::ObjectPlace,
};

/// Size of the cache of unfiltered chunks, in bytes: the next rows often share a chunk with the previous
/// ones.
const KEPT_BYTES: u64 = 4 << 20;
/// Its largest size, for very wide datasets, in which one row spans many chunks.
const MOST_KEPT_BYTES: u64 = 96 << 20;
/// Larger chunks are left to libhdf5.
const MOST_CHUNK_BYTES: u64 = 1 << 30;

/// The chunks of an array: a grid of rows and columns.
#[derive(Debug)]
pub struct ChunkGrid {
    /// Rows per chunk.
    pub rows: u64,
    /// Columns per chunk.
    pub columns: u64,
    /// The filters, in the order in which they were applied.
    pub filters: Vec<StoredFilter>,
    /// The chunks, row by row of the grid.
    pub chunks: Vec<StoredChunk>,
}

/// The chunks of a dataset, in a grid of rows and columns.
#[derive(Debug)]
pub struct Chunks {
    /// Rows per chunk.
    pub rows: u64,
    /// Columns per chunk.
    pub columns: u64,
    /// Number of chunks side by side.
    pub across: u64,
    bytes: usize,
    entries: Vec<StoredChunk>,
    filters: Filters,
    kept: ChunkCache<Pooled<Vec<u8>>>,
    spare: Pool<Vec<u8>>,
    work: Pool<FilterWorkspace>,
}

impl Chunks {
    /// The chunks of an array with this many columns, of elements of this many bytes; `None` if they are too
    /// large, or compressed more than once.
    #[must_use]
    pub fn new(grid: ChunkGrid, columns: u64, element_bytes: usize) -> Option<Self> {
        let ChunkGrid { rows, columns: chunk_columns, filters, chunks: entries } = grid;
        let filters = Filters::new(filters, element_bytes)?;
        let bytes = rows.checked_mul(chunk_columns)?.checked_mul(element_bytes as u64)?;
        if bytes == 0 || bytes > MOST_CHUNK_BYTES {
            return None;
        }
        let across = columns.div_ceil(chunk_columns);
        // A row range may end within a row of chunks, and the next row range then starts in the same row.
        let kept = bytes.saturating_mul(across + across / 2).clamp(KEPT_BYTES, MOST_KEPT_BYTES);
        let most_kept = to_usize((kept / bytes).max(2));
        Some(Self {
            rows,
            columns: chunk_columns,
            across,
            bytes: to_usize(bytes),
            entries,
            filters,
            kept: ChunkCache::new(most_kept),
            spare: Pool::default(),
            work: Pool::default(),
        })
    }

    /// The chunks, row by row of the grid.
    #[must_use]
    pub fn entries(&self) -> &[StoredChunk] {
        &self.entries
    }

    /// The filters of the chunks.
    pub(super) fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Where the chunks are, if they are whole rows without filters: then parts of them can be read.
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
    /// A chunk that is outside the file or was not produced by the dataset's filters.
    pub fn get(&self, index: u64, file: &File, place: &ObjectPlace) -> Result<ChunkBytes> {
        self.kept.get(index, || self.unfilter(index, file, place)).map(ChunkBytes)
    }

    fn unfilter(&self, index: u64, file: &File, place: &ObjectPlace) -> Result<Pooled<Vec<u8>>> {
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
        let mut work = self.work.take(FilterWorkspace::default);
        work.stored.resize(to_usize(bytes), 0);
        file.read_exact_at(&mut work.stored, address).map_err(|error| damaged(&format!("can't be read ({error})")))?;
        let mut chunk = self.spare.take(Vec::new);
        self.filters.undo(left_out, &mut work, self.bytes, &mut chunk).map_err(damaged)?;
        Ok(chunk)
    }
}

/// The bytes of a chunk.
#[derive(Debug)]
pub struct ChunkBytes(CachedChunk<Pooled<Vec<u8>>>);

impl ChunkBytes {
    /// Row by row.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
