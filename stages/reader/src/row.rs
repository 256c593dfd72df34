//! A row of a block: slices of the block's arrays, or packed.

use packed_rows::{InvalidRow, PackedRow, WideCount};
use schemas::atlas::GeneWidth;

/// The gene ids of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GeneSlice<'a> {
    /// Up to 65,536 genes.
    U16(&'a [u16]),
    /// More genes.
    U32(&'a [u32]),
}

impl<'a> GeneSlice<'a> {
    /// The bytes, as stored.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::U16(ids) => bytemuck::cast_slice(ids),
            Self::U32(ids) => bytemuck::cast_slice(ids),
        }
    }

    /// Number of ids.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::U16(ids) => ids.len(),
            Self::U32(ids) => ids.len(),
        }
    }
}

/// The values of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueSlice<'a> {
    /// Counts up to 255.
    U8(&'a [u8]),
    /// Counts up to 65,535.
    U16(&'a [u16]),
    /// Larger counts.
    U32(&'a [u32]),
    /// Any other values.
    F32(&'a [f32]),
}

impl<'a> ValueSlice<'a> {
    /// The bytes, as stored.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::U8(values) => values,
            Self::U16(values) => bytemuck::cast_slice(values),
            Self::U32(values) => bytemuck::cast_slice(values),
            Self::F32(values) => bytemuck::cast_slice(values),
        }
    }
}

/// A row as its block stores it.
#[derive(Clone, Copy, Debug)]
pub enum StoredRow<'a> {
    /// Slices of the block's arrays.
    Raw(GeneSlice<'a>, ValueSlice<'a>),
    /// Packed: to be decoded.
    Packed(PackedCell<'a>),
}

/// A packed row, and what its block says of it.
#[derive(Clone, Copy, Debug)]
pub struct PackedCell<'a> {
    /// The row.
    pub row: PackedRow<'a>,
    /// The type of its ids.
    pub gene_width: GeneWidth,
    /// Whether its values are counts.
    pub has_counts: bool,
}

/// Memory for a decoded row.
#[derive(Debug, Default)]
pub struct RowBuffer {
    narrow_ids: Vec<u16>,
    wide_ids: Vec<u32>,
    counts: Vec<u8>,
    wide: Vec<WideCount>,
    wide_counts: Vec<u32>,
    floats: Vec<f32>,
}

impl<'a> StoredRow<'a> {
    /// Number of entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        match self {
            Self::Raw(genes, _) => genes.count(),
            Self::Packed(cell) => cell.row.entries(),
        }
    }

    /// Prefetches its bytes.
    pub fn prefetch(&self) {
        match self {
            Self::Raw(genes, values) => {
                simd::prefetch(genes.bytes());
                simd::prefetch(values.bytes());
            }
            Self::Packed(cell) => simd::prefetch(cell.row.bytes()),
        }
    }

    /// Its genes and values: where they are stored, or decoded into the buffer.
    ///
    /// # Errors
    /// A packed row that can't be decoded.
    pub fn decoded<'b>(&self, buffer: &'b mut RowBuffer) -> Result<(GeneSlice<'b>, ValueSlice<'b>), InvalidRow>
    where
        'a: 'b,
    {
        let cell = match self {
            Self::Raw(genes, values) => return Ok((*genes, *values)),
            Self::Packed(cell) => cell,
        };
        let RowBuffer { narrow_ids, wide_ids, counts, wide, wide_counts, floats } = buffer;
        narrow_ids.clear();
        wide_ids.clear();
        counts.clear();
        wide.clear();
        floats.clear();
        match (cell.gene_width, cell.has_counts) {
            (GeneWidth::U16, true) => cell.row.append_counts(narrow_ids, counts, wide)?,
            (GeneWidth::U32, true) => cell.row.append_counts(wide_ids, counts, wide)?,
            (GeneWidth::U16, false) => cell.row.append_floats(narrow_ids, floats)?,
            (GeneWidth::U32, false) => cell.row.append_floats(wide_ids, floats)?,
        }
        let genes = match cell.gene_width {
            GeneWidth::U16 => GeneSlice::U16(narrow_ids),
            GeneWidth::U32 => GeneSlice::U32(wide_ids),
        };
        let values = match (cell.has_counts, wide.is_empty()) {
            (true, true) => ValueSlice::U8(counts),
            (true, false) => {
                wide_counts.clear();
                wide_counts.extend(counts.iter().map(|count| u32::from(*count)));
                wide.iter().for_each(|wide| wide_counts[wide.entry] = wide.count);
                ValueSlice::U32(wide_counts)
            }
            (false, _) => ValueSlice::F32(floats),
        };
        Ok((genes, values))
    }
}
