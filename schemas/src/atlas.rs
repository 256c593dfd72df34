//! An atlas on disk, to the byte.
//!
//! An atlas is a folder. All numbers are little-endian.
//!
//! | file | content |
//! |---|---|
//! | `manifest.json` | [`Manifest`]: sizes, types, label rules, covariate values, provenance, and the checksum of every other file; written last, by rename |
//! | `matrix.bin` | the blocks, one after another, each starting at a multiple of 64 bytes; absent if the matrix is read in place ([`InPlaceMatrix`]) |
//! | `blocks.bin` | one [`BlockEntry`] of 40 bytes per block: its position, content and checksum |
//! | `labels.bin` | one record per cell: its condition id (u32), then the code (u32) of each covariate |
//! | `members.bin` | one u64 per cell: all cells, sorted by their records in `labels.bin`, then ascending; each condition's cells are contiguous |
//! | `chunks.bin` | for a matrix read in place: one [`StoredChunk`] of 24 bytes per chunk, its position in that file |
//! | `rows.bin` | for a shuffled matrix: one u64 per cell, the row of the matrix that holds it |
//! | `order.bin` | for a shuffled matrix: one u64 per row, the cell that it holds; the inverse of `rows.bin` |
//! | `cells.parquet` | `obs`, in the source's order; the first column, `cell`, is the cell's name |
//! | `genes.parquet` | `var`; the first column, `gene`, is the gene's name |
//! | `conditions.parquet` | [`crate::arrow::conditions_schema`]: one row per condition |
//! | `statistics.parquet` | [`crate::arrow::statistics_schema`]: one row per group of cells; absent if there are too many groups |
//! | `splits/NAME.parquet` | [`crate::arrow::splits_schema`]: which cells are for training, validation, or held out; not part of the atlas's checksum |
//! | `splits.json` | names of the splits, which have to be there; sealed, and not part of the atlas's checksum |
//!
//! *Cells* are numbered in source order; *rows* are numbered in matrix order. They are the same unless the
//! matrix is shuffled ([`Manifest::order`]).
//!
//! A *block* holds [`Manifest::block_rows`] successive rows (the last one may hold fewer) as CSR. Raw or decompressed, its
//! bytes are three arrays, each starting at a multiple of 8 bytes ([`BlockLayout`]):
//!
//! ```text
//! row pointers  u32 × (rows + 1)   start of each row among the block's entries
//! genes         u16 or u32 × n     ascending in each row; the width is the atlas's
//! values        u8, u16, u32 or f32 × n; the narrowest width that holds the block's values
//! ```
//!
//! A packed block holds its rows one after another in a few bits for each number, and is decoded row by row from the memory
//! map; the crate `packed_rows` has its layout to the bit. Values are counts, unless the block's are `f32`. The file has at least 64
//! bytes behind the last packed block.
//!
//! A compressed block is one zstd frame of the bytes of a raw one, one array after another:
//!
//! ```text
//! row lengths   u32 × rows
//! gaps          u8 × n   number of ids skipped since the previous gene in the row; 255: see the wide gaps
//! wide gaps     u32 for each 255 among the gaps
//! values        as above, up to the end of the block's decompressed bytes
//! ```
//!
//! A block's checksum is XXH3-64 of its bytes on disk; for a block that is read in place, of its raw bytes.

mod in_place;
mod manifest;

use serde::{Deserialize, Serialize};

pub use self::{
    in_place::{InPlace, InPlaceForm, InPlaceMatrix, StoredArray, StoredChunk, StoredFilter, StoredNumber},
    manifest::{FileEntry, FileStamp, Keys, Manifest, Origin, RowOrder, Selection, SourceVersion},
};

/// The layout that this version writes. Since 2, blocks can be packed.
pub const FORMAT_VERSION: u32 = 2;
/// The oldest layout that this version reads.
pub const OLDEST_FORMAT_VERSION: u32 = 1;
/// Rows per block.
pub const BLOCK_ROWS: u32 = 32;
/// Blocks start at multiples of this many bytes.
pub const BLOCK_ALIGNMENT: u64 = 64;
/// Bytes of a [`BlockEntry`].
pub const BLOCK_ENTRY_BYTES: usize = 40;

/// File names in an atlas.
pub mod files {
    /// Written last.
    pub const MANIFEST: &str = "manifest.json";
    /// The blocks.
    pub const MATRIX: &str = "matrix.bin";
    /// The position of each block.
    pub const BLOCKS: &str = "blocks.bin";
    /// Condition id and covariate codes of every cell.
    pub const LABELS: &str = "labels.bin";
    /// All cells, by condition and covariates.
    pub const MEMBERS: &str = "members.bin";
    /// The positions of the chunks of a matrix read in place.
    pub const CHUNKS: &str = "chunks.bin";
    /// The row of every cell.
    pub const ROWS: &str = "rows.bin";
    /// The cell of every row.
    pub const ORDER: &str = "order.bin";
    /// Annotations of the cells.
    pub const CELLS: &str = "cells.parquet";
    /// Annotations of the genes.
    pub const GENES: &str = "genes.parquet";
    /// The conditions.
    pub const CONDITIONS: &str = "conditions.parquet";
    /// Statistics of each group of cells.
    pub const STATISTICS: &str = "statistics.parquet";
    /// Folder of the splits.
    pub const SPLITS: &str = "splits";
    /// Names of the splits that have to be there.
    pub const SPLIT_LIST: &str = "splits.json";
    /// Every entry of an atlas's folder.
    pub const ALL: [&str; 14] = [
        MANIFEST, MATRIX, BLOCKS, LABELS, MEMBERS, CHUNKS, ROWS, ORDER, CELLS, GENES, CONDITIONS, STATISTICS, SPLITS,
        SPLIT_LIST,
    ];
}

/// The kind of the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueKind {
    /// Non-negative integers.
    Counts,
    /// Anything else: normalised, scaled, logarithms.
    Continuous,
}

impl std::fmt::Display for ValueKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Counts => "counts",
            Self::Continuous => "continuous",
        })
    }
}

/// How gene ids are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GeneWidth {
    /// Up to 65,536 genes.
    U16,
    /// More genes.
    U32,
}

impl GeneWidth {
    /// The narrowest width for this many genes.
    #[must_use]
    pub fn for_genes(genes: u32) -> Self {
        if genes <= 1 << 16 { Self::U16 } else { Self::U32 }
    }

    /// Bytes of one id.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }
}

/// How values are stored; each type holds all values of the previous ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueWidth {
    /// Counts up to 255.
    U8,
    /// Counts up to 65,535.
    U16,
    /// Larger counts.
    U32,
    /// Anything else.
    F32,
}

impl ValueWidth {
    /// Bytes of one value.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::U32 | Self::F32 => 4,
        }
    }

    /// Its number in a [`BlockEntry`].
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::U8 => 0,
            Self::U16 => 1,
            Self::U32 => 2,
            Self::F32 => 3,
        }
    }

    /// The width with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::U8,
            1 => Self::U16,
            2 => Self::U32,
            3 => Self::F32,
            _ => return None,
        })
    }
}

/// Storage of a block's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Raw, for the memory map.
    Raw,
    /// Each row in a few bits for each number, for the memory map: about a third of raw.
    Packed,
    /// Genes as gaps, in one zstd frame.
    Zstd,
    /// Not stored: its rows are read from the source file.
    #[serde(rename = "in-place")]
    InPlace,
}

impl Codec {
    /// Its number in a [`BlockEntry`].
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
            Self::InPlace => 2,
            Self::Packed => 3,
        }
    }

    /// The codec with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Raw,
            1 => Self::Zstd,
            2 => Self::InPlace,
            3 => Self::Packed,
            _ => return None,
        })
    }
}

/// A block's position and content: a row of `blocks.bin`.
///
/// ```text
/// offset u64 | bytes u64 | checksum u64 | entries u32 | rows u16 | value width u8 | codec u8 | unused 8 bytes, zero
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// Its start in `matrix.bin`; 0 for a block that is read in place.
    pub offset: u64,
    /// Bytes in `matrix.bin`; 0 for a block that is read in place.
    pub bytes: u64,
    /// XXH3-64 of those bytes, or of the raw bytes of a block that is read in place.
    pub checksum: u64,
    /// Number of non-zeros.
    pub entries: u32,
    /// Number of rows.
    pub rows: u16,
    /// The type of its values.
    pub value_width: ValueWidth,
    /// The storage of its bytes.
    pub codec: Codec,
}

impl BlockEntry {
    /// Its bytes in `blocks.bin`.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; BLOCK_ENTRY_BYTES] {
        let mut bytes = [0; BLOCK_ENTRY_BYTES];
        bytes[0..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.entries.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.rows.to_le_bytes());
        bytes[30] = self.value_width.code();
        bytes[31] = self.codec.code();
        bytes
    }

    /// Reads a row of `blocks.bin`; `None` if it has an unknown width or codec.
    #[inline]
    #[must_use]
    pub fn from_bytes(bytes: &[u8; BLOCK_ENTRY_BYTES]) -> Option<Self> {
        // The entry is read in words, as stored, because this happens for every row of every batch.
        let [offset, size, checksum, counts, _] = *bytes.as_chunks::<8>().0 else { return None };
        let counts = u64::from_le_bytes(counts);
        let [_, _, _, _, rows_low, rows_high, width, codec] = counts.to_le_bytes();
        #[expect(clippy::cast_possible_truncation, reason = "its low half is meant")]
        let entries = counts as u32;
        Some(Self {
            offset: u64::from_le_bytes(offset),
            bytes: u64::from_le_bytes(size),
            checksum: u64::from_le_bytes(checksum),
            entries,
            rows: u16::from_le_bytes([rows_low, rows_high]),
            value_width: ValueWidth::from_code(width)?,
            codec: Codec::from_code(codec)?,
        })
    }

    /// Positions of the arrays in the bytes of the raw block.
    #[must_use]
    pub fn layout(&self, genes: GeneWidth) -> BlockLayout {
        BlockLayout::new(usize::from(self.rows), self.entries as usize, genes, self.value_width)
    }
}

/// The starts of a raw block's three arrays, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLayout {
    /// Start of the gene ids; the row pointers start at 0.
    pub genes: usize,
    /// Start of the values.
    pub values: usize,
    /// Total bytes.
    pub bytes: usize,
}

impl BlockLayout {
    /// The layout of a block with this many rows and entries.
    #[must_use]
    pub fn new(rows: usize, entries: usize, gene_width: GeneWidth, value_width: ValueWidth) -> Self {
        let genes = (4 * (rows + 1)).next_multiple_of(8);
        let values = (genes + entries * gene_width.bytes()).next_multiple_of(8);
        Self { genes, values, bytes: (values + entries * value_width.bytes()).next_multiple_of(8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_entry_reads_back_as_it_was_written() {
        let entry = BlockEntry {
            offset: 1 << 40,
            bytes: 12_345,
            checksum: 0xfeed_beef,
            entries: 4_000_000_000,
            rows: 32,
            value_width: ValueWidth::F32,
            codec: Codec::Zstd,
        };
        assert_eq!(BlockEntry::from_bytes(&entry.to_bytes()), Some(entry));
    }

    #[test]
    fn arrays_of_a_block_start_at_multiples_of_eight() {
        let layout = BlockLayout::new(3, 5, GeneWidth::U16, ValueWidth::U8);
        assert_eq!(layout, BlockLayout { genes: 16, values: 32, bytes: 40 });
    }
}
