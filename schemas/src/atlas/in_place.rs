//! A matrix that stays in the file where it was found: where its numbers lie there, to the byte.
//!
//! An atlas of the codec [`Codec::InPlace`](super::Codec::InPlace) has no `matrix.bin`. Its blocks are made of the file's rows
//! when they are read, and come out as the bytes that a raw `matrix.bin` would hold: that is what their checksums are taken of.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a matrix lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlaceMatrix {
    /// The file: its name where it lies beside the atlas, else its whole path.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// What the matrix is called in the file.
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
        /// Where each row starts among the entries, then where the last one ends.
        row_pointers: StoredArray,
        /// The gene of each entry.
        indices: StoredArray,
        /// The value of each entry.
        data: StoredArray,
    },
    /// One value a gene.
    Dense {
        /// Cells by genes.
        data: StoredArray,
    },
}

/// An array of numbers within a file, in chunks of whole rows, without filters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredArray {
    /// Rows.
    pub rows: u64,
    /// Numbers of a row: 1 of a vector.
    pub columns: u64,
    /// What its numbers are.
    pub number: StoredNumber,
    /// Rows of a chunk; the last chunk is as long, whatever of it is used. An array in one piece is one chunk.
    pub chunk_rows: u64,
    /// Which number of `chunks.bin` says where the first chunk starts in the file; those of the others follow.
    pub first_chunk: u64,
}

impl StoredArray {
    /// How many chunks it has.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.rows.div_ceil(self.chunk_rows.max(1))
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

/// A matrix that can be read in place, with what an atlas has to keep of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlace {
    /// Where it lies.
    pub matrix: InPlaceMatrix,
    /// What becomes `chunks.bin`.
    pub chunks: Vec<u64>,
}
