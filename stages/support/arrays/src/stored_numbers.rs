//! Arrays of numbers read from known addresses of a file, on any number of threads.
//!
//! libhdf5 does everything under one lock. Once it is known where the bytes are and how they were filtered,
//! plain reads and the filters of this crate replace it.

use std::{fs::File, ops::Range, os::unix::fs::FileExt, sync::Arc};

use schemas::{
    Result,
    atlas::{StoredArray, StoredChunk, StoredNumber},
    numbers::to_usize,
};
use stage::pool::Pool;

use super::{
    chunks::{ChunkGrid, Chunks},
    number::Number,
    numbers::Numbers,
    place::ObjectPlace,
};

/// Bytes that are read at once: few enough to still be in the processor's cache when they are converted.
const READ_BYTES: u64 = 128 << 10;

/// A vector (with one column) or a matrix of numbers in a file.
#[derive(Debug)]
pub struct ArrayInFile {
    /// The array's name in errors.
    pub place: ObjectPlace,
    /// The file.
    pub file: Arc<File>,
    /// The type of the numbers.
    pub number: StoredNumber,
    /// Number of dimensions: 1 or 2.
    pub dimensions: usize,
    /// Number of rows.
    pub rows: u64,
    /// Number of columns; 1 for a vector.
    pub columns: u64,
}

/// An array and where its bytes are.
#[derive(Debug)]
pub struct StoredNumbers {
    array: ArrayInFile,
    storage: NumberStorage,
}

#[derive(Debug)]
enum NumberStorage {
    /// Whole rows without filters, in chunks; contiguous rows are a single chunk.
    Plain {
        chunk_rows: u64,
        addresses: Vec<u64>,
        spare: Pool<Vec<u8>>,
    },
    Filtered(Box<Chunks>),
}

impl StoredNumbers {
    /// An array of whole rows without filters, `chunk_rows` of them at each of these addresses.
    #[must_use]
    pub fn plain(array: ArrayInFile, chunk_rows: u64, addresses: Vec<u64>) -> Self {
        Self { array, storage: NumberStorage::Plain { chunk_rows, addresses, spare: Pool::default() } }
    }

    /// An array in chunks; `None` if the chunks are too large, or compressed more than once.
    #[must_use]
    pub fn chunked(array: ArrayInFile, grid: ChunkGrid) -> Option<Self> {
        let chunks = Chunks::new(grid, array.columns, array.number.bytes())?;
        Some(match chunks.plain_addresses() {
            Some(addresses) => Self::plain(array, chunks.rows, addresses),
            None => Self { array, storage: NumberStorage::Filtered(Box::new(chunks)) },
        })
    }

    /// An array whose location is already known from [`Numbers::stored`], with its chunks.
    ///
    /// # Errors
    /// Chunks that are outside a file of `length` bytes, too few chunks, or chunks that only libhdf5 can read.
    pub fn reopen(
        stored: &StoredArray,
        chunks: &[StoredChunk],
        file: Arc<File>,
        length: u64,
        place: ObjectPlace,
    ) -> Result<Self> {
        let StoredArray { rows, columns, number, chunk_rows, chunk_columns, .. } = *stored;
        let inside = |chunk: &StoredChunk| chunk.address.checked_add(chunk.bytes).is_some_and(|end| end <= length);
        let fits = stored.chunks() == Some(chunks.len() as u64) && chunk_rows > 0 && chunks.iter().all(inside);
        let moved = || place.error("is not where it is expected", "the file was changed or cut short; ingest it again");
        if !fits {
            return Err(moved());
        }
        // The number of dimensions is not stored: only vectors have one column.
        let dimensions = if columns == 1 { 1 } else { 2 };
        let array = ArrayInFile { place: place.clone(), file, number, dimensions, rows, columns };
        let numbers = if stored.is_plain() {
            let addresses = chunks.iter().map(|chunk| chunk.address).collect();
            holds_its_rows(stored, chunks).then(|| Self::plain(array, chunk_rows, addresses))
        } else {
            let (filters, chunks) = (stored.filters.clone(), chunks.to_vec());
            Self::chunked(array, ChunkGrid { rows: chunk_rows, columns: chunk_columns, filters, chunks })
        };
        numbers.ok_or_else(moved)
    }

    /// Reads some rows, appending them to `out`.
    ///
    /// # Errors
    /// Rows that do not exist, or a file that is damaged or cut short.
    pub fn read<T: Number>(&self, rows: Range<u64>, out: &mut Vec<T>) -> Result<()> {
        check_rows(&rows, self.array.rows, &self.array.place)?;
        if rows.is_empty() || self.array.columns == 0 {
            return Ok(());
        }
        self.read_rows(rows, out)
    }

    fn read_rows<T: Number>(&self, rows: Range<u64>, out: &mut Vec<T>) -> Result<()> {
        let columns = self.array.columns;
        let chunk_rows = match &self.storage {
            NumberStorage::Plain { chunk_rows, .. } => *chunk_rows,
            NumberStorage::Filtered(chunks) => chunks.rows,
        };
        let mut row = rows.start;
        while row < rows.end {
            let (band, first) = (row / chunk_rows, row % chunk_rows);
            let count = (rows.end - row).min(chunk_rows - first);
            match &self.storage {
                NumberStorage::Filtered(chunks) => {
                    self.read_band(chunks, band, first..first + count, out)?;
                }
                NumberStorage::Plain { addresses, spare, .. } => {
                    let row_bytes = columns * self.array.number.bytes() as u64;
                    let start = addresses[to_usize(band)] + first * row_bytes;
                    self.read_run(start..start + count * row_bytes, spare, out)?;
                }
            }
            row += count;
        }
        Ok(())
    }

    /// Reads numbers whose bytes are contiguous.
    fn read_run<T: Number>(&self, run: Range<u64>, spare: &Pool<Vec<u8>>, out: &mut Vec<T>) -> Result<()> {
        let mut bytes = spare.take(Vec::new);
        let mut at = run.start;
        while at < run.end {
            let length = to_usize((run.end - at).min(READ_BYTES));
            if bytes.len() < length {
                bytes.resize(length, 0);
            }
            self.array.file.read_exact_at(&mut bytes[..length], at).map_err(|error| {
                self.array.place.error(
                    format!("can't be read at byte {at} ({error})"),
                    "the file may be cut short; restore it from a copy, or write it again",
                )
            })?;
            T::append(self.array.number, &bytes[..length], out);
            at += length as u64;
        }
        Ok(())
    }

    /// Reads some rows of chunks that are side by side.
    fn read_band<T: Number>(&self, chunks: &Chunks, band: u64, rows: Range<u64>, out: &mut Vec<T>) -> Result<()> {
        let (columns, element_bytes) = (self.array.columns, self.array.number.bytes() as u64);
        let part = |from: u64, to: u64| to_usize(from * element_bytes)..to_usize(to * element_bytes);
        let beside = (0..chunks.across)
            .map(|column| chunks.get(band * chunks.across + column, &self.array.file, &self.array.place));
        let beside = beside.collect::<Result<Vec<_>>>()?;
        if let [chunk] = beside.as_slice()
            && chunks.columns == columns
        {
            T::append(self.array.number, &chunk.bytes()[part(rows.start * columns, rows.end * columns)], out);
            return Ok(());
        }
        for row in rows {
            let mut left = columns;
            for chunk in &beside {
                let start = row * chunks.columns;
                let width = left.min(chunks.columns);
                T::append(self.array.number, &chunk.bytes()[part(start, start + width)], out);
                left -= width;
            }
        }
        Ok(())
    }
}

/// Checks that rows exist in an array of `all` rows.
///
/// # Errors
/// Rows that do not exist.
pub fn check_rows(rows: &Range<u64>, all: u64, place: &ObjectPlace) -> Result<()> {
    if rows.end < rows.start || all < rows.end {
        let message = format!("rows {} to {} were requested, of {all}", rows.start, rows.end);
        return Err(place.error(message, "the file may be cut short; write it again"));
    }
    Ok(())
}

/// Whether each chunk of a plain array is as long as its rows.
fn holds_its_rows(stored: &StoredArray, chunks: &[StoredChunk]) -> bool {
    let bytes = stored.chunk_rows.checked_mul(stored.columns).and_then(|n| n.checked_mul(stored.number.bytes() as u64));
    bytes.is_some_and(|bytes| chunks.iter().all(|chunk| chunk.bytes == bytes))
}

impl Numbers for StoredNumbers {
    fn place(&self) -> &ObjectPlace {
        &self.array.place
    }

    fn dimensions(&self) -> usize {
        self.array.dimensions
    }

    fn rows(&self) -> u64 {
        self.array.rows
    }

    fn columns(&self) -> u64 {
        self.array.columns
    }

    fn rounded(&self, rows: Range<u64>, out: &mut Vec<f32>) -> Result<()> {
        self.read(rows, out)
    }

    fn doubles(&self, rows: Range<u64>, out: &mut Vec<f64>) -> Result<()> {
        self.read(rows, out)
    }

    fn ids(&self, rows: Range<u64>, out: &mut Vec<u32>) -> Result<()> {
        self.read(rows, out)
    }

    fn integers(&self, rows: Range<u64>, out: &mut Vec<i64>) -> Result<()> {
        self.read(rows, out)
    }

    fn stored(&self, chunks: &mut Vec<StoredChunk>) -> Option<StoredArray> {
        let ArrayInFile { number, rows, columns, .. } = self.array;
        let first_chunk = chunks.len() as u64;
        let array = |chunk_rows, chunk_columns, filters| StoredArray {
            rows,
            columns,
            number,
            chunk_rows,
            chunk_columns,
            filters,
            first_chunk,
        };
        match &self.storage {
            NumberStorage::Plain { chunk_rows, addresses, .. } => {
                let bytes = chunk_rows * columns * number.bytes() as u64;
                chunks.extend(addresses.iter().map(|address| StoredChunk { address: *address, bytes, left_out: 0 }));
                Some(array(*chunk_rows, columns, Vec::new()))
            }
            NumberStorage::Filtered(found) => {
                chunks.extend_from_slice(found.entries());
                Some(array(found.rows, found.columns, found.filters().steps().to_vec()))
            }
        }
    }
}
