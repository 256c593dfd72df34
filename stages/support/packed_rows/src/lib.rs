//! Rows of a sparse matrix in a third of their bytes, decoded about as fast as raw rows are copied.
//!
//! Gene ids, which ascend in a row, are Elias–Fano coded (P. Elias, J. ACM 21, 1974; R. M. Fano, 1971): the low bits of each id
//! as they are, the high bits as one set bit each in a bitmap. Counts take a few bits, and large ones an extra byte or more.
//! Nothing in a row depends on another row, and a row is one contiguous range of bytes.
//!
//! A block of rows begins with a directory, 8 bytes for each row and 8 for the end:
//!
//! ```text
//! offset u32          start of the row, from the start of the block; for the end: the block's length
//! description u32     entries: bits 0–23 | gene code: bits 24–27 | bits of a count: 28–30 | bit 31: wide counts follow
//! ```
//!
//! A row of `n` entries of `g` genes, each part starting at a byte:
//!
//! ```text
//! upper      gene code l ≤ 8: a bitmap of n + ((g − 1) >> l) bits; bit (gene >> l) + i is set for the i-th entry
//!            gene code 14: the ids as they are, u16 × n, or u32 × n if there are more than 65,536 genes
//!            gene code 15: a bitmap of g bits; the bit of every gene of the row is set
//! low        gene code l ≤ 8: the l low bits of every id
//! counts     b bits × n: the count less one; all ones: see the escapes
//! escapes    u8 for each of those: the count; 255: see the wide counts
//! wide       u32 for each of those: the count
//! ```
//!
//! Instead of counts, a row may have `f32 × n`. Numbers are little-endian, and bits are counted from the lowest.
//! A decoder reads up to [`SLACK`] bytes beyond a row.
//!
//! ```
//! use packed_rows::{PackedRows, PackedRowsWriter, PackedValues, SLACK};
//!
//! let (genes, mut bytes) = (5000, Vec::new());
//! let mut writer = PackedRowsWriter::new(&mut bytes, 2, genes);
//! writer.push(&[7, 8, 4999], PackedValues::Counts(&[1, 300, 2]))?;
//! writer.push(&[0], PackedValues::Counts(&[9]))?;
//! let length = writer.finish()?;
//! bytes.resize(length + SLACK, 0);
//!
//! let rows = PackedRows::new(&bytes, length, 2, genes).expect("a block of two rows");
//! let (mut ids, mut counts, mut wide) = (Vec::<u16>::new(), Vec::new(), Vec::new());
//! rows.row(0)?.append_counts(&mut ids, &mut counts, &mut wide)?;
//! assert_eq!((ids, counts), (vec![7, 8, 4999], vec![1, 255, 2]));
//! assert_eq!((wide[0].entry, wide[0].count), (1, 300));
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
#![expect(
    unsafe_code,
    reason = "decoding uses the processor's own instructions; every read and write is bounded before"
)]

mod decode;
mod directory;
mod encode;

pub use self::{
    decode::{GeneId, InvalidRow, PackedRow, WideCount},
    directory::PackedRows,
    encode::{PackedRowsWriter, PackedValues, RowTooLarge},
};

/// Number of readable bytes that have to follow a block.
pub const SLACK: usize = 64;
/// Most entries of a row.
pub const MOST_ENTRIES: u32 = (1 << 24) - 1;
