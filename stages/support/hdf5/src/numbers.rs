//! Datasets of numbers, read by rows on any number of threads.
//!
//! libhdf5 is asked once where a dataset's bytes are and how they were filtered; then [`StoredNumbers`] reads
//! them. Datasets for which this does not work (unusual number types, filters or layouts, chunks that were
//! never written) are read through libhdf5.

use std::{fs::File, ops::Range, path::Path, sync::Arc};

use arrays::{
    chunks::ChunkGrid,
    numbers,
    place::ObjectPlace,
    stored_numbers::{ArrayInFile, StoredNumbers, check_rows},
};
use hdf5_metno::{Dataset, dataset::Layout, filters::Filter, plist::dataset_create::ChunkOpts};
use schemas::{
    Result,
    atlas::{StoredArray, StoredChunk, StoredFilter},
    numbers::to_usize,
};

use super::element::{LibraryNumber, element_of};

/// Datasets with more chunks are left to libhdf5, so that no file can cause a large table.
const MOST_CHUNKS: u64 = 1 << 24;

/// A vector (with one column) or a matrix of numbers.
#[derive(Debug)]
pub enum DatasetNumbers {
    /// Read from known addresses.
    Direct(StoredNumbers),
    /// Read through libhdf5.
    Library(LibraryNumbers),
}

/// A dataset that libhdf5 reads.
#[derive(Debug)]
pub struct LibraryNumbers {
    dataset: Dataset,
    place: ObjectPlace,
    dimensions: usize,
    rows: u64,
    columns: u64,
}

impl DatasetNumbers {
    /// A dataset of one or two dimensions.
    ///
    /// # Errors
    /// Any other number of dimensions, or a dataset that libhdf5 can't describe.
    pub fn open(dataset: Dataset, place: ObjectPlace) -> Result<Self> {
        let library = LibraryNumbers::open(dataset, place)?;
        Ok(library.direct().map_or_else(|| Self::Library(library), Self::Direct))
    }

    /// Reads some rows, appending them to `out`.
    ///
    /// # Errors
    /// Rows that do not exist, or a file that is damaged or cut short.
    pub fn read<T: LibraryNumber>(&self, rows: Range<u64>, out: &mut Vec<T>) -> Result<()> {
        match self {
            Self::Direct(numbers) => numbers.read(rows, out),
            Self::Library(numbers) => numbers.read(rows, out),
        }
    }
}

impl LibraryNumbers {
    /// A dataset of one or two dimensions.
    ///
    /// # Errors
    /// As for [`DatasetNumbers::open`].
    pub(crate) fn open(dataset: Dataset, place: ObjectPlace) -> Result<Self> {
        let shape = dataset.get_shape().map_err(|error| place.unreadable(error))?;
        let (rows, columns) = match *shape.as_slice() {
            [rows] => (rows as u64, 1),
            [rows, columns] => (rows as u64, columns as u64),
            _ => {
                let message = format!("has {} dimensions, where 1 or 2 are supported", shape.len());
                return Err(place.error(message, "check how the file was written"));
            }
        };
        Ok(Self { dataset, place, dimensions: shape.len(), rows, columns })
    }

    /// The same array, read without libhdf5; `None` if that is not possible.
    fn direct(&self) -> Option<StoredNumbers> {
        let Self { dataset, place, dimensions, rows, columns } = self;
        let number = element_of(dataset)?;
        let bytes = rows.checked_mul(*columns)?.checked_mul(number.bytes() as u64)?;
        let array = || {
            let (place, file) = (place.clone(), file_of(dataset, place)?);
            Some(ArrayInFile { place, file, number, dimensions: *dimensions, rows: *rows, columns: *columns })
        };
        match dataset.layout() {
            // An empty dataset is stored nowhere.
            _ if *rows == 0 => Some(StoredNumbers::plain(array()?, 1, Vec::new())),
            // A dataset that was never written, or is in another file, has a smaller storage size.
            Layout::Contiguous if dataset.storage_size() == bytes => {
                let offset = dataset.offset()?;
                offset.checked_add(bytes)?;
                Some(StoredNumbers::plain(array()?, *rows, vec![offset]))
            }
            Layout::Chunked => StoredNumbers::chunked(array()?, chunk_grid(dataset, *rows, *columns)?),
            Layout::Contiguous | Layout::Compact | Layout::Virtual => None,
        }
    }

    pub(crate) fn read<T: LibraryNumber>(&self, rows: Range<u64>, out: &mut Vec<T>) -> Result<()> {
        check_rows(&rows, self.rows, &self.place)?;
        if rows.is_empty() || self.columns == 0 {
            return Ok(());
        }
        let range = to_usize(rows.start)..to_usize(rows.end);
        let values = match self.dimensions {
            1 => self.dataset.read_slice_1d::<T::InLibrary, _>(range).map(|values| values.into_raw_vec_and_offset().0),
            _ => self
                .dataset
                .read_slice_2d::<T::InLibrary, _>((range, ..))
                .map(|values| values.into_raw_vec_and_offset().0),
        };
        let values = values.map_err(|error| self.place.unreadable(error))?;
        out.extend(values.into_iter().map(T::from_library));
        Ok(())
    }
}

/// The file with the bytes of a dataset; `None` if a link leads to a file other than the open one.
pub(super) fn file_of(dataset: &Dataset, place: &ObjectPlace) -> Option<Arc<File>> {
    if place.path() == Path::new(&dataset.filename()) { place.opened() } else { None }
}

/// The chunks of a dataset, as libhdf5 lists them; `None` if they can't be read without it, or some were
/// never written.
pub(super) fn chunk_grid(dataset: &Dataset, rows: u64, columns: u64) -> Option<ChunkGrid> {
    let (chunk_rows, chunk_columns) = match *dataset.chunk()?.as_slice() {
        [rows] => (rows as u64, 1),
        [rows, columns] => (rows as u64, columns as u64),
        _ => return None,
    };
    let properties = dataset.create_plist().ok()?;
    if properties.chunk_opts().is_some_and(|options| options.contains(ChunkOpts::DONT_FILTER_PARTIAL_CHUNKS)) {
        return None;
    }
    let filters = known_filters(&dataset.filters())?;
    if chunk_rows == 0 || chunk_columns == 0 {
        return None;
    }
    let across = columns.div_ceil(chunk_columns);
    let count = across.checked_mul(rows.div_ceil(chunk_rows))?;
    if count > MOST_CHUNKS || dataset.num_chunks()? as u64 != count {
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
            *entry = Some(StoredChunk { address: chunk.addr, bytes: chunk.size, left_out: chunk.filter_mask.into() });
        }
        0
    });
    visited.ok()?;
    let chunks = entries.into_iter().collect::<Option<Vec<_>>>()?;
    Some(ChunkGrid { rows: chunk_rows, columns: chunk_columns, filters, chunks })
}

/// The filters of a dataset; `None` if one of them is unknown.
fn known_filters(filters: &[Filter]) -> Option<Vec<StoredFilter>> {
    let steps = filters.iter().map(|filter| match filter {
        Filter::Deflate(_) => Some(StoredFilter::Deflate),
        Filter::LZF => Some(StoredFilter::Lzf),
        Filter::Shuffle => Some(StoredFilter::Shuffle),
        Filter::Fletcher32 => Some(StoredFilter::Fletcher32),
        _ => None,
    });
    steps.collect()
}

impl numbers::Numbers for DatasetNumbers {
    fn place(&self) -> &ObjectPlace {
        match self {
            Self::Direct(numbers) => numbers.place(),
            Self::Library(numbers) => &numbers.place,
        }
    }

    fn dimensions(&self) -> usize {
        match self {
            Self::Direct(numbers) => numbers.dimensions(),
            Self::Library(numbers) => numbers.dimensions,
        }
    }

    fn rows(&self) -> u64 {
        match self {
            Self::Direct(numbers) => numbers.rows(),
            Self::Library(numbers) => numbers.rows,
        }
    }

    fn columns(&self) -> u64 {
        match self {
            Self::Direct(numbers) => numbers.columns(),
            Self::Library(numbers) => numbers.columns,
        }
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
        match self {
            Self::Direct(numbers) => numbers.stored(chunks),
            Self::Library(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_filter_is_left_to_libhdf5() {
        assert!(known_filters(&[Filter::Shuffle, Filter::NBit]).is_none());
        assert!(known_filters(&[Filter::User(32015, vec![3])]).is_none());
    }
}
