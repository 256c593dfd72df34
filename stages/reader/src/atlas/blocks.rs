//! The blocks of an atlas: in the memory map, or read into memory.

use std::{
    ops::Range,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicU64, Ordering},
};

use packed_rows::SLACK;
use schemas::{
    Error, Result,
    atlas::{BLOCK_ALIGNMENT, BLOCK_ENTRY_BYTES, BlockEntry, Codec, files},
    ids::{BlockIndex, RowIndex},
    numbers::bounded,
};
use storage::disk::hex;
use xxhash_rust::xxh3::xxh3_64;

use super::{Atlas, backed::RowsInPlace, block_storage::BlockStorage};
use crate::{
    block::{Block, BlockView, place},
    compressed::decompress,
};

/// The damage of a block whose bytes are too few; entries are checked before.
const TOO_SHORT: &str = "it is too short";

impl Atlas {
    /// An entry of `blocks.bin`, unchecked.
    fn entry_of(&self, block: BlockIndex) -> Option<BlockEntry> {
        let start = block.index() * BLOCK_ENTRY_BYTES;
        BlockEntry::from_bytes(self.0.blocks.get(start..start + BLOCK_ENTRY_BYTES)?.try_into().ok()?)
    }

    /// Prefetches a block's entry.
    pub fn prefetch_entry(&self, block: BlockIndex) {
        let start = block.index() * BLOCK_ENTRY_BYTES;
        simd::prefetch(self.0.blocks.get(start..start + BLOCK_ENTRY_BYTES).unwrap_or_default());
    }

    /// A block's position and content.
    ///
    /// # Errors
    /// An invalid entry.
    pub fn entry(&self, block: BlockIndex) -> Result<BlockEntry> {
        let entry = self.entry_of(block).ok_or_else(|| self.bad_block(block, "its entry can't be read"))?;
        let manifest = &self.0.manifest;
        let first = self.first_row(block);
        let rows = (manifest.cells - first.min(manifest.cells)).min(u64::from(manifest.block_rows));
        let layout = entry.layout(manifest.gene_width);
        let matrix = manifest.files.get(files::MATRIX).map_or(0, |entry| entry.bytes);
        let ends = entry.offset.checked_add(entry.bytes);
        let fits = u64::from(entry.rows) == rows
            && u64::from(entry.entries) <= rows * u64::from(manifest.genes)
            && entry.offset.is_multiple_of(BLOCK_ALIGNMENT)
            && ends.is_some_and(|end| end <= matrix)
            && entry.codec == manifest.codec
            && match entry.codec {
                Codec::Raw => entry.bytes == layout.bytes as u64,
                // A decoder reads beyond a row.
                Codec::Packed => ends.is_some_and(|end| end + SLACK as u64 <= matrix),
                Codec::Zstd => true,
                Codec::InPlace => entry.bytes == 0,
            };
        if !fits {
            self.0.blocks.check()?;
            return Err(self.bad_block(block, "its entry does not fit the matrix"));
        }
        Ok(entry)
    }

    /// Checks that blocks are consecutive and don't overlap.
    pub(super) fn check_entries(&self) -> Result<()> {
        let mut end = 0;
        for block in 0..self.0.manifest.blocks() {
            let block = BlockIndex(bounded(block));
            let entry = self.entry_of(block).ok_or_else(|| self.bad_block(block, "its entry can't be read"))?;
            if entry.offset < end {
                return Err(self.bad_block(block, "its entry starts before the end of the previous one"));
            }
            end = entry.offset.saturating_add(entry.bytes);
        }
        Ok(())
    }

    /// A block in the memory map; it is checked on first use. `None` if it has to be read into memory: it is compressed, read
    /// without a map, or in place and its rows are not as an atlas has them.
    ///
    /// # Errors
    /// A damaged block.
    pub fn mapped_block(&self, block: BlockIndex) -> Result<Option<BlockView<'_>>> {
        let map = match &self.0.matrix {
            BlockStorage::Map(map) if self.0.manifest.codec != Codec::Zstd => map,
            BlockStorage::InPlace(rows) => return self.mapped_in_place(rows, block),
            _ => return Ok(None),
        };
        let view = |entry: BlockEntry, place: Range<usize>| {
            // What follows a packed block is read as well, so its view goes on to the end of the map.
            let bytes = if entry.codec == Codec::Packed { &map[place.start..] } else { &map[place] };
            BlockView::new(bytes, entry, self.0.manifest.genes).ok_or_else(|| self.bad_block(block, TOO_SHORT))
        };
        if self.was_checked(block) {
            let entry = self.entry_of(block).ok_or_else(|| self.bad_block(block, "its entry can't be read"))?;
            self.0.blocks.check_pages()?;
            return Ok(Some(view(entry, self.place(block, &entry)?)?));
        }
        let entry = self.entry(block)?;
        let view = view(entry, self.place(block, &entry)?)?;
        self.check_sum(block, &entry, &map[self.place(block, &entry)?])?;
        self.check_view(block, &view)?;
        self.mark_checked(block);
        Ok(Some(view))
    }

    /// Whether blocks have to be cached in memory: compressed ones, those read without a map, and those stored in
    /// place.
    #[must_use]
    pub fn holds_blocks(&self) -> bool {
        !matches!(self.0.manifest.codec, Codec::Raw | Codec::Packed) || !matches!(self.0.matrix, BlockStorage::Map(_))
    }

    /// Reads a block into memory; it is checked on first use.
    ///
    /// # Errors
    /// A damaged block, a disk that can't be read.
    pub fn block(&self, block: BlockIndex) -> Result<Block> {
        let entry = self.entry(block)?;
        let place = self.place(block, &entry)?;
        let mut read = Vec::new();
        // A packed block is followed by bytes that its decoder may read.
        let slack = if entry.codec == Codec::Packed { SLACK } else { 0 };
        let words_of = |bytes: usize| (bytes + slack).div_ceil(8);
        let on_disk: &[u8] = match &self.0.matrix {
            BlockStorage::Empty => return Err(self.bad_block(block, "the matrix is empty")),
            BlockStorage::InPlace(rows) => return self.block_in_place(rows, block, entry),
            BlockStorage::Map(map) => &map[place.clone()],
            BlockStorage::Read(file) => {
                read.resize(words_of(place.len()), 0_u64);
                let bytes = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut read)[..place.len()];
                file.read_exact_at(bytes, entry.offset).map_err(Error::io("read", self.path().join(files::MATRIX)))?;
                bytes
            }
        };
        // A map always shows the same bytes; blocks that are read again are checked again.
        let first_time = matches!(self.0.matrix, BlockStorage::Read(_)) || !self.was_checked(block);
        if first_time {
            self.check_sum(block, &entry, on_disk)?;
        }
        let words = match (entry.codec, &self.0.matrix) {
            (Codec::Zstd, _) => self.decompress(block, &entry, on_disk)?,
            (_, BlockStorage::Read(_)) => read,
            _ => {
                let mut words = vec![0_u64; words_of(on_disk.len())];
                bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..on_disk.len()].copy_from_slice(on_disk);
                words
            }
        };
        self.check_matrix()?;
        self.0.blocks.check()?;
        let read = Block::new(words, entry, self.0.manifest.genes).ok_or_else(|| self.bad_block(block, TOO_SHORT))?;
        if first_time {
            self.check_view(block, &read.view())?;
            self.mark_checked(block);
        }
        Ok(read)
    }

    /// A block assembled from the rows of another file, which may have changed since it was last read.
    fn block_in_place(&self, rows: &RowsInPlace, block: BlockIndex, entry: BlockEntry) -> Result<Block> {
        let first = self.first_row(block);
        // It was readable when the atlas was made.
        let is_of_file = |error: &Error| matches!(error, Error::Data { .. });
        let read = rows.block(first..first + u64::from(entry.rows), &entry);
        let words = read.map_err(|error| if is_of_file(&error) { rows.changed() } else { error })?;
        match xxh3_64(bytemuck::cast_slice(&words)) == entry.checksum {
            true => Block::new(words, entry, self.0.manifest.genes).ok_or_else(|| self.bad_block(block, TOO_SHORT)),
            false => Err(rows.changed()),
        }
    }

    /// A block whose rows are in the memory map of another file.
    fn mapped_in_place<'a>(&'a self, rows: &'a RowsInPlace, block: BlockIndex) -> Result<Option<BlockView<'a>>> {
        let Some(mapped) = rows.mapped() else { return Ok(None) };
        let first = self.first_row(block);
        let entry = if self.was_checked(block) {
            self.entry_of(block).ok_or_else(|| self.bad_block(block, "its entry can't be read"))?
        } else {
            let entry = self.entry(block)?;
            if !mapped.are_block(first, &entry) {
                set(&self.0.irregular, block);
            }
            self.mark_checked(block);
            entry
        };
        let is_irregular = is_set(&self.0.irregular, block);
        Ok((!is_irregular).then(|| BlockView::in_place(mapped, first, entry)))
    }

    /// Checks that what was read of the matrix was there. If the file of a matrix in place may have been written to, the blocks
    /// that were read of it are compared with their checksums again.
    pub(super) fn check_matrix(&self) -> Result<()> {
        let BlockStorage::InPlace(rows) = &self.0.matrix else { return self.0.matrix.check_map() };
        let Some(mapped) = rows.mapped() else { return Ok(()) };
        let are_as_ever = || {
            let blocks = (0..self.0.manifest.blocks()).map(|block| BlockIndex(bounded(block)));
            let mut read = blocks.filter(|block| self.was_checked(*block) && !is_set(&self.0.irregular, *block));
            read.all(|block| self.entry_of(block).is_some_and(|entry| mapped.are_block(self.first_row(block), &entry)))
        };
        if mapped.are_unchanged(are_as_ever)? { Ok(()) } else { Err(rows.changed()) }
    }

    /// The first row of a block.
    fn first_row(&self, block: BlockIndex) -> u64 {
        u64::from(block.0) * u64::from(self.0.manifest.block_rows)
    }

    /// Advises the kernel that a block will be needed. Errors are ignored.
    pub fn will_need(&self, block: BlockIndex) {
        let Ok(entry) = self.entry(block) else { return };
        let asked = match &self.0.matrix {
            BlockStorage::Map(map) => {
                self.place(block, &entry).map_or(Ok(()), |place| map.will_need(place.start, place.len()))
            }
            BlockStorage::InPlace(rows) => {
                let first = self.first_row(block);
                rows.mapped().map_or(Ok(()), |rows| rows.will_need(first..first + u64::from(entry.rows)))
            }
            BlockStorage::Empty | BlockStorage::Read(_) => Ok(()),
        };
        if let Err(error) = asked {
            tracing::debug!("blocks are not read ahead: {error}");
        }
    }

    fn place(&self, block: BlockIndex, entry: &BlockEntry) -> Result<Range<usize>> {
        let start =
            usize::try_from(entry.offset).map_err(|_| self.bad_block(block, "it is beyond the address space"))?;
        let length = usize::try_from(entry.bytes).map_err(|_| self.bad_block(block, "it is too large"))?;
        Ok(start..start + length)
    }

    fn decompress(&self, block: BlockIndex, entry: &BlockEntry, on_disk: &[u8]) -> Result<Vec<u64>> {
        let width = self.0.manifest.gene_width;
        decompress(on_disk, &entry.layout(width), entry.rows.into(), entry.entries as usize, width)
            .ok_or_else(|| self.bad_block(block, "it can't be decompressed"))
    }

    fn check_sum(&self, block: BlockIndex, entry: &BlockEntry, on_disk: &[u8]) -> Result<()> {
        let found = xxh3_64(on_disk);
        if found == entry.checksum {
            return Ok(());
        }
        self.check_maps()?;
        Err(self.bad_block(block, &format!("its checksum is {}, not {}", hex(found), hex(entry.checksum))))
    }

    fn check_view(&self, index: BlockIndex, block: &BlockView<'_>) -> Result<()> {
        block.check(self.0.manifest.genes).map_err(|what| self.bad_block(index, &what))
    }

    /// The error for a packed row that can't be decoded: its block is damaged, or no longer there.
    pub fn bad_row(&self, row: RowIndex) -> Error {
        let (block, row) = place(row, self.0.manifest.block_rows);
        match (self.check_maps(), &self.0.matrix) {
            (Err(lost), _) => lost,
            (Ok(()), BlockStorage::InPlace(rows)) => rows.changed(),
            (Ok(()), _) => self.bad_block(block, &format!("its row {row} can't be decoded")),
        }
    }

    /// Reads a block, and decodes every row of it.
    pub(crate) fn check_block(&self, index: BlockIndex) -> Result<()> {
        let genes = self.0.manifest.genes;
        self.block(index)?.view().check_rows(genes).map_err(|what| self.bad_block(index, &what))
    }

    fn bad_block(&self, block: BlockIndex, what: &str) -> Error {
        Error::damaged(self.path().join(files::MATRIX), format!("block {block}: {what}"))
    }

    fn was_checked(&self, block: BlockIndex) -> bool {
        is_set(&self.0.checked, block)
    }

    fn mark_checked(&self, block: BlockIndex) {
        set(&self.0.checked, block);
    }
}

fn is_set(bits: &[AtomicU64], block: BlockIndex) -> bool {
    bits[block.index() / 64].load(Ordering::Acquire) & (1 << (block.0 % 64)) != 0
}

fn set(bits: &[AtomicU64], block: BlockIndex) {
    bits[block.index() / 64].fetch_or(1 << (block.0 % 64), Ordering::Release);
}
