//! A block of cells: three arrays behind plain slices, packed rows, or rows in the file of another program.

use packed_rows::{InvalidRow, PackedRows};
use schemas::{
    ByteSize,
    atlas::{BlockEntry, BlockLayout, Codec, GeneWidth, ValueWidth},
    ids::{BlockIndex, RowIndex},
};

use crate::{
    atlas::mapped_rows::MappedRows,
    row::{GeneSlice, PackedCell, RowBuffer, StoredRow, ValueSlice},
};

/// A block in memory.
#[derive(Debug)]
pub struct Block {
    /// Stored as words, so that every array is aligned.
    words: Vec<u64>,
    entry: BlockEntry,
    genes: u32,
}

impl Block {
    /// The block described by an index entry, from its bytes; a packed one is followed by [`packed_rows::SLACK`] more. `None` if
    /// it is shorter than the entry says.
    #[must_use]
    pub fn new(words: Vec<u64>, entry: BlockEntry, genes: u32) -> Option<Self> {
        BlockView::new(bytemuck::cast_slice(&words), entry, genes)?;
        Some(Self { words, entry, genes })
    }

    /// A view of the block.
    ///
    /// # Panics
    /// Never: the length was checked.
    #[must_use]
    pub fn view(&self) -> BlockView<'_> {
        BlockView::new(bytemuck::cast_slice(&self.words), self.entry, self.genes).expect("the length was checked")
    }
}

impl ByteSize for Block {
    fn byte_size(&self) -> usize {
        8 * self.words.capacity()
    }
}

/// A readable block: in memory, or in the memory map.
#[derive(Clone, Copy, Debug)]
pub enum BlockView<'a> {
    /// Three arrays.
    Raw(RawBlock<'a>),
    /// Packed rows.
    Packed(PackedBlock<'a>),
    /// Rows of an `.h5ad`.
    InPlace(InPlaceBlock<'a>),
}

/// A block of rows that are read in place.
#[derive(Clone, Copy, Debug)]
pub struct InPlaceBlock<'a> {
    rows: &'a MappedRows,
    first: u64,
    entry: BlockEntry,
}

/// A block of three arrays.
#[derive(Clone, Copy, Debug)]
pub struct RawBlock<'a> {
    bytes: &'a [u8],
    entry: BlockEntry,
    layout: BlockLayout,
    gene_width: GeneWidth,
}

/// A block of packed rows.
#[derive(Clone, Copy, Debug)]
pub struct PackedBlock<'a> {
    rows: PackedRows<'a>,
    entry: BlockEntry,
    gene_width: GeneWidth,
}

impl<'a> BlockView<'a> {
    /// The block described by an index entry, from its bytes: those of a raw block, or of a packed one and
    /// [`packed_rows::SLACK`] more. `None` if it is shorter than the entry says.
    #[must_use]
    pub fn new(bytes: &'a [u8], entry: BlockEntry, genes: u32) -> Option<Self> {
        let gene_width = GeneWidth::for_genes(genes);
        if entry.codec == Codec::Packed {
            let rows = PackedRows::new(bytes, usize::try_from(entry.bytes).ok()?, entry.rows.into(), genes)?;
            return Some(Self::Packed(PackedBlock { rows, entry, gene_width }));
        }
        let layout = entry.layout(gene_width);
        (layout.bytes <= bytes.len()).then_some(Self::Raw(RawBlock { bytes, entry, layout, gene_width }))
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Raw(block) => block.entry.rows.into(),
            Self::Packed(block) => block.rows.rows(),
            Self::InPlace(block) => block.entry.rows.into(),
        }
    }

    /// The block whose rows begin with row `first` of a matrix in place.
    pub(crate) fn in_place(rows: &'a MappedRows, first: u64, entry: BlockEntry) -> Self {
        Self::InPlace(InPlaceBlock { rows, first, entry })
    }

    /// A row.
    ///
    /// # Errors
    /// A packed row that can't be decoded.
    #[inline]
    pub fn row(&self, row: usize) -> Result<StoredRow<'a>, InvalidRow> {
        match self {
            Self::Raw(block) => Ok(block.row(row)),
            Self::Packed(block) => {
                let has_counts = block.entry.value_width != ValueWidth::F32;
                let (row, gene_width) = (block.rows.row(row)?, block.gene_width);
                Ok(StoredRow::Packed(PackedCell { row, gene_width, has_counts }))
            }
            Self::InPlace(block) => block.rows.row(block.first + row as u64, block.entry.value_width),
        }
    }

    /// The bytes that say where a row is.
    #[must_use]
    pub fn position_of(&self, row: usize) -> &'a [u8] {
        match self {
            Self::Raw(block) => block.position_of(row),
            Self::Packed(block) => block.rows.header_bytes(row),
            Self::InPlace(block) => block.rows.position_of(block.first + row as u64),
        }
    }

    /// Checks what readers rely on: in a raw block, ascending row pointers that end at the number of entries, and valid genes;
    /// in a packed one, a directory in order. Packed rows are checked as they are decoded.
    ///
    /// # Errors
    /// A description of what is wrong.
    pub fn check(&self, genes: u32) -> Result<(), String> {
        match self {
            Self::Raw(block) => block.check(genes),
            Self::Packed(block) if !block.rows.is_in_order() => Err("its rows are not one after another".into()),
            Self::Packed(block) if block.rows.entries() != u64::from(block.entry.entries) => {
                Err("its rows don't have the number of entries that it should have".into())
            }
            Self::Packed(_) | Self::InPlace(_) => Ok(()),
        }
    }

    /// Checks all that [`BlockView::check`] does, and decodes every row.
    ///
    /// # Errors
    /// A description of what is wrong.
    pub fn check_rows(&self, genes: u32) -> Result<(), String> {
        self.check(genes)?;
        let mut buffer = RowBuffer::default();
        let is_whole = |row: &usize| self.row(*row).is_ok_and(|row| row.decoded(&mut buffer).is_ok());
        match (0..self.rows()).take_while(is_whole).count() {
            whole if whole == self.rows() => Ok(()),
            bad => Err(format!("its row {bad} can't be decoded")),
        }
    }
}

impl<'a> RawBlock<'a> {
    /// Row pointers: rows + 1 numbers.
    fn row_pointers(&self) -> &'a [u32] {
        bytemuck::cast_slice(&self.bytes[..4 * (usize::from(self.entry.rows) + 1)])
    }

    fn row(&self, row: usize) -> StoredRow<'a> {
        let pointers = self.row_pointers();
        // A truncated map has zeros here; its reader detects this later.
        let start = pointers[row];
        self.entries(start as usize..start.max(pointers[row + 1]) as usize)
    }

    fn position_of(&self, row: usize) -> &'a [u8] {
        &self.bytes[4 * row..4 * (row + 2)]
    }

    fn entries(&self, entries: std::ops::Range<usize>) -> StoredRow<'a> {
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
        StoredRow::Raw(genes, values)
    }

    fn check(&self, genes: u32) -> Result<(), String> {
        let pointers = self.row_pointers();
        let entries = self.entry.entries;
        if pointers.first() != Some(&0) || pointers.last() != Some(&entries) || !pointers.is_sorted() {
            return Err("its row pointers don't ascend from 0 to its number of entries".into());
        }
        let ids = &self.bytes[self.layout.genes..self.layout.genes + self.gene_width.bytes() * entries as usize];
        let largest = match self.gene_width {
            GeneWidth::U16 => bytemuck::cast_slice::<_, u16>(ids).iter().max().map(|id| u32::from(*id)),
            GeneWidth::U32 => bytemuck::cast_slice::<_, u32>(ids).iter().max().copied(),
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
