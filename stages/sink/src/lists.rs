//! Writes lists of equal length without nulls as pages of Parquet.
//!
//! Arrow's writer determines for every number where lists begin and which numbers are null. For such lists,
//! both are known in advance: the levels are the same few bytes for every row. What remains is to separate
//! the bytes of the numbers by their position in the number, and to compress them. The number of rows in a
//! page does not depend on how the rows arrive, so the bytes depend only on the rows.
//!
//! Pages: <https://parquet.apache.org/docs/file-format/data-pages/>; levels and `BYTE_STREAM_SPLIT`:
//! <https://parquet.apache.org/docs/file-format/data-pages/encodings/>.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Float32Type,
};
use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding, PageType, ZstdLevel},
    column::{
        page::{CompressedPage, Page, PageWriter},
        writer::ColumnCloseResult,
    },
    file::{
        metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats},
        writer::{SerializedPageWriter, TrackedWrite},
    },
    schema::types::ColumnDescPtr,
};
use simd::{InstructionSet, Kernel, widest};
use stage::BoxError;
use zstd::bulk::Compressor;

use super::precision::{OutputPrecision, to_bfloat16};

/// Approximate size of the numbers of a page, in bytes.
const PAGE_BYTES: usize = 1 << 20;
/// Bytes of a number.
const NUMBER: usize = size_of::<f32>();

/// A column of lists, in the pieces in which it arrived.
#[derive(Debug)]
pub(super) struct Lists<'a> {
    length: usize,
    pieces: Vec<&'a [f32]>,
}

impl<'a> Lists<'a> {
    /// Column `at` of the tables; `None` if it is not a column of lists that can be written here.
    pub(super) fn of(tables: &'a [RecordBatch], at: usize) -> Option<Self> {
        let mut length = 0;
        let piece = |table: &'a RecordBatch| {
            let lists = table.column(at).as_fixed_size_list_opt()?;
            let numbers = lists.values().as_primitive_opt::<Float32Type>()?;
            length = usize::try_from(lists.value_length()).ok()?;
            (lists.null_count() == 0 && numbers.null_count() == 0).then(|| &numbers.values()[..])
        };
        let pieces = tables.iter().map(piece).collect::<Option<_>>()?;
        (length > 0).then_some(Self { length, pieces })
    }

    /// The bytes of a column chunk, and its metadata.
    ///
    /// # Errors
    /// This fails only through a bug.
    pub(super) fn encode(
        &self,
        column: &ColumnDescPtr,
        precision: OutputPrecision,
    ) -> Result<(Bytes, ColumnCloseResult), BoxError> {
        let level = ZstdLevel::default();
        let mut compressor = Compressor::new(level.compression_level())?;
        let rows = self.pieces.iter().map(|piece| piece.len()).sum::<usize>() / self.length;
        let rows_of_a_page = (PAGE_BYTES / (NUMBER * self.length)).max(1);
        let mut rest = RemainingNumbers { pieces: &self.pieces, from: 0 };
        let mut written = TrackedWrite::new(Vec::with_capacity(NUMBER * rows * self.length));
        let (mut stored, mut offsets, mut unpacked) = (0, OffsetIndexBuilder::new(), 0);
        for first in (0..rows).step_by(rows_of_a_page) {
            let rows = rows_of_a_page.min(rows - first);
            let mut body = levels(rows, self.length, column.max_def_level())?;
            rest.set_apart(rows * self.length, precision, &mut body);
            let page = Page::DataPage {
                buf: compressor.compress(&body)?.into(),
                num_values: u32::try_from(rows * self.length)?,
                encoding: Encoding::BYTE_STREAM_SPLIT,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            };
            let page = SerializedPageWriter::new(&mut written).write_page(CompressedPage::new(page, body.len()))?;
            offsets.append_row_count(i64::try_from(rows)?);
            offsets.append_offset_and_size(i64::try_from(page.offset)?, i32::try_from(page.compressed_size)?);
            unpacked += page.uncompressed_size;
            stored += 1;
        }
        let bytes = Bytes::from(written.into_inner()?);
        let metadata = ColumnChunkMetaData::builder(column.clone())
            .set_compression(Compression::ZSTD(level))
            .set_encodings(vec![Encoding::RLE, Encoding::BYTE_STREAM_SPLIT])
            .set_page_encoding_stats(vec![PageEncodingStats {
                page_type: PageType::DATA_PAGE,
                encoding: Encoding::BYTE_STREAM_SPLIT,
                count: stored,
            }])
            .set_num_values(i64::try_from(rows * self.length)?)
            .set_total_compressed_size(i64::try_from(bytes.len())?)
            .set_total_uncompressed_size(i64::try_from(unpacked)?)
            .set_data_page_offset(0)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(offsets.build()),
        };
        Ok((bytes, close))
    }
}

/// Numbers, some of which have been taken.
struct RemainingNumbers<'a> {
    pieces: &'a [&'a [f32]],
    /// Number of values already taken from the first piece.
    from: usize,
}

impl RemainingNumbers<'_> {
    /// Takes this many numbers and appends the lowest bytes of all of them, then the second ones, and so on.
    fn set_apart(&mut self, count: usize, precision: OutputPrecision, to: &mut Vec<u8>) {
        let start = to.len();
        to.resize(start + NUMBER * count, 0);
        let mut place = 0;
        while let ([first, others @ ..], true) = (self.pieces, place < count) {
            let numbers = &first[self.from..first.len().min(self.from + count - place)];
            for (byte, bytes) in to[start..].chunks_exact_mut(count).enumerate() {
                let to = &mut bytes[place..place + numbers.len()];
                match precision {
                    OutputPrecision::Single => widest(CopyBytes { numbers, rounded: |number| number, byte, to }),
                    OutputPrecision::Bfloat16 => widest(CopyBytes { numbers, rounded: to_bfloat16, byte, to }),
                }
            }
            place += numbers.len();
            self.from += numbers.len();
            if self.from == first.len() {
                (self.pieces, self.from) = (others, 0);
            }
        }
    }
}

/// Copies the same byte of each number.
struct CopyBytes<'a, F> {
    numbers: &'a [f32],
    rounded: F,
    byte: usize,
    to: &'a mut [u8],
}

impl<F: Fn(f32) -> f32> Kernel for CopyBytes<'_, F> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        let shift = 8 * self.byte;
        for (to, number) in self.to.iter_mut().zip(self.numbers) {
            *to = ((self.rounded)(*number).to_bits() >> shift).to_le_bytes()[0];
        }
    }
}

/// The levels of this many rows, run-length encoded, each kind preceded by its length: where lists begin
/// (repetition: 0 for the first number of a list, 1 for others), and that no number is null (definition:
/// always the highest level).
fn levels(rows: usize, length: usize, defined: i16) -> Result<Vec<u8>, BoxError> {
    let mut of_a_row = Vec::new();
    run(1, 0, &mut of_a_row);
    if length > 1 {
        run(length - 1, 1, &mut of_a_row);
    }
    let mut levels = u32::try_from(rows * of_a_row.len())?.to_le_bytes().to_vec();
    levels.extend(of_a_row.repeat(rows));
    let mut definitions = Vec::new();
    run(rows * length, u8::try_from(defined)?, &mut definitions);
    levels.extend(u32::try_from(definitions.len())?.to_le_bytes());
    levels.extend(definitions);
    Ok(levels)
}

/// Appends a run of one value: its length, shifted left by one bit, which is 0 for a run, with seven bits per
/// byte, lowest first; then the value.
fn run(length: usize, value: u8, to: &mut Vec<u8>) {
    let mut rest = length << 1;
    while 0x80 <= rest {
        to.push(0x80 | rest.to_le_bytes()[0]);
        rest >>= 7;
    }
    to.extend([rest.to_le_bytes()[0], value]);
}
