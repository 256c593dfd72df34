//! Packs runs of blocks into blocks, with checksums: packed rows, or aligned arrays, compressed if requested.

use packed_rows::{PackedRowsWriter, PackedValues};
use reader::{
    compressed::Compressor,
    records::RowRecord,
    row_layout::{widen, write_rows},
};
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
    genes: u32,
    codec: Codec,
    spare: Pool<PackedBlockRun>,
    workspaces: Pool<PackWorkspace>,
}

/// Buffers for packing a run of blocks.
#[derive(Default)]
struct PackWorkspace {
    raw: Vec<u8>,
    /// Created when it is first needed.
    compressor: Option<Compressor>,
    ids: Vec<u32>,
    counts: Vec<u32>,
    floats: Vec<f32>,
}

impl std::fmt::Debug for PackWorkspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackWorkspace").field("raw", &self.raw.len()).finish_non_exhaustive()
    }
}

impl BlockRunPacker {
    /// Creates a packer of blocks of a matrix with this many genes.
    #[must_use]
    pub fn new(genes: u32, codec: Codec) -> Self {
        Self { genes, codec, spare: Pool::default(), workspaces: Pool::default() }
    }

    /// Packs a run of blocks.
    ///
    /// # Errors
    /// A block or row that is too large for the format, or if zstd refuses to compress.
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
        let gene_width = GeneWidth::for_genes(self.genes);
        for rows in rows.chunks(BLOCK_ROWS as usize) {
            let width = rows.iter().map(|row| row.width).max().unwrap_or(ValueWidth::U8);
            let entries = rows.iter().map(|row| row.entries).sum();
            let layout = BlockLayout::new(rows.len(), entries, gene_width, width);
            let offset = bytes.len();
            match self.codec {
                Codec::Raw | Codec::InPlace => {
                    bytes.resize(offset + layout.bytes, 0);
                    write_rows(rows, &layout, width, &mut bytes[offset..])?;
                }
                Codec::Packed => work.pack_rows(rows, width, self.genes, bytes)?,
                Codec::Zstd => {
                    let PackWorkspace { raw, compressor, .. } = &mut *work;
                    raw.clear();
                    raw.resize(layout.bytes, 0);
                    write_rows(rows, &layout, width, raw)?;
                    let compressor = match compressor {
                        Some(compressor) => compressor,
                        none => none.insert(Compressor::new()?),
                    };
                    compressor.compress(raw, &layout, rows.len(), gene_width, bytes)?;
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

impl PackWorkspace {
    /// Appends a block of packed rows.
    fn pack_rows(
        &mut self,
        rows: &[RowRecord<'_>],
        width: ValueWidth,
        genes: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), BoxError> {
        let Self { ids, counts, floats, .. } = self;
        let mut writer = PackedRowsWriter::new(out, rows.len(), genes);
        for row in rows {
            ids.clear();
            match GeneWidth::for_genes(genes) {
                GeneWidth::U16 => {
                    ids.extend(row.genes.as_chunks::<2>().0.iter().map(|id| u32::from(u16::from_le_bytes(*id))));
                }
                GeneWidth::U32 => ids.extend(row.genes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id))),
            }
            if width == ValueWidth::F32 {
                floats.resize(row.entries, 0.0);
                widen(row, width, bytemuck::cast_slice_mut(floats));
                writer.push(ids, PackedValues::Floats(floats))?;
            } else {
                counts.resize(row.entries, 0);
                widen(row, ValueWidth::U32, bytemuck::cast_slice_mut(counts));
                writer.push(ids, PackedValues::Counts(counts))?;
            }
        }
        writer.finish()?;
        Ok(())
    }
}
