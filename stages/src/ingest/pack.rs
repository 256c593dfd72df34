//! Packs slabs into blocks: aligned arrays, checksums, zstd if requested.

use schemas::{
    ByteSize,
    atlas::{BLOCK_ALIGNMENT, BLOCK_ROWS, BlockEntry, BlockLayout, Codec, GeneWidth, ValueWidth},
    ids::CellIndex,
    numbers::to_usize,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{records::Record, slab::Slab};
use crate::{
    BoxError,
    packed::Packer,
    recycle::{Pool, Pooled},
};

/// Blocks as they will lie on disk, one after another.
#[derive(Debug, Default)]
pub struct PackedSlab {
    /// Offsets count from the start of `bytes`.
    pub blocks: Vec<BlockEntry>,
    /// The blocks' bytes, each padded to [`BLOCK_ALIGNMENT`].
    pub bytes: Vec<u8>,
    /// The cell of each row.
    pub cells: Vec<CellIndex>,
}

impl ByteSize for PackedSlab {
    fn byte_size(&self) -> usize {
        self.bytes.byte_size() + self.cells.byte_size()
    }
}

/// Packs slabs, on any number of threads.
#[derive(Clone, Debug)]
pub struct SlabPacker {
    gene_width: GeneWidth,
    codec: Codec,
    spare: Pool<PackedSlab>,
    workspaces: Pool<Workspace>,
}

/// The settings for packing a slab.
#[derive(Default)]
struct Workspace {
    unpacked: Vec<u8>,
    /// Made when it is first needed.
    packer: Option<Packer>,
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").field("unpacked", &self.unpacked.len()).finish_non_exhaustive()
    }
}

impl SlabPacker {
    /// A packer of raw or zstd blocks.
    #[must_use]
    pub fn new(gene_width: GeneWidth, codec: Codec) -> Self {
        Self { gene_width, codec, spare: Pool::default(), workspaces: Pool::default() }
    }

    /// Packs a slab.
    ///
    /// # Errors
    /// Only if zstd refuses to compress.
    pub fn pack(&self, slab: &Slab) -> Result<Pooled<PackedSlab>, BoxError> {
        let mut packed = self.spare.take(PackedSlab::default);
        let PackedSlab { blocks, bytes, cells } = &mut *packed;
        blocks.clear();
        bytes.clear();
        cells.clear();
        let mut rows: Vec<Record<'_>> = Vec::new();
        for (cell, record) in slab.rows() {
            cells.push(cell);
            rows.push(record);
        }
        let mut work = self.workspaces.take(Workspace::default);
        for rows in rows.chunks(BLOCK_ROWS as usize) {
            let width = rows.iter().map(|row| row.width).max().unwrap_or(ValueWidth::U8);
            let entries = rows.iter().map(|row| row.entries).sum();
            let layout = BlockLayout::new(rows.len(), entries, self.gene_width, width);
            let offset = bytes.len();
            match self.codec {
                Codec::Raw | Codec::InPlace => {
                    bytes.resize(offset + layout.bytes, 0);
                    lay_out(rows, &layout, width, &mut bytes[offset..])?;
                }
                Codec::Zstd => {
                    let Workspace { unpacked, packer } = &mut *work;
                    unpacked.clear();
                    unpacked.resize(layout.bytes, 0);
                    lay_out(rows, &layout, width, unpacked)?;
                    let packer = match packer {
                        Some(packer) => packer,
                        none => none.insert(Packer::new()?),
                    };
                    packer.pack(unpacked, &layout, rows.len(), self.gene_width, bytes)?;
                }
            }
            let on_disk = &bytes[offset..];
            blocks.push(BlockEntry {
                offset: offset as u64,
                bytes: on_disk.len() as u64,
                checksum: xxh3_64(on_disk),
                entries: u32::try_from(entries)?,
                rows: u16::try_from(rows.len())?,
                value_width: width,
                codec: self.codec,
            });
            bytes.resize(bytes.len().next_multiple_of(to_usize(BLOCK_ALIGNMENT)), 0);
        }
        Ok(packed)
    }
}

/// Copies rows into the arrays of a block whose bytes are all zero.
pub(crate) fn lay_out(
    rows: &[Record<'_>],
    layout: &BlockLayout,
    width: ValueWidth,
    block: &mut [u8],
) -> Result<(), BoxError> {
    let (mut genes, mut values, mut entries) = (layout.genes, layout.values, 0_u32);
    for (row, record) in rows.iter().enumerate() {
        entries = u32::try_from(record.entries)?.checked_add(entries).ok_or("a block of more than 2^32 entries")?;
        block[4 * (row + 1)..4 * (row + 2)].copy_from_slice(&entries.to_le_bytes());
        block[genes..genes + record.genes.len()].copy_from_slice(record.genes);
        genes += record.genes.len();
        let length = record.entries * width.bytes();
        widen(record, width, &mut block[values..values + length]);
        values += length;
    }
    Ok(())
}

/// Writes a row's values in the width of its block, which is at least as wide.
fn widen(record: &Record<'_>, width: ValueWidth, out: &mut [u8]) {
    if record.width == width {
        out.copy_from_slice(record.values);
        return;
    }
    let counts = record.values.chunks_exact(record.width.bytes()).map(|bytes| match *bytes {
        [byte] => u32::from(byte),
        [a, b] => u32::from(u16::from_le_bytes([a, b])),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => 0,
    });
    for (place, count) in out.chunks_exact_mut(width.bytes()).zip(counts) {
        match width {
            ValueWidth::F32 => place.copy_from_slice(&schemas::batch::count_to_f32(count).to_le_bytes()),
            // Little-endian: the low bytes come first, and the others are zero.
            ValueWidth::U8 | ValueWidth::U16 | ValueWidth::U32 => {
                place.copy_from_slice(&count.to_le_bytes()[..width.bytes()]);
            }
        }
    }
}
