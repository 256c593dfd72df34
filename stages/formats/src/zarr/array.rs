//! An array of a store: its chunks, a cache of those that were unpacked last, and the meaning of missing
//! ones.

use std::{
    fmt::{self, Debug},
    fs,
    path::PathBuf,
    sync::{Arc, Once},
};

use arrays::{
    chunk_cache::{CachedChunk, ChunkCache},
    place::ObjectPlace,
};
use arrow::datatypes::{ArrowPrimitiveType, Float16Type};
use schemas::{Error, Result, numbers::to_usize};
use storage::parquet_read::decoded;
use zarrs::{
    array::{
        ArrayBytes, ArrayMetadata, ArrayShardedExt, ArrayShardedReadableExt, ArrayShardedReadableExtCache, CodecOptions,
    },
    storage::ReadableStorageTraits,
};

use super::{element::Element, files::ZarrFolder, metadata::MetadataResult, packing::MOST_CHUNK_BYTES};
use crate::anndata::group::UnwrittenParts;

/// Size of the cache of unpacked chunks, in bytes: the next rows often share a chunk with the previous ones.
const KEPT_BYTES: u64 = 4 << 20;
/// Its largest size, for very wide arrays, in which one row spans many chunks.
const MOST_KEPT_BYTES: u64 = 96 << 20;
/// Number of shards whose index is cached.
const KEPT_SHARDS: usize = 8;
/// Maximum number of chunks in a shard; no memory is allocated for more.
const MOST_CHUNKS: u64 = 1 << 22;
/// Assumed length of texts, which is rarely exceeded.
const TEXT_BYTES: usize = 32;

/// An array of one or two dimensions, whose chunks are read on request.
pub(super) struct Array {
    pub(super) place: ObjectPlace,
    pub(super) element: Element,
    pub(super) rows: u64,
    /// Number of columns; 1 for a vector.
    pub(super) columns: u64,
    /// Rows and columns of a chunk.
    pub(super) chunk: Vec<u64>,
    /// Number of chunks side by side.
    pub(super) across: u64,
    /// Number of chunks per file, in each dimension.
    per_file: Vec<u64>,
    gaps: UnwrittenParts,
    stored: zarrs::array::Array<ZarrFolder>,
    options: CodecOptions,
    shards: ArrayShardedReadableExtCache,
    kept: ChunkCache<ArrayBytes<'static>>,
    warned: Once,
}

/// The library's view of an array.
fn caught<T, E: fmt::Display>(work: impl FnOnce() -> std::result::Result<T, E>) -> MetadataResult<T> {
    decoded(work).map_err(|error| error.to_string())
}

impl Array {
    /// Opens the array in a folder.
    ///
    /// # Errors
    /// Metadata that the library does not know, or that claims impossible sizes; the error describes the problem.
    pub(super) fn open(
        folder: PathBuf,
        place: ObjectPlace,
        metadata: ArrayMetadata,
        gaps: UnwrittenParts,
    ) -> MetadataResult<Self> {
        let stored = caught(|| zarrs::array::Array::new_with_metadata(Arc::new(ZarrFolder(folder)), "/", metadata));
        let stored = stored.map_err(|what| format!("has metadata that can't be used ({what})"))?;
        let element = Element::from_data_type(stored.data_type())?;
        let (rows, columns) = match *stored.shape() {
            [rows] => (rows, 1),
            [rows, columns] => (rows, columns),
            ref shape => return Err(format!("has {} dimensions, where 1 or 2 are supported", shape.len())),
        };
        let file = caught(|| stored.chunk_shape(&vec![0; stored.dimensionality()]))?;
        let chunk = caught(|| Ok::<_, Error>(stored.effective_subchunk_shape()))?.unwrap_or_else(|| file.clone());
        let [file, chunk] = [file, chunk].map(|shape| shape.iter().map(|length| length.get()).collect::<Vec<u64>>());
        let product = |shape: &[u64]| shape.iter().try_fold(1_u64, |all, length| all.checked_mul(*length));
        let value_bytes = stored.data_type().fixed_size().unwrap_or(TEXT_BYTES) as u64;
        let bytes = product(&chunk).and_then(|values| values.checked_mul(value_bytes));
        let bytes = bytes.filter(|bytes| *bytes <= MOST_CHUNK_BYTES);
        let bytes = bytes.ok_or_else(|| format!("has chunks of the shape {chunk:?}, of more than 1 GiB each"))?;
        if chunk.len() != file.len() || file.iter().zip(&chunk).any(|(file, chunk)| !file.is_multiple_of(*chunk)) {
            return Err(format!("has shards of the shape {file:?}, which chunks of {chunk:?} do not fill"));
        }
        let per_file: Vec<u64> = file.iter().zip(&chunk).map(|(file, chunk)| file / chunk).collect();
        if product(&file).is_none() || product(&per_file).is_none_or(|count| count > MOST_CHUNKS) {
            return Err(format!("has shards of the shape {file:?}, with too many chunks"));
        }
        let across = chunk.get(1).map_or(1, |chunk| columns.div_ceil(*chunk));
        // A row range may end within a row of chunks, and the next row range then starts in the same row.
        let kept = bytes.saturating_mul(across.saturating_add(across / 2)).clamp(KEPT_BYTES, MOST_KEPT_BYTES);
        let most = to_usize((kept / bytes.max(1)).clamp(2, 1 << 16));
        Ok(Self {
            shards: caught(|| Ok::<_, Error>(ArrayShardedReadableExtCache::new(&stored)))?,
            place,
            element,
            rows,
            columns,
            chunk,
            across,
            per_file,
            gaps,
            stored,
            // The caller already uses the requested number of threads.
            options: CodecOptions::default().with_concurrent_target(1),
            kept: ChunkCache::new(most),
            warned: Once::new(),
        })
    }

    /// The values of the chunk in a band of rows and a column of chunks. Threads that want the same one wait for
    /// the first of them.
    ///
    /// # Errors
    /// A file that can't be read, is lost, or was not produced by the array's codecs.
    pub(super) fn get(&self, band: u64, column: u64) -> Result<CachedChunk<ArrayBytes<'static>>> {
        let index = band.checked_mul(self.across).and_then(|first| first.checked_add(column));
        let index = index.ok_or_else(|| Error::Bug("a chunk of more than 2^64".into()))?;
        self.kept.get(index, || self.read(&[band, column][..self.chunk.len()]))
    }

    fn read(&self, at: &[u64]) -> Result<ArrayBytes<'static>> {
        let file: Vec<u64> = at.iter().zip(&self.per_file).map(|(at, chunks)| at / chunks).collect();
        let key = self.stored.chunk_key(&file);
        let unreadable = |what: String| {
            let hint = "the store may be damaged; restore this file from a copy, or write the store again";
            self.place.error(format!("the chunk `{key}` can't be read ({what})"), hint)
        };
        if self.stored.storage().size_key(&key).map_err(|error| unreadable(error.to_string()))?.is_none() {
            self.missing(key.as_str())?;
        }
        if self.shards.len() > KEPT_SHARDS {
            self.shards.clear();
        }
        let read = caught(|| self.stored.retrieve_subchunk_opt::<ArrayBytes>(&self.shards, at, &self.options));
        match read.map_err(unreadable)? {
            ArrayBytes::Fixed(halves) if self.element == Element::Half => Ok(ArrayBytes::new_flen(widened(&halves))),
            values => Ok(values),
        }
    }

    /// Handles a missing chunk: chunks of only the fill value may be left out, but in arrays without such chunks
    /// it was lost.
    fn missing(&self, name: &str) -> Result<()> {
        if self.gaps == UnwrittenParts::Lost {
            let hint = "copy the store again, with all of its files; if it was written without its all-zero chunks, \
                        write it with zarr.config.set({'array.write_empty_chunks': True})";
            return Err(self.place.error(format!("the chunk `{name}` is missing"), hint));
        }
        let mut members = fs::read_dir(&self.stored.storage().0).into_iter().flatten().flatten();
        let is_data = |name: &str| !name.starts_with('.') && name != "zarr.json";
        let has_others = members.any(|member| is_data(&member.file_name().to_string_lossy()));
        if has_others {
            let place = &self.place;
            let warn = || tracing::warn!("{place}: the chunk `{name}` is missing and reads as the fill value");
            self.warned.call_once(warn);
        }
        Ok(())
    }
}

impl Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}, {} × {}", self.place, self.element, self.rows, self.columns)
    }
}

/// Converts 16-bit floats to `f32`.
fn widened(halves: &[u8]) -> Vec<u8> {
    type Half = <Float16Type as ArrowPrimitiveType>::Native;
    halves.as_chunks::<2>().0.iter().flat_map(|half| Half::from_ne_bytes(*half).to_f32().to_le_bytes()).collect()
}
