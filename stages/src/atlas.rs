//! An atlas that is open for reading.

use std::{
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use schemas::{
    Error, Result,
    atlas::{BLOCK_ALIGNMENT, BLOCK_ENTRY_BYTES, BlockEntry, Codec, Manifest, RowOrder, files},
    ids::{BlockIndex, CellIndex, ConditionId, RowIndex},
};
use xxhash_rust::xxh3::xxh3_64;

mod genes;
mod manifest;
mod shuffled;

use self::{
    manifest::{read_gene_names, read_manifest},
    shuffled::Shuffled,
};
use crate::{
    block::{Block, BlockView},
    disk::{checksum_of, hex},
    gene_subset::GeneSubset,
    mmap, packed,
};

/// How the matrix is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Through a memory map: nothing is copied before the batch.
    #[default]
    Map,
    /// By plain reads, for file systems where maps are slow or unsafe.
    Read,
}

/// An open atlas, seen through all of its genes or some; clones share it.
#[derive(Clone, Debug)]
pub struct Atlas(Arc<Inner>, Option<Arc<GeneSubset>>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    manifest: Manifest,
    genes: Vec<String>,
    blocks: memmap2::Mmap,
    labels: memmap2::Mmap,
    shuffled: Option<Shuffled>,
    matrix: Matrix,
    checked: Vec<AtomicU64>,
}

#[derive(Debug)]
enum Matrix {
    Empty,
    Map(memmap2::Mmap),
    Read(File),
}

/// Damage that `verify` found.
#[derive(Clone, Debug, PartialEq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// The block, where it has blocks.
    pub block: Option<u64>,
    /// How it shows.
    pub what: String,
}

impl Atlas {
    /// Opens an atlas and checks everything but the blocks, which are checked when they are first read.
    ///
    /// # Errors
    /// A folder that is no atlas, of another format version, or not as it was written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Access::default())
    }

    /// Opens an atlas as [`Atlas::open`] does, to be read in a certain way.
    ///
    /// # Errors
    /// As for [`Atlas::open`].
    pub fn open_with(path: impl AsRef<Path>, access: Access) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let manifest = read_manifest(&path)?;
        let shuffled = match manifest.order {
            RowOrder::Source => None,
            RowOrder::Shuffled => Some(Shuffled::open(&path, &manifest)?),
        };
        let genes = read_gene_names(&path.join(files::GENES), manifest.genes)?;
        let matrix_path = path.join(files::MATRIX);
        let matrix_bytes = manifest.files.get(files::MATRIX).map_or(0, |entry| entry.bytes);
        let matrix = match access {
            _ if matrix_bytes == 0 => Matrix::Empty,
            Access::Map => Matrix::Map(mmap::map(&matrix_path)?),
            Access::Read => Matrix::Read(File::open(&matrix_path).map_err(Error::io("open", &matrix_path))?),
        };
        let blocks = mmap::map(&path.join(files::BLOCKS))?;
        let labels = mmap::map(&path.join(files::LABELS))?;
        let words =
            usize::try_from(manifest.blocks().div_ceil(64)).map_err(|_| Error::damaged(&path, "too many blocks"))?;
        let checked = (0..words).map(|_| AtomicU64::new(0)).collect();
        let atlas = Self(Arc::new(Inner { path, manifest, genes, blocks, labels, shuffled, matrix, checked }), None);
        atlas.check_labels()?;
        Ok(atlas)
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What is in it.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// How many cells it has.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.0.manifest.cells
    }

    /// The row that holds a cell.
    #[must_use]
    pub fn row(&self, cell: CellIndex) -> RowIndex {
        match &self.0.shuffled {
            None => RowIndex(cell.0),
            Some(shuffled) => RowIndex(shuffled.rows()[cell.index()]),
        }
    }

    /// The cell that a row holds.
    #[must_use]
    pub fn cell(&self, row: RowIndex) -> CellIndex {
        match &self.0.shuffled {
            None => CellIndex(row.0),
            Some(shuffled) => CellIndex(shuffled.order()[row.index()]),
        }
    }

    /// The condition of a cell.
    #[must_use]
    pub fn condition(&self, cell: CellIndex) -> ConditionId {
        ConditionId(self.codes(cell)[0])
    }

    /// The covariate codes of a cell.
    #[must_use]
    pub fn covariates(&self, cell: CellIndex) -> &[u32] {
        &self.codes(cell)[1..]
    }

    /// The covariate values that codes stand for.
    #[must_use]
    pub fn covariate_values(&self, codes: &[u32]) -> Vec<String> {
        let covariates = &self.0.manifest.covariates;
        codes.iter().zip(covariates).map(|(code, covariate)| covariate.values[*code as usize].clone()).collect()
    }

    /// The condition id of a cell, then its covariate codes.
    #[must_use]
    pub fn codes(&self, cell: CellIndex) -> &[u32] {
        let width = 1 + self.0.manifest.covariates.len();
        let labels: &[u32] = bytemuck::cast_slice(&self.0.labels);
        &labels[cell.index() * width..(cell.index() + 1) * width]
    }

    /// A row of `blocks.bin`, unchecked.
    fn entry_of(&self, block: BlockIndex) -> Option<BlockEntry> {
        let start = block.index() * BLOCK_ENTRY_BYTES;
        BlockEntry::from_bytes(self.0.blocks.get(start..start + BLOCK_ENTRY_BYTES)?.try_into().ok()?)
    }

    /// Where a block lies and what is in it.
    ///
    /// # Errors
    /// An entry that can't be one.
    pub fn entry(&self, block: BlockIndex) -> Result<BlockEntry> {
        let entry = self.entry_of(block).ok_or_else(|| self.bad_block(block, "its entry can't be read"))?;
        let manifest = &self.0.manifest;
        let first = u64::from(block.0) * u64::from(manifest.block_rows);
        let rows = (manifest.cells - first.min(manifest.cells)).min(u64::from(manifest.block_rows));
        let layout = entry.layout(manifest.gene_width);
        let matrix = manifest.files.get(files::MATRIX).map_or(0, |entry| entry.bytes);
        let ends = entry.offset.checked_add(entry.bytes);
        let fits = u64::from(entry.rows) == rows
            && entry.offset.is_multiple_of(BLOCK_ALIGNMENT)
            && ends.is_some_and(|end| end <= matrix)
            && entry.codec == manifest.codec
            && (entry.codec == Codec::Zstd || entry.bytes == layout.bytes as u64);
        if fits { Ok(entry) } else { Err(self.bad_block(block, "its entry does not fit the matrix")) }
    }

    /// A block of a raw matrix, in the memory map; it is checked the first time. None where blocks are packed, or read plainly.
    ///
    /// # Errors
    /// A block that is not as it was written.
    pub fn mapped_block(&self, block: BlockIndex) -> Result<Option<BlockView<'_>>> {
        let Matrix::Map(map) = &self.0.matrix else { return Ok(None) };
        if self.0.manifest.codec != Codec::Raw {
            return Ok(None);
        }
        let gene_width = self.0.manifest.gene_width;
        let view = |entry: BlockEntry, place: Range<usize>| BlockView::new(&map[place], entry, gene_width);
        if self.was_checked(block) {
            let entry = self.entry_of(block).ok_or_else(|| self.bad_block(block, "its entry can't be read"))?;
            return Ok(Some(view(entry, self.place(block, &entry)?)));
        }
        let entry = self.entry(block)?;
        let view = view(entry, self.place(block, &entry)?);
        self.check_sum(block, &entry, &map[self.place(block, &entry)?])?;
        self.check_rows(block, &view)?;
        self.mark_checked(block);
        Ok(Some(view))
    }

    /// Whether blocks have to be held in memory to be read: packed ones, and those that are read plainly.
    #[must_use]
    pub fn holds_blocks(&self) -> bool {
        self.0.manifest.codec != Codec::Raw || !matches!(self.0.matrix, Matrix::Map(_))
    }

    /// Reads a block into memory; it is checked the first time.
    ///
    /// # Errors
    /// A block that is not as it was written, a disk that can't be read.
    pub fn block(&self, block: BlockIndex) -> Result<Block> {
        let entry = self.entry(block)?;
        let place = self.place(block, &entry)?;
        let mut read = Vec::new();
        let on_disk: &[u8] = match &self.0.matrix {
            Matrix::Empty => return Err(self.bad_block(block, "the matrix is empty")),
            Matrix::Map(map) => &map[place.clone()],
            Matrix::Read(file) => {
                read.resize(place.len().div_ceil(8), 0_u64);
                let bytes = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut read)[..place.len()];
                file.read_exact_at(bytes, entry.offset).map_err(Error::io("read", self.path().join(files::MATRIX)))?;
                bytes
            }
        };
        // A map shows the same bytes each time; what is read anew is checked anew.
        let first_time = matches!(self.0.matrix, Matrix::Read(_)) || !self.was_checked(block);
        if first_time {
            self.check_sum(block, &entry, on_disk)?;
        }
        let words = match entry.codec {
            Codec::Zstd => self.unpack(block, &entry, on_disk)?,
            Codec::Raw if matches!(self.0.matrix, Matrix::Map(_)) => bytemuck::pod_collect_to_vec(on_disk),
            Codec::Raw => read,
        };
        let read = Block::new(words, entry, self.0.manifest.gene_width);
        if first_time {
            self.check_rows(block, &read.view())?;
            self.mark_checked(block);
        }
        Ok(read)
    }

    /// Tells the kernel that a block will be needed. It is advice: nothing comes of a block that can't be found.
    pub fn will_need(&self, block: BlockIndex) {
        if let Matrix::Map(map) = &self.0.matrix
            && let Ok(entry) = self.entry(block)
            && let Ok(place) = self.place(block, &entry)
            && let Err(error) = map.advise_range(memmap2::Advice::WillNeed, place.start, place.len())
        {
            tracing::debug!("no block is read ahead: {error}");
        }
    }

    fn place(&self, block: BlockIndex, entry: &BlockEntry) -> Result<Range<usize>> {
        let start =
            usize::try_from(entry.offset).map_err(|_| self.bad_block(block, "it lies beyond the address space"))?;
        let length = usize::try_from(entry.bytes).map_err(|_| self.bad_block(block, "it is too large"))?;
        Ok(start..start + length)
    }

    /// Checks every file and every block.
    ///
    /// # Errors
    /// A disk that can't be read.
    pub fn verify(&self) -> Result<Vec<Damage>> {
        let mut damages = Vec::new();
        for (name, entry) in &self.0.manifest.files {
            if entry.checksum.is_some() && checksum_of(&self.path().join(name))? != *entry {
                damages.push(Damage {
                    file: name.clone(),
                    block: None,
                    what: "its checksum is not the manifest's".into(),
                });
            }
        }
        for block in 0..self.0.manifest.blocks() {
            let index = BlockIndex(u32::try_from(block).map_err(|_| Error::damaged(self.path(), "too many blocks"))?);
            match self.block(index) {
                Ok(_) => {}
                Err(Error::Damaged { what, .. }) => {
                    damages.push(Damage { file: files::MATRIX.into(), block: Some(block), what })
                }
                Err(error) => return Err(error),
            }
        }
        Ok(damages)
    }

    /// Reads the annotations of the cells, batch by batch; only the named columns, in the file's order.
    ///
    /// # Errors
    /// A file that can't be read, columns that are not there.
    pub fn obs(&self, columns: &[&str]) -> Result<ParquetRecordBatchReader> {
        let path = self.path().join(files::CELLS);
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let bad = |error: parquet::errors::ParquetError| Error::damaged(&path, error.to_string());
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(bad)?;
        for name in columns {
            if builder.schema().field_with_name(name).is_err() {
                let known: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
                return Err(Error::unknown("obs column", name, known.iter().map(String::as_str)));
            }
        }
        let mask = parquet::arrow::ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        builder.with_projection(mask).with_batch_size(8192).build().map_err(bad)
    }

    fn check_labels(&self) -> Result<()> {
        let manifest = &self.0.manifest;
        let conditions = manifest.conditions.conditions().len();
        let path = || self.path().join(files::LABELS);
        for cell in (0..manifest.cells).map(CellIndex) {
            let codes = self.codes(cell);
            let fits = (codes[0] as usize) < conditions
                && codes[1..]
                    .iter()
                    .zip(&manifest.covariates)
                    .all(|(code, covariate)| (*code as usize) < covariate.values.len());
            if !fits {
                return Err(Error::damaged(path(), format!("cell {cell} has a code that the manifest does not know")));
            }
        }
        Ok(())
    }

    fn unpack(&self, block: BlockIndex, entry: &BlockEntry, on_disk: &[u8]) -> Result<Vec<u64>> {
        let width = self.0.manifest.gene_width;
        packed::unpack(on_disk, &entry.layout(width), entry.rows.into(), entry.entries as usize, width)
            .ok_or_else(|| self.bad_block(block, "it can't be unpacked"))
    }

    fn check_sum(&self, block: BlockIndex, entry: &BlockEntry, on_disk: &[u8]) -> Result<()> {
        let found = xxh3_64(on_disk);
        if found == entry.checksum {
            return Ok(());
        }
        Err(self.bad_block(block, &format!("its checksum is {}, not {}", hex(found), hex(entry.checksum))))
    }

    fn check_rows(&self, index: BlockIndex, block: &BlockView<'_>) -> Result<()> {
        block.check(self.0.manifest.genes).map_err(|what| self.bad_block(index, &what))
    }

    fn bad_block(&self, block: BlockIndex, what: &str) -> Error {
        Error::damaged(self.path().join(files::MATRIX), format!("block {block}: {what}"))
    }

    fn was_checked(&self, block: BlockIndex) -> bool {
        self.0.checked[block.index() / 64].load(Ordering::Relaxed) & (1 << (block.0 % 64)) != 0
    }

    fn mark_checked(&self, block: BlockIndex) {
        self.0.checked[block.index() / 64].fetch_or(1 << (block.0 % 64), Ordering::Relaxed);
    }
}
