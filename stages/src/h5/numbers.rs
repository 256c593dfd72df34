//! Datasets of numbers, read by rows on any number of threads.
//!
//! libhdf5 does everything under one lock. Here it is asked once where a dataset's bytes lie and how they were filtered; what
//! reads them then is plain reads and our own filters. Datasets that this does not suit (unusual number types, filters or
//! layouts, chunks that were never written) are read through libhdf5 all the same.

use std::{fs::File, ops::Range, os::unix::fs::FileExt, sync::Arc};

use hdf5_metno::{Dataset, dataset::Layout};
use schemas::{
    Result,
    atlas::{StoredArray, StoredChunk},
    numbers::to_usize,
};

use super::{Place, chunks::Chunks, element::element_of, filters::Filters};
use crate::{
    element::{Element, Number},
    recycle::Pool,
};

/// Bytes that are read at once: few enough to be in the processor's cache still when they are converted.
const READ_BYTES: u64 = 128 << 10;

/// A vector (of one column) or a matrix of numbers.
#[derive(Debug)]
pub(crate) struct Numbers {
    pub(super) place: Place,
    dimensions: usize,
    rows: u64,
    columns: u64,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Direct(Direct),
    Library(Dataset),
}

/// Where the numbers lie.
#[derive(Debug)]
struct Direct {
    file: Arc<File>,
    element: Element,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    /// Whole rows without filters, in chunks; in one piece, they are one chunk.
    Plain {
        chunk_rows: u64,
        addresses: Vec<u64>,
        spare: Pool<Vec<u8>>,
    },
    Filtered(Box<Chunks>),
}

impl Numbers {
    /// A dataset of one or two dimensions.
    ///
    /// # Errors
    /// Any other number of dimensions, or a dataset that libhdf5 can't describe.
    pub(crate) fn open(dataset: Dataset, place: Place) -> Result<Self> {
        let numbers = Self::through_library(dataset, place)?;
        let Way::Library(dataset) = &numbers.way else { return Ok(numbers) };
        match Direct::open(dataset, numbers.rows, numbers.columns, &numbers.place) {
            Some(direct) => Ok(Self { way: Way::Direct(direct), ..numbers }),
            None => Ok(numbers),
        }
    }

    /// A dataset that is read through libhdf5, whatever it is.
    ///
    /// # Errors
    /// As for [`Numbers::open`].
    pub(crate) fn through_library(dataset: Dataset, place: Place) -> Result<Self> {
        let shape = dataset.get_shape().map_err(|error| place.unreadable(error))?;
        let (rows, columns) = match *shape.as_slice() {
            [rows] => (rows as u64, 1),
            [rows, columns] => (rows as u64, columns as u64),
            _ => {
                let message = format!("has {} dimensions, where 1 or 2 are supported", shape.len());
                return Err(place.error(message, "check how the file was written"));
            }
        };
        Ok(Self { place, dimensions: shape.len(), rows, columns, way: Way::Library(dataset) })
    }

    /// Its name in errors.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// How many dimensions there are: 1 or 2.
    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// An array whose location is already known from [`Numbers::stored`], with its chunks.
    ///
    /// # Errors
    /// Chunks that lie outside a file of `length` bytes, fewer than there have to be, or such as libhdf5 alone can read.
    pub(crate) fn of_stored(
        stored: &StoredArray,
        chunks: &[StoredChunk],
        file: Arc<File>,
        length: u64,
        place: Place,
    ) -> Result<Self> {
        let StoredArray { rows, columns, number, chunk_rows, chunk_columns, .. } = *stored;
        let inside = |chunk: &StoredChunk| chunk.address.checked_add(chunk.bytes).is_some_and(|end| end <= length);
        let fits = stored.chunks() == Some(chunks.len() as u64) && 0 < chunk_rows && chunks.iter().all(inside);
        let storage = match stored.is_plain() {
            _ if !fits => None,
            true => holds_its_rows(stored, chunks).then(|| {
                let addresses = chunks.iter().map(|chunk| chunk.address).collect();
                Storage::Plain { chunk_rows, addresses, spare: Pool::default() }
            }),
            false => Filters::new(stored.filters.clone(), number.bytes())
                .and_then(|filters| {
                    Chunks::new([columns, chunk_rows, chunk_columns], number.bytes(), filters, chunks.to_vec())
                })
                .map(|chunks| Storage::Filtered(Box::new(chunks))),
        };
        let storage = storage.ok_or_else(|| {
            place.error("is not where it is expected", "the file was changed or cut short; ingest it again")
        })?;
        // Who knows the place knows the shape.
        let dimensions = if columns == 1 { 1 } else { 2 };
        Ok(Self { place, dimensions, rows, columns, way: Way::Direct(Direct { file, element: number, storage }) })
    }

    /// Where the numbers lie, and what they are, if libhdf5 is not needed for them; their chunks are appended.
    pub(crate) fn stored(&self, chunks: &mut Vec<StoredChunk>) -> Option<StoredArray> {
        let Way::Direct(Direct { element, storage, .. }) = &self.way else { return None };
        let (rows, columns, first_chunk) = (self.rows, self.columns, chunks.len() as u64);
        let array = |chunk_rows, chunk_columns, filters| StoredArray {
            rows,
            columns,
            number: *element,
            chunk_rows,
            chunk_columns,
            filters,
            first_chunk,
        };
        match storage {
            Storage::Plain { chunk_rows, addresses, .. } => {
                let bytes = chunk_rows * columns * element.bytes() as u64;
                chunks.extend(addresses.iter().map(|address| StoredChunk { address: *address, bytes, left_out: 0 }));
                Some(array(*chunk_rows, columns, Vec::new()))
            }
            Storage::Filtered(found) => {
                chunks.extend_from_slice(found.entries());
                Some(array(found.rows, found.columns, found.filters().steps().to_vec()))
            }
        }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// How many columns there are: 1 of a vector.
    pub(crate) fn columns(&self) -> u64 {
        self.columns
    }

    /// Appends some rows, one after another.
    ///
    /// # Errors
    /// Rows that do not exist, a damaged file or cut short.
    pub(crate) fn read<T: Number>(&self, rows: Range<u64>, out: &mut Vec<T>) -> Result<()> {
        if rows.end < rows.start || self.rows < rows.end {
            let message = format!("rows {} to {} were requested, of {}", rows.start, rows.end, self.rows);
            return Err(self.place.error(message, "the file may be cut short; write it again"));
        }
        if rows.is_empty() || self.columns == 0 {
            return Ok(());
        }
        match &self.way {
            Way::Direct(direct) => direct.read(rows, self.columns, &self.place, out),
            Way::Library(dataset) => {
                let range = to_usize(rows.start)..to_usize(rows.end);
                let values = match dataset.ndim() {
                    1 => {
                        dataset.read_slice_1d::<T::InLibrary, _>(range).map(|values| values.into_raw_vec_and_offset().0)
                    }
                    _ => dataset
                        .read_slice_2d::<T::InLibrary, _>((range, ..))
                        .map(|values| values.into_raw_vec_and_offset().0),
                };
                let values = values.map_err(|error| self.place.unreadable(error))?;
                out.extend(values.into_iter().map(T::from_library));
                Ok(())
            }
        }
    }

    /// Whether libhdf5 is left out of it.
    #[cfg(test)]
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self.way, Way::Direct(_))
    }
}

/// Whether each chunk of a plain array has the bytes of its rows.
fn holds_its_rows(stored: &StoredArray, chunks: &[StoredChunk]) -> bool {
    let bytes = stored.chunk_rows.checked_mul(stored.columns).and_then(|n| n.checked_mul(stored.number.bytes() as u64));
    bytes.is_some_and(|bytes| chunks.iter().all(|chunk| chunk.bytes == bytes))
}

impl Direct {
    fn open(dataset: &Dataset, rows: u64, columns: u64, place: &Place) -> Option<Self> {
        let element = element_of(dataset)?;
        let bytes = rows.checked_mul(columns)?.checked_mul(element.bytes() as u64)?;
        let plain = |chunk_rows, addresses| Storage::Plain { chunk_rows, addresses, spare: Pool::default() };
        let storage = match dataset.layout() {
            // There is nothing to lie anywhere.
            _ if rows == 0 => plain(1, Vec::new()),
            // A dataset that was never written, or is in another file, stores less here.
            Layout::Contiguous if dataset.storage_size() == bytes => {
                let offset = dataset.offset()?;
                offset.checked_add(bytes)?;
                plain(rows, vec![offset])
            }
            Layout::Chunked => {
                let chunks = Chunks::open(dataset, rows, columns, element.bytes())?;
                match chunks.plain_addresses() {
                    Some(addresses) => plain(chunks.rows, addresses),
                    None => Storage::Filtered(Box::new(chunks)),
                }
            }
            Layout::Contiguous | Layout::Compact | Layout::Virtual => return None,
        };
        // A link to another file would need that file.
        Some(Self { file: place.bytes(&dataset.filename())?, element, storage })
    }

    fn read<T: Number>(&self, rows: Range<u64>, columns: u64, place: &Place, out: &mut Vec<T>) -> Result<()> {
        let chunk_rows = match &self.storage {
            Storage::Plain { chunk_rows, .. } => *chunk_rows,
            Storage::Filtered(chunks) => chunks.rows,
        };
        let mut row = rows.start;
        while row < rows.end {
            let (band, first) = (row / chunk_rows, row % chunk_rows);
            let count = (rows.end - row).min(chunk_rows - first);
            match &self.storage {
                Storage::Filtered(chunks) => {
                    self.read_band(chunks, band, first..first + count, columns, place, out)?;
                }
                Storage::Plain { addresses, spare, .. } => {
                    let row_bytes = columns * self.element.bytes() as u64;
                    let start = addresses[to_usize(band)] + first * row_bytes;
                    self.read_run(start..start + count * row_bytes, spare, place, out)?;
                }
            }
            row += count;
        }
        Ok(())
    }

    /// Numbers whose bytes lie one after another.
    fn read_run<T: Number>(
        &self,
        run: Range<u64>,
        spare: &Pool<Vec<u8>>,
        place: &Place,
        out: &mut Vec<T>,
    ) -> Result<()> {
        let mut bytes = spare.take(Vec::new);
        let mut at = run.start;
        while at < run.end {
            let length = to_usize((run.end - at).min(READ_BYTES));
            if bytes.len() < length {
                bytes.resize(length, 0);
            }
            self.file.read_exact_at(&mut bytes[..length], at).map_err(|error| {
                place.error(
                    format!("can't be read at byte {at} ({error})"),
                    "the file may be cut short; restore it from a copy, or write it again",
                )
            })?;
            T::append(self.element, &bytes[..length], out);
            at += length as u64;
        }
        Ok(())
    }

    /// Some rows of the chunks that stand next to one another.
    fn read_band<T: Number>(
        &self,
        chunks: &Chunks,
        band: u64,
        rows: Range<u64>,
        columns: u64,
        place: &Place,
        out: &mut Vec<T>,
    ) -> Result<()> {
        let element_bytes = self.element.bytes() as u64;
        let part = |from: u64, to: u64| to_usize(from * element_bytes)..to_usize(to * element_bytes);
        let beside = (0..chunks.across).map(|column| chunks.get(band * chunks.across + column, &self.file, place));
        let beside = beside.collect::<Result<Vec<_>>>()?;
        if let [chunk] = beside.as_slice()
            && chunks.columns == columns
        {
            T::append(self.element, &chunk.bytes()[part(rows.start * columns, rows.end * columns)], out);
            return Ok(());
        }
        for row in rows {
            let mut left = columns;
            for chunk in &beside {
                let start = row * chunks.columns;
                let width = left.min(chunks.columns);
                T::append(self.element, &chunk.bytes()[part(start, start + width)], out);
                left -= width;
            }
        }
        Ok(())
    }
}
