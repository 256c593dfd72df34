//! Rows in a narrow form, in which they wait until they are laid out in blocks.
//!
//! ```text
//! entries u32 | value width u8 | unused 3 bytes, zero | genes u16 or u32 × entries | values × entries
//! ```
//!
//! Nothing is aligned. The values of each row are as narrow as they can be.

use schemas::{
    ByteSize,
    atlas::{GeneWidth, ValueWidth},
    ids::CellIndex,
};

/// Bytes before a record's genes.
pub const HEADER_BYTES: usize = 8;
/// From here on, f32 can't represent every integer, so larger values are not counts.
pub const LARGEST_COUNT: f32 = 16_777_216.0;
/// Adding this to a smaller count leaves the count in the low bits of the sum.
pub(crate) const MANTISSA: f32 = 8_388_608.0;

/// The type of a row's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowValues {
    /// All are counts, of this width.
    Counts(ValueWidth),
    /// Some are not counts: negative, fractions, or not finite.
    Other,
}

impl RowValues {
    /// Finds the type of values. Looks at every value without stopping early, since loops without branches are
    /// faster.
    #[must_use]
    pub fn detect(values: &[f32]) -> Self {
        let small = values.iter().fold(true, |so_far, value| {
            let rounded = (value + MANTISSA) - MANTISSA;
            so_far & (*value >= 0.0) & (*value < MANTISSA) & (rounded == *value)
        });
        let largest = values.iter().fold(0.0_f32, |largest, value| if largest < *value { *value } else { largest });
        let is_count = |value: &f32| 0.0 <= *value && *value <= LARGEST_COUNT && value.fract() == 0.0;
        match small || values.iter().all(is_count) {
            false => Self::Other,
            true if largest <= 255.0 => Self::Counts(ValueWidth::U8),
            true if largest <= 65_535.0 => Self::Counts(ValueWidth::U16),
            true => Self::Counts(ValueWidth::U32),
        }
    }

    /// The narrowest width that holds such values.
    #[must_use]
    pub fn width(self) -> ValueWidth {
        match self {
            Self::Counts(width) => width,
            Self::Other => ValueWidth::F32,
        }
    }
}

/// One row's record.
#[derive(Clone, Copy, Debug)]
pub struct RowRecord<'a> {
    /// Number of entries.
    pub entries: usize,
    /// The width of its values.
    pub width: ValueWidth,
    /// Its gene ids, little-endian.
    pub genes: &'a [u8],
    /// Its values, little-endian.
    pub values: &'a [u8],
}

impl<'a> RowRecord<'a> {
    /// The record at the start of `bytes`, and its length in bytes; `None` if the bytes hold no complete record.
    #[must_use]
    pub fn read(bytes: &'a [u8], gene_width: GeneWidth) -> Option<(Self, usize)> {
        let header: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        let entries = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let width = ValueWidth::from_code(header[4])?;
        let values_at = HEADER_BYTES + entries * gene_width.bytes();
        let end = values_at + entries * width.bytes();
        let (genes, values) = (bytes.get(HEADER_BYTES..values_at)?, bytes.get(values_at..end)?);
        Some((Self { entries, width, genes, values }, end))
    }
}

/// The location of a record, and the cell whose row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSpan {
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
    /// Its cell.
    pub cell: CellIndex,
}

/// Records in memory, in any order.
#[derive(Clone, Debug)]
pub struct RowRecords {
    gene_width: GeneWidth,
    bytes: Vec<u8>,
    spans: Vec<RecordSpan>,
}

impl RowRecords {
    /// An empty list of records.
    #[must_use]
    pub fn new(gene_width: GeneWidth) -> Self {
        Self { gene_width, bytes: Vec::new(), spans: Vec::new() }
    }

    /// Removes all records, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.spans.len()
    }

    /// The cell of a row.
    #[must_use]
    pub fn cell(&self, row: usize) -> CellIndex {
        self.spans[row].cell
    }

    /// Numbers the cells of the rows consecutively, starting with `first`.
    pub fn number_from(&mut self, first: u64) {
        for (cell, span) in (first..).zip(&mut self.spans) {
            span.cell = CellIndex(cell);
        }
    }

    /// How gene ids are stored.
    #[must_use]
    pub fn gene_width(&self) -> GeneWidth {
        self.gene_width
    }

    /// The bytes of one record.
    #[must_use]
    pub fn bytes_of(&self, row: usize) -> &[u8] {
        &self.bytes[self.spans[row].start..self.spans[row].end]
    }

    /// One record.
    ///
    /// # Panics
    /// Never: every pushed row is complete.
    #[must_use]
    pub fn record(&self, row: usize) -> RowRecord<'_> {
        RowRecord::read(self.bytes_of(row), self.gene_width).expect("a row is pushed whole").0
    }

    /// Its arrays, to be filled in another way: the bytes, and the location of each record in them.
    pub fn parts_mut(&mut self) -> (&mut Vec<u8>, &mut Vec<RecordSpan>) {
        (&mut self.bytes, &mut self.spans)
    }

    /// Reserves memory for this many rows, and for this many entries with counts up to 255.
    pub fn reserve(&mut self, rows: usize, entries: usize) {
        self.spans.reserve(rows);
        self.bytes.reserve(rows * HEADER_BYTES + entries * (self.gene_width.bytes() + 1));
    }

    /// Appends a row whose genes fit the width, as a row of cell 0.
    ///
    /// # Panics
    /// If a row has 2^32 entries or more, which no matrix of 32-bit genes has.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "genes were checked against the gene count, from which their width follows; the low bits of a sum are meant"
    )]
    pub fn push(&mut self, genes: &[u32], values: &[f32], kind: RowValues) {
        let width = kind.width();
        let entries = u32::try_from(genes.len()).expect("a row has no more entries than there are genes");
        let start = self.bytes.len();
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&entries.to_le_bytes());
        header[4] = width.code();
        self.bytes.extend_from_slice(&header);
        match self.gene_width {
            GeneWidth::U16 => append(&mut self.bytes, genes, |gene| (gene as u16).to_le_bytes()),
            GeneWidth::U32 => append(&mut self.bytes, genes, u32::to_le_bytes),
        }
        match width {
            ValueWidth::U8 => append(&mut self.bytes, values, |value| [(value + MANTISSA).to_bits() as u8]),
            ValueWidth::U16 => {
                append(&mut self.bytes, values, |value| ((value + MANTISSA).to_bits() as u16).to_le_bytes());
            }
            ValueWidth::U32 => append(&mut self.bytes, values, |value| count(value).to_le_bytes()),
            ValueWidth::F32 => append(&mut self.bytes, values, f32::to_le_bytes),
        }
        self.spans.push(RecordSpan { start, end: self.bytes.len(), cell: CellIndex::default() });
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the width says that it is a count")]
fn count(value: f32) -> u32 {
    value as u32
}

fn append<T: Copy, const N: usize>(out: &mut Vec<u8>, items: &[T], bytes: impl Fn(T) -> [u8; N]) {
    let start = out.len();
    out.resize(start + N * items.len(), 0);
    for (place, item) in out[start..].as_chunks_mut::<N>().0.iter_mut().zip(items) {
        *place = bytes(*item);
    }
}

impl ByteSize for RowRecords {
    fn byte_size(&self) -> usize {
        self.bytes.byte_size() + size_of::<RecordSpan>() * self.spans.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counts_of_the_narrowest_width_or_no_counts() {
        use RowValues::{Counts, Other};
        assert_eq!(RowValues::detect(&[]), Counts(ValueWidth::U8));
        assert_eq!(RowValues::detect(&[0.0, 255.0]), Counts(ValueWidth::U8));
        assert_eq!(RowValues::detect(&[1.0, 256.0]), Counts(ValueWidth::U16));
        assert_eq!(RowValues::detect(&[65_535.0]), Counts(ValueWidth::U16));
        assert_eq!(RowValues::detect(&[65_536.0]), Counts(ValueWidth::U32));
        assert_eq!(RowValues::detect(&[8_388_608.0, 16_777_216.0]), Counts(ValueWidth::U32));
        for other in [-1.0, 0.5, 16_777_218.0, f32::NAN, f32::INFINITY, 8_388_607.5] {
            assert_eq!(RowValues::detect(&[1.0, other]), Other, "{other}");
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_pushed() {
        for (gene_width, values) in [
            (GeneWidth::U16, vec![1.0, 255.0]),
            (GeneWidth::U32, vec![1.0, 65_535.0]),
            (GeneWidth::U16, vec![3.0, 16_777_216.0]),
            (GeneWidth::U32, vec![-0.5, f32::MAX]),
        ] {
            let mut records = RowRecords::new(gene_width);
            records.push(&[], &[], RowValues::detect(&[]));
            records.push(&[7, 65_000], &values, RowValues::detect(&values));
            assert_eq!(records.rows(), 2);
            let record = records.record(1);
            assert_eq!((records.record(0).entries, record.entries), (0, 2));
            let genes: Vec<u32> = match gene_width {
                GeneWidth::U16 => {
                    bytemuck::pod_collect_to_vec::<u8, u16>(record.genes).into_iter().map(u32::from).collect()
                }
                GeneWidth::U32 => bytemuck::pod_collect_to_vec(record.genes),
            };
            assert_eq!(genes, [7, 65_000]);
            let read: Vec<f32> = match record.width {
                ValueWidth::U8 => record.values.iter().map(|value| f32::from(*value)).collect(),
                ValueWidth::U16 => {
                    bytemuck::pod_collect_to_vec::<u8, u16>(record.values).into_iter().map(f32::from).collect()
                }
                ValueWidth::U32 => bytemuck::pod_collect_to_vec::<u8, u32>(record.values)
                    .into_iter()
                    .map(|value| value as f32)
                    .collect(),
                ValueWidth::F32 => bytemuck::pod_collect_to_vec(record.values),
            };
            assert_eq!(read, values);
        }
    }
}
