//! A block of cells, unpacked: three arrays behind plain slices.

use schemas::{
    ByteSize,
    atlas::{BlockEntry, BlockLayout, GeneWidth, ValueWidth},
    ids::{BlockIndex, RowIndex},
};

/// An unpacked block in memory.
#[derive(Debug)]
pub struct Block {
    /// Stored as words, so that every array is aligned.
    words: Vec<u64>,
    entry: BlockEntry,
    gene_width: GeneWidth,
}

impl Block {
    /// The block described by an index entry, from its bytes.
    pub fn new(words: Vec<u64>, entry: BlockEntry, gene_width: GeneWidth) -> Self {
        Self { words, entry, gene_width }
    }

    /// A view of the block's arrays.
    #[must_use]
    pub fn view(&self) -> BlockView<'_> {
        BlockView::new(bytemuck::cast_slice(&self.words), self.entry, self.gene_width)
    }
}

impl ByteSize for Block {
    fn byte_size(&self) -> usize {
        8 * self.words.capacity()
    }
}

/// A readable block: in memory, or in the memory map.
#[derive(Clone, Copy, Debug)]
pub struct BlockView<'a> {
    bytes: &'a [u8],
    entry: BlockEntry,
    layout: BlockLayout,
    gene_width: GeneWidth,
}

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

impl<'a> BlockView<'a> {
    /// The block described by an index entry, from its bytes.
    pub fn new(bytes: &'a [u8], entry: BlockEntry, gene_width: GeneWidth) -> Self {
        Self { bytes, layout: entry.layout(gene_width), entry, gene_width }
    }

    /// Row pointers: rows + 1 numbers.
    #[must_use]
    pub fn row_pointers(&self) -> &'a [u32] {
        bytemuck::cast_slice(&self.bytes[..4 * (usize::from(self.entry.rows) + 1)])
    }

    /// Genes and values of one row.
    #[must_use]
    pub fn row(&self, row: usize) -> (GeneSlice<'a>, ValueSlice<'a>) {
        let pointers = self.row_pointers();
        // A truncated map has zeros here; its reader detects this later.
        let start = pointers[row];
        self.entries(start as usize..start.max(pointers[row + 1]) as usize)
    }

    /// The bytes of a row's pointers.
    pub fn pointers_of(&self, row: usize) -> &'a [u8] {
        &self.bytes[4 * row..4 * (row + 2)]
    }

    fn entries(&self, entries: std::ops::Range<usize>) -> (GeneSlice<'a>, ValueSlice<'a>) {
        let part = |start: usize, width: usize| &self.bytes[start + width * entries.start..start + width * entries.end];
        let genes = part(self.layout.genes, self.gene_width.bytes());
        let values = part(self.layout.values, self.entry.value_width.bytes());
        let genes = match self.gene_width {
            GeneWidth::U16 => GeneSlice::U16(bytemuck::cast_slice(genes)),
            GeneWidth::U32 => GeneSlice::U32(bytemuck::cast_slice(genes)),
        };
        let values = match self.entry.value_width {
            ValueWidth::U8 => ValueSlice::U8(values),
            ValueWidth::U16 => ValueSlice::U16(bytemuck::cast_slice(values)),
            ValueWidth::U32 => ValueSlice::U32(bytemuck::cast_slice(values)),
            ValueWidth::F32 => ValueSlice::F32(bytemuck::cast_slice(values)),
        };
        (genes, values)
    }

    /// Checks what readers rely on: ascending row pointers that end at the number of entries, and valid genes.
    pub fn check(&self, genes: u32) -> Result<(), String> {
        let pointers = self.row_pointers();
        let entries = self.entry.entries;
        if pointers.first() != Some(&0) || pointers.last() != Some(&entries) || !pointers.is_sorted() {
            return Err("its row pointers don't ascend from 0 to its number of entries".into());
        }
        let (ids, _) = self.entries(0..entries as usize);
        let largest = match ids {
            GeneSlice::U16(ids) => ids.iter().max().map(|id| u32::from(*id)),
            GeneSlice::U32(ids) => ids.iter().max().copied(),
        };
        match largest {
            Some(largest) if genes <= largest => Err(format!("it names gene {largest}, but there are {genes}")),
            _ => Ok(()),
        }
    }
}

/// The block of a row, and the row's index in it.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "an atlas that has more than 2^32 blocks is refused when it is opened; a place is below the block's rows"
)]
pub fn place(row: RowIndex, block_rows: u32) -> (BlockIndex, usize) {
    let rows = u64::from(block_rows);
    (BlockIndex((row.0 / rows) as u32), (row.0 % rows) as usize)
}
