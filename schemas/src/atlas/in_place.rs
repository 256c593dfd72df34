//! A matrix that stays in its source file: the positions of its numbers there, to the byte.
//!
//! An atlas with the codec [`Codec::InPlace`](super::Codec::InPlace) has no `matrix.bin`. Its blocks are
//! built from the file's rows when they are read, with the same bytes as in a raw `matrix.bin`, from which
//! their checksums are computed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The location of a matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlaceMatrix {
    /// The file: its name if it is next to the atlas, otherwise its full path.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// The matrix's name in the file.
    pub object: String,
    /// How its rows are stored.
    pub form: InPlaceForm,
}

/// How rows are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InPlaceForm {
    /// As compressed sparse rows.
    Csr {
        /// Row pointers, including the end of the last row.
        row_pointers: StoredArray,
        /// The gene of each entry.
        indices: StoredArray,
        /// The value of each entry.
        data: StoredArray,
    },
    /// As dense rows, with one value per gene.
    Dense {
        /// The values, cells by genes.
        data: StoredArray,
    },
}

/// An array of numbers in a file: a grid of chunks of equal size, row by row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredArray {
    /// Number of rows.
    pub rows: u64,
    /// Numbers per row; 1 for a vector.
    pub columns: u64,
    /// The type of the numbers.
    pub number: StoredNumber,
    /// Rows per chunk; the last chunk has full length, even if partly unused. A contiguous array is one chunk.
    pub chunk_rows: u64,
    /// Columns per chunk.
    pub chunk_columns: u64,
    /// Filters applied to each chunk when it was written, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<StoredFilter>,
    /// The index in `chunks.bin` of the first chunk's record; the others follow.
    pub first_chunk: u64,
}

impl StoredArray {
    /// Number of chunks; `None` if that is impossibly large.
    #[must_use]
    pub fn chunks(&self) -> Option<u64> {
        let down = self.rows.div_ceil(self.chunk_rows.max(1));
        down.checked_mul(self.columns.div_ceil(self.chunk_columns.max(1)))
    }

    /// Whether its numbers are stored uncompressed, as whole consecutive rows in each chunk.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.filters.is_empty() && self.columns <= self.chunk_columns
    }
}

impl InPlaceForm {
    /// Whether the whole matrix is stored uncompressed, so that reading a row costs no more than the row's own
    /// bytes.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        match self {
            Self::Csr { row_pointers, indices, data } => {
                [row_pointers, indices, data].into_iter().all(StoredArray::is_plain)
            }
            Self::Dense { data } => data.is_plain(),
        }
    }
}

/// A filter of HDF5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoredFilter {
    /// zlib.
    Deflate,
    /// `lzf` in h5py.
    Lzf,
    /// All first bytes of the numbers, then all second ones, and so on.
    Shuffle,
    /// A checksum at the end of the chunk.
    Fletcher32,
}

/// The position of a chunk: a record of `chunks.bin`, three u64.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, bytemuck::Pod, bytemuck::Zeroable)]
pub struct StoredChunk {
    /// Position of its first byte in the file.
    pub address: u64,
    /// Number of bytes in the file.
    pub bytes: u64,
    /// One bit for each filter that was skipped when the chunk was written.
    pub left_out: u64,
}

impl StoredChunk {
    /// The records of `chunks.bin`; trailing bytes are ignored.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Vec<Self> {
        bytemuck::pod_collect_to_vec(&bytes[..bytes.len() / size_of::<Self>() * size_of::<Self>()])
    }
}

/// A little-endian type of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "their names say what they are")]
pub enum StoredNumber {
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
}

impl StoredNumber {
    /// Bytes of one number.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }
}

/// A matrix that can be read in place, with everything needed for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlace {
    /// Its location.
    pub matrix: InPlaceMatrix,
    /// Its chunks, for `chunks.bin`.
    pub chunks: Vec<StoredChunk>,
}
