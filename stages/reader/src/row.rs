//! A row of a block: slices of the block's arrays, packed, or in the file of another program.

use packed_rows::{InvalidRow, PackedRow, WideCount};
use schemas::atlas::{GeneWidth, StoredNumber, ValueWidth};

use crate::records::MANTISSA;

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
    /// In an `.h5ad`, in the types of its writer.
    InPlace(InPlaceRow<'a>),
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

/// A row in an `.h5ad`.
#[derive(Clone, Copy, Debug)]
pub struct InPlaceRow<'a> {
    /// Its gene ids, 4 or 8 bytes each, little-endian, in one piece or two.
    pub(crate) indices: [&'a [u8]; 2],
    pub(crate) has_wide_indices: bool,
    /// Its values, in one piece or two.
    pub(crate) data: [&'a [u8]; 2],
    /// Their type: 32 or 64 bits.
    pub(crate) number: StoredNumber,
    /// Number of genes.
    pub(crate) genes: u32,
    /// The type that holds the values of its block.
    pub(crate) value_width: ValueWidth,
}

/// Memory for a decoded row.
#[derive(Debug, Default)]
pub struct RowBuffer {
    narrow_ids: Vec<u16>,
    wide_ids: Vec<u32>,
    counts: Vec<u8>,
    middle_counts: Vec<u16>,
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
            Self::InPlace(row) => {
                row.indices.iter().map(|piece| piece.len()).sum::<usize>() / if row.has_wide_indices { 8 } else { 4 }
            }
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
            Self::InPlace(row) => {
                simd::prefetch(row.indices[0]);
                simd::prefetch(row.data[0]);
            }
        }
    }

    /// Its genes and values: where they are stored, or decoded into the buffer.
    ///
    /// # Errors
    /// A packed row that can't be decoded, or a row in place that names other genes.
    pub fn decoded<'b>(&self, buffer: &'b mut RowBuffer) -> Result<(GeneSlice<'b>, ValueSlice<'b>), InvalidRow>
    where
        'a: 'b,
    {
        let cell = match self {
            Self::Raw(genes, values) => return Ok((*genes, *values)),
            Self::Packed(cell) => cell,
            Self::InPlace(row) => {
                buffer.clear();
                return row.converted(buffer);
            }
        };
        buffer.clear();
        let RowBuffer { narrow_ids, wide_ids, counts, wide, wide_counts, floats, .. } = buffer;
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
                wide_counts.extend(counts.iter().map(|count| u32::from(*count)));
                wide.iter().for_each(|wide| wide_counts[wide.entry] = wide.count);
                ValueSlice::U32(wide_counts)
            }
            (false, _) => ValueSlice::F32(floats),
        };
        Ok((genes, values))
    }
}

impl RowBuffer {
    fn clear(&mut self) {
        self.narrow_ids.clear();
        self.wide_ids.clear();
        self.counts.clear();
        self.middle_counts.clear();
        self.wide.clear();
        self.wide_counts.clear();
        self.floats.clear();
    }
}

impl InPlaceRow<'_> {
    /// Its genes and values in the types of its atlas, in an empty buffer.
    fn converted<'b>(&self, buffer: &'b mut RowBuffer) -> Result<(GeneSlice<'b>, ValueSlice<'b>), InvalidRow> {
        for piece in self.indices {
            let largest = match self.has_wide_indices {
                // Negative numbers are large ones without a sign.
                false => numbers(piece).map(u32::from_le_bytes).max().map(u64::from),
                true => numbers(piece).map(u64::from_le_bytes).max(),
            };
            if largest.is_some_and(|largest| u64::from(self.genes) <= largest) {
                return Err(InvalidRow);
            }
            let RowBuffer { narrow_ids, wide_ids, .. } = buffer;
            #[expect(clippy::cast_possible_truncation, reason = "ids were just compared with the number of genes")]
            match (GeneWidth::for_genes(self.genes), self.has_wide_indices) {
                (GeneWidth::U16, false) => narrow_ids.extend(numbers(piece).map(|id| u32::from_le_bytes(id) as u16)),
                (GeneWidth::U16, true) => narrow_ids.extend(numbers(piece).map(|id| u64::from_le_bytes(id) as u16)),
                (GeneWidth::U32, false) => wide_ids.extend(numbers(piece).map(u32::from_le_bytes)),
                (GeneWidth::U32, true) => wide_ids.extend(numbers(piece).map(|id| u64::from_le_bytes(id) as u32)),
            }
        }
        for piece in self.data {
            use StoredNumber::{F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
            match self.number {
                F32 => convert(numbers(piece).map(f32::from_le_bytes), self.value_width, buffer),
                F64 => convert(numbers(piece).map(f64::from_le_bytes), self.value_width, buffer),
                I32 | U32 => convert(numbers(piece).map(u32::from_le_bytes), self.value_width, buffer),
                I64 | U64 => convert(numbers(piece).map(u64::from_le_bytes), self.value_width, buffer),
                I8 | I16 | U8 | U16 => return Err(InvalidRow),
            }
        }
        let genes = match GeneWidth::for_genes(self.genes) {
            GeneWidth::U16 => GeneSlice::U16(&buffer.narrow_ids),
            GeneWidth::U32 => GeneSlice::U32(&buffer.wide_ids),
        };
        let values = match self.value_width {
            ValueWidth::U8 => ValueSlice::U8(&buffer.counts),
            ValueWidth::U16 => ValueSlice::U16(&buffer.middle_counts),
            ValueWidth::U32 => ValueSlice::U32(&buffer.wide_counts),
            ValueWidth::F32 => ValueSlice::F32(&buffer.floats),
        };
        Ok((genes, values))
    }
}

fn numbers<const N: usize>(bytes: &[u8]) -> impl ExactSizeIterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// Appends values in this width, which holds them.
fn convert<T: StoredValue>(values: impl Iterator<Item = T>, width: ValueWidth, buffer: &mut RowBuffer) {
    #[expect(clippy::cast_possible_truncation, reason = "the width holds the values of its block")]
    match width {
        ValueWidth::U8 => buffer.counts.extend(values.map(|value| value.small_count() as u8)),
        ValueWidth::U16 => buffer.middle_counts.extend(values.map(|value| value.small_count() as u16)),
        ValueWidth::U32 => buffer.wide_counts.extend(values.map(StoredValue::count)),
        ValueWidth::F32 => buffer.floats.extend(values.map(StoredValue::float)),
    }
}

/// A number as a count or a float. What was found when the atlas was made decides which, so that no conversion fails.
trait StoredValue: Copy {
    fn count(self) -> u32;

    /// The same for counts below 2^16, where it may be quicker.
    fn small_count(self) -> u32 {
        self.count()
    }

    fn float(self) -> f32;
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see the trait")]
impl StoredValue for f32 {
    fn count(self) -> u32 {
        self as u32
    }

    fn small_count(self) -> u32 {
        (self + MANTISSA).to_bits()
    }

    fn float(self) -> f32 {
        self
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see the trait")]
impl StoredValue for f64 {
    fn count(self) -> u32 {
        self as u32
    }

    fn float(self) -> f32 {
        self as f32
    }
}

#[expect(clippy::cast_possible_wrap, clippy::cast_precision_loss, reason = "the bits of a signed number")]
impl StoredValue for u32 {
    fn count(self) -> u32 {
        self
    }

    fn float(self) -> f32 {
        self as i32 as f32
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    reason = "see the trait"
)]
impl StoredValue for u64 {
    fn count(self) -> u32 {
        self as u32
    }

    fn float(self) -> f32 {
        self as i64 as f32
    }
}
