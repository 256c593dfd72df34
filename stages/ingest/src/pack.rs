//! Packs slabs into blocks: aligned arrays, checksums, zstd if requested.

use reader::{packed::Packer, records::Record, row_layout::lay_out};
use schemas::{
    ByteSize,
    atlas::{BLOCK_ALIGNMENT, BLOCK_ROWS, BlockEntry, BlockLayout, Codec, GeneWidth, ValueWidth},
    ids::CellIndex,
    numbers::to_usize,
};
use stage::{
    BoxError,
    pool::{Pool, Pooled},
};
use xxhash_rust::xxh3::xxh3_64;

use super::slab::Slab;

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
