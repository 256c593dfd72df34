//! Packs runs of blocks into blocks: aligned arrays, checksums, zstd if requested.

use reader::{packed::Packer, records::RowRecord, row_layout::write_rows};
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

use super::block_run::BlockRun;

/// Blocks as stored on disk, one after another.
#[derive(Debug, Default)]
pub struct PackedBlockRun {
    /// The entries of the blocks; offsets count from the start of `bytes`.
    pub blocks: Vec<BlockEntry>,
    /// The blocks' bytes, each padded to [`BLOCK_ALIGNMENT`].
    pub bytes: Vec<u8>,
    /// The cell of each row.
    pub cells: Vec<CellIndex>,
}

impl ByteSize for PackedBlockRun {
    fn byte_size(&self) -> usize {
        self.bytes.byte_size() + self.cells.byte_size()
    }
}

/// Packs runs of blocks, on any number of threads.
#[derive(Clone, Debug)]
pub struct BlockRunPacker {
    gene_width: GeneWidth,
    codec: Codec,
    spare: Pool<PackedBlockRun>,
    workspaces: Pool<PackWorkspace>,
}

/// Buffers for packing a run of blocks.
#[derive(Default)]
struct PackWorkspace {
    unpacked: Vec<u8>,
    /// Created when it is first needed.
    packer: Option<Packer>,
}

impl std::fmt::Debug for PackWorkspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").field("unpacked", &self.unpacked.len()).finish_non_exhaustive()
    }
}

impl BlockRunPacker {
    /// Creates a packer for raw or zstd blocks.
    #[must_use]
    pub fn new(gene_width: GeneWidth, codec: Codec) -> Self {
        Self { gene_width, codec, spare: Pool::default(), workspaces: Pool::default() }
    }

    /// Packs a run of blocks.
    ///
    /// # Errors
    /// Only if zstd refuses to compress.
    pub fn pack(&self, run: &BlockRun) -> Result<Pooled<PackedBlockRun>, BoxError> {
        let mut packed = self.spare.take(PackedBlockRun::default);
        let PackedBlockRun { blocks, bytes, cells } = &mut *packed;
        blocks.clear();
        bytes.clear();
        cells.clear();
        let mut rows: Vec<RowRecord<'_>> = Vec::new();
        for (cell, record) in run.rows() {
            cells.push(cell);
            rows.push(record);
        }
        let mut work = self.workspaces.take(PackWorkspace::default);
        for rows in rows.chunks(BLOCK_ROWS as usize) {
            let width = rows.iter().map(|row| row.width).max().unwrap_or(ValueWidth::U8);
            let entries = rows.iter().map(|row| row.entries).sum();
            let layout = BlockLayout::new(rows.len(), entries, self.gene_width, width);
            let offset = bytes.len();
            match self.codec {
                Codec::Raw | Codec::InPlace => {
                    bytes.resize(offset + layout.bytes, 0);
                    write_rows(rows, &layout, width, &mut bytes[offset..])?;
                }
                Codec::Zstd => {
                    let PackWorkspace { unpacked, packer } = &mut *work;
                    unpacked.clear();
                    unpacked.resize(layout.bytes, 0);
                    write_rows(rows, &layout, width, unpacked)?;
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
