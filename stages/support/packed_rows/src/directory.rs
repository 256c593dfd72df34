//! The directory of a block of packed rows.

use crate::{
    SLACK,
    decode::{InvalidRow, PackedRow},
};

/// Bytes of one entry of the directory.
pub(crate) const HEADER_BYTES: usize = 8;
/// The gene code of ids that are stored as they are.
pub(crate) const PLAIN_IDS: u8 = 14;
/// The gene code of a bitmap of all genes.
pub(crate) const BITMAP: u8 = 15;
/// Most low bits of an id.
pub(crate) const MOST_LOW_BITS: u8 = 8;
/// Most bits of a count.
pub(crate) const MOST_COUNT_BITS: u8 = 7;

/// How a row is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowHeader {
    /// Its start in the block.
    pub(crate) offset: u32,
    /// Number of entries, at most [`crate::MOST_ENTRIES`].
    pub(crate) entries: u32,
    /// Number of low bits, [`PLAIN_IDS`] or [`BITMAP`].
    pub(crate) gene_code: u8,
    /// Bits of a count.
    pub(crate) count_bits: u8,
    /// Whether some counts are 255 or more.
    pub(crate) has_wide: bool,
}

impl RowHeader {
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let description = self.entries
            | u32::from(self.gene_code) << 24
            | u32::from(self.count_bits) << 28
            | u32::from(self.has_wide) << 31;
        bytemuck::cast([self.offset.to_le(), description.to_le()])
    }

    #[inline]
    pub(crate) fn from_bytes(bytes: [u8; HEADER_BYTES]) -> Self {
        let [offset, description]: [u32; 2] = bytemuck::cast(bytes);
        let description = u32::from_le(description);
        Self {
            offset: u32::from_le(offset),
            entries: description & 0xff_ffff,
            gene_code: (description >> 24) as u8 & 15,
            count_bits: (description >> 28) as u8 & 7,
            has_wide: description >> 31 != 0,
        }
    }
}

/// A block of packed rows.
#[derive(Clone, Copy, Debug)]
pub struct PackedRows<'a> {
    /// The block, and [`SLACK`] bytes or more after it.
    bytes: &'a [u8],
    length: usize,
    rows: usize,
    genes: u32,
}

impl<'a> PackedRows<'a> {
    /// The block of `length` bytes at the start of `bytes`, with this many rows of a matrix with this many genes. `None` if
    /// it is shorter than its directory, or less than [`SLACK`] bytes follow it.
    #[must_use]
    #[inline]
    pub fn new(bytes: &'a [u8], length: usize, rows: usize, genes: u32) -> Option<Self> {
        let fits = HEADER_BYTES * (rows + 1) <= length && length.checked_add(SLACK)? <= bytes.len();
        fits.then_some(Self { bytes, length, rows, genes })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The bytes of the directory that describe a row, to be prefetched.
    #[must_use]
    #[inline]
    pub fn header_bytes(&self, row: usize) -> &'a [u8] {
        &self.bytes[HEADER_BYTES * row..HEADER_BYTES * (row + 2)]
    }

    /// A row.
    ///
    /// # Errors
    /// A directory that does not place it in the block.
    ///
    /// # Panics
    /// Unless `row` is one of the block's.
    #[inline]
    pub fn row(&self, row: usize) -> Result<PackedRow<'a>, InvalidRow> {
        assert!(row < self.rows, "a row of the block");
        let (header, next) = (self.header(row), self.header(row + 1));
        let (start, end) = (header.offset as usize, next.offset as usize);
        if end < start || self.length < end {
            return Err(InvalidRow);
        }
        Ok(PackedRow::new(&self.bytes[start..], end - start, header, self.genes))
    }

    /// Whether the directory places rows one after another, from its own end to the block's.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        let offsets = || (0..=self.rows).map(|row| self.header(row).offset as usize);
        offsets().next() == Some(HEADER_BYTES * (self.rows + 1))
            && offsets().next_back() == Some(self.length)
            && offsets().is_sorted()
    }

    /// Number of entries of all rows, as the directory says.
    #[must_use]
    pub fn entries(&self) -> u64 {
        (0..self.rows).map(|row| u64::from(self.header(row).entries)).sum()
    }

    #[inline]
    fn header(&self, row: usize) -> RowHeader {
        let start = HEADER_BYTES * row;
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(&self.bytes[start..start + HEADER_BYTES]);
        RowHeader::from_bytes(bytes)
    }
}
