//! Slabs become blocks: narrow types, checksums, zstd where asked for.

use arrow::array::RecordBatch;
use schemas::{
    ByteSize,
    atlas::{BLOCK_ALIGNMENT, BLOCK_ROWS, BlockEntry, BlockLayout, Codec, GeneWidth, ValueWidth},
    ids::CellIndex,
};
use xxhash_rust::xxh3::xxh3_64;

use super::slab::Slab;
use crate::BoxError;

/// zstd's level: the lowest one already halves raw blocks and costs least.
const ZSTD_LEVEL: i32 = 1;
/// Bad values that are named one by one.
pub(crate) const NAMED_BAD_VALUES: usize = 5;
/// Counts from here on are not exact in f32.
const LARGEST_COUNT: f32 = 16_777_216.0;

/// A value that can't be taken: where it stands and what it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BadValue {
    /// The cell.
    pub cell: u64,
    /// The gene.
    pub gene: u32,
    /// The value.
    pub value: f32,
}

/// What was seen among values.
#[derive(Clone, Debug, Default)]
pub struct ValueCensus {
    /// The first NaN or infinite values.
    pub not_finite: Vec<BadValue>,
    /// How many there are.
    pub not_finite_count: u64,
    /// The first negative values.
    pub negative: Vec<BadValue>,
    /// How many there are.
    pub negative_count: u64,
    /// The first value that is no integer.
    pub fraction: Option<BadValue>,
}

impl ValueCensus {
    fn count(&mut self, seen: BadValue) {
        if !seen.value.is_finite() {
            self.not_finite_count += 1;
            keep_first(&mut self.not_finite, seen);
            return;
        }
        if seen.value < 0.0 {
            self.negative_count += 1;
            keep_first(&mut self.negative, seen);
        }
        if seen.value.fract() != 0.0 || LARGEST_COUNT < seen.value {
            self.fraction.get_or_insert(seen);
        }
    }

    /// Adds what was seen in later rows.
    pub fn merge(&mut self, later: Self) {
        self.not_finite_count += later.not_finite_count;
        self.negative_count += later.negative_count;
        later.not_finite.into_iter().for_each(|seen| keep_first(&mut self.not_finite, seen));
        later.negative.into_iter().for_each(|seen| keep_first(&mut self.negative, seen));
        self.fraction = self.fraction.or(later.fraction);
    }
}

fn keep_first(list: &mut Vec<BadValue>, seen: BadValue) {
    if list.len() < NAMED_BAD_VALUES {
        list.push(seen);
    }
}

/// Blocks as they will lie on disk, one after another.
#[derive(Debug)]
pub struct PackedSlab {
    /// The first cell.
    pub first: CellIndex,
    /// Offsets count from the start of `bytes`.
    pub blocks: Vec<BlockEntry>,
    /// The blocks' bytes, each padded to [`BLOCK_ALIGNMENT`].
    pub bytes: Vec<u8>,
    /// Annotations.
    pub obs: RecordBatch,
    /// What was seen among the values.
    pub census: ValueCensus,
}

impl ByteSize for PackedSlab {
    fn byte_size(&self) -> usize {
        self.bytes.byte_size() + self.obs.byte_size()
    }
}

/// Packs a slab.
///
/// # Errors
/// Only if zstd refuses to compress.
pub fn pack(slab: &Slab, gene_width: GeneWidth, codec: Codec) -> Result<PackedSlab, BoxError> {
    let mut packed = PackedSlab {
        first: slab.first,
        blocks: Vec::new(),
        bytes: Vec::with_capacity(slab.genes.len() * (gene_width.bytes() + 1)),
        obs: slab.obs.clone(),
        census: ValueCensus::default(),
    };
    let mut unpacked = Vec::new();
    for (index, pointers) in blocks_of(&slab.row_pointers).enumerate() {
        let first = slab.first.0 + index as u64 * u64::from(BLOCK_ROWS);
        let entries = pointers[0]..pointers[pointers.len() - 1];
        let (genes, values) = (&slab.genes[entries.clone()], &slab.values[entries.clone()]);
        let width = narrowest(
            values,
            |at| {
                let row = pointers.partition_point(|pointer| *pointer <= entries.start + at) - 1;
                BadValue { cell: first + row as u64, gene: genes[at], value: values[at] }
            },
            &mut packed.census,
        );
        let rows = pointers.len() - 1;
        let layout = BlockLayout::new(rows, entries.len(), gene_width, width);
        unpacked.clear();
        unpacked.reserve(layout.bytes);
        for pointer in pointers {
            unpacked.extend_from_slice(&u32::try_from(pointer - entries.start)?.to_le_bytes());
        }
        unpacked.resize(layout.genes, 0);
        write_genes(genes, gene_width, &mut unpacked);
        unpacked.resize(layout.values, 0);
        write_values(values, width, &mut unpacked);
        unpacked.resize(layout.bytes, 0);

        let offset = packed.bytes.len() as u64;
        match codec {
            Codec::Raw => packed.bytes.extend_from_slice(&unpacked),
            Codec::Zstd => packed.bytes.extend_from_slice(&zstd::bulk::compress(&unpacked, ZSTD_LEVEL)?),
        }
        let on_disk = &packed.bytes[usize::try_from(offset)?..];
        packed.blocks.push(BlockEntry {
            offset,
            bytes: on_disk.len() as u64,
            checksum: xxh3_64(on_disk),
            entries: u32::try_from(entries.len())?,
            rows: u16::try_from(rows)?,
            value_width: width,
            codec,
        });
        packed.bytes.resize(packed.bytes.len().next_multiple_of(usize::try_from(BLOCK_ALIGNMENT)?), 0);
    }
    Ok(packed)
}

/// The row pointers of each block: rows + 1 numbers.
fn blocks_of(row_pointers: &[usize]) -> impl Iterator<Item = &[usize]> {
    let rows = row_pointers.len() - 1;
    (0..rows)
        .step_by(BLOCK_ROWS as usize)
        .map(move |first| &row_pointers[first..=rows.min(first + BLOCK_ROWS as usize)])
}

/// The narrowest width that holds all values; values that are no counts are entered in the census.
fn narrowest(values: &[f32], place: impl Fn(usize) -> BadValue, census: &mut ValueCensus) -> ValueWidth {
    let mut largest = 0.0_f32;
    let mut counts = true;
    for (at, value) in values.iter().enumerate() {
        let is_count = 0.0 <= *value && value.fract() == 0.0 && *value <= LARGEST_COUNT;
        if !is_count {
            census.count(place(at));
            counts = false;
        }
        largest = largest.max(*value);
    }
    match counts {
        false => ValueWidth::F32,
        true if largest <= 255.0 => ValueWidth::U8,
        true if largest <= 65_535.0 => ValueWidth::U16,
        true => ValueWidth::U32,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "genes were checked against the gene count, from which the width follows"
)]
fn write_genes(genes: &[u32], width: GeneWidth, out: &mut Vec<u8>) {
    match width {
        GeneWidth::U16 => out.extend(genes.iter().flat_map(|gene| (*gene as u16).to_le_bytes())),
        GeneWidth::U32 => out.extend(genes.iter().flat_map(|gene| gene.to_le_bytes())),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the width was chosen so that every value fits it"
)]
fn write_values(values: &[f32], width: ValueWidth, out: &mut Vec<u8>) {
    match width {
        ValueWidth::U8 => out.extend(values.iter().map(|value| *value as u8)),
        ValueWidth::U16 => out.extend(values.iter().flat_map(|value| (*value as u16).to_le_bytes())),
        ValueWidth::U32 => out.extend(values.iter().flat_map(|value| (*value as u32).to_le_bytes())),
        ValueWidth::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
    }
}
