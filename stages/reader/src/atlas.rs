//! An atlas open for reading.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

use schemas::{
    Error, Result,
    arrow::place_of_column,
    atlas::{Manifest, files},
    ids::{CellIndex, ConditionId, RowIndex},
    numbers::to_usize,
};

mod backed;
mod block_storage;
mod blocks;
mod genes;
mod manifest;
pub(crate) mod mapped_rows;
mod shuffled;
mod tables;

use storage::{
    mmap,
    parquet_read::{self, Batches, Undecodable},
};

pub use self::{block_storage::Access, genes::some_of, manifest::read_manifest};
use self::{block_storage::BlockStorage, manifest::read_gene_names, shuffled::Shuffled, tables::Tables};
use crate::gene_subset::GeneSubset;

/// An open atlas with all of its genes or some; clones share it.
#[derive(Clone, Debug)]
pub struct Atlas(Arc<OpenAtlas>, Option<Arc<GeneSubset>>);

#[derive(Debug)]
struct OpenAtlas {
    path: PathBuf,
    manifest: Manifest,
    genes: Vec<String>,
    blocks: mmap::MappedFile,
    labels: mmap::MappedFile,
    shuffled: Option<Shuffled>,
    matrix: BlockStorage,
    tables: Tables,
    /// A bit for each block that was checked.
    checked: Vec<AtomicU64>,
    /// A bit for each block that has to be laid out before it is read: rows in place that are not in order.
    irregular: Vec<AtomicU64>,
}

/// Damage found by `verify`.
#[derive(Clone, Debug, PartialEq)]
pub struct Damage {
    /// The damaged file.
    pub file: String,
    /// The damaged block, if the file consists of blocks.
    pub block: Option<u64>,
    /// A description of the damage.
    pub what: String,
}

impl Atlas {
    /// Opens an atlas and checks everything but the blocks, which are checked on first read.
    ///
    /// # Errors
    /// A folder that is not an atlas, has another format version, or is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Access::default())
    }

    /// Opens an atlas like [`Atlas::open`], with this kind of access.
    ///
    /// # Errors
    /// As for [`Atlas::open`].
    pub fn open_with(path: impl AsRef<Path>, access: Access) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let manifest = read_manifest(&path)?;
        let shuffled = Shuffled::open_if_shuffled(&path, &manifest)?;
        let genes = read_gene_names(&path.join(files::GENES), manifest.genes)?;
        let matrix = BlockStorage::open(&path, &manifest, access)?;
        let tables = Tables::open(&path, &manifest)?;
        let blocks = mmap::map(&path.join(files::BLOCKS))?;
        let labels = mmap::map(&path.join(files::LABELS))?;
        let words = to_usize(manifest.blocks().div_ceil(64));
        let bits = || (0..words).map(|_| AtomicU64::new(0)).collect();
        let (checked, irregular) = (bits(), bits());
        let atlas = Self(
            Arc::new(OpenAtlas { path, manifest, genes, blocks, labels, shuffled, matrix, tables, checked, irregular }),
            None,
        );
        atlas.check_labels()?;
        atlas.check_entries()?;
        atlas.check_maps()?;
        Ok(atlas)
    }

    /// The atlas's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The atlas's manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// Number of cells.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.0.manifest.cells
    }

    /// The row of a cell.
    #[must_use]
    pub fn row(&self, cell: CellIndex) -> RowIndex {
        match &self.0.shuffled {
            None => RowIndex(cell.0),
            Some(shuffled) => RowIndex(shuffled.rows()[cell.index()]),
        }
    }

    /// The cell of a row.
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

    /// The covariate codes of a cell without the batch: its context. Controls of the same context show where a
    /// perturbed cell started.
    #[must_use]
    pub fn context(&self, cell: CellIndex) -> &[u32] {
        self.context_of(self.covariates(cell))
    }

    /// Covariate codes without the batch.
    #[must_use]
    pub fn context_of<'a>(&self, covariates: &'a [u32]) -> &'a [u32] {
        // The batch is the last covariate.
        let batches = usize::from(self.0.manifest.keys.batch.is_some());
        &covariates[..covariates.len() - batches]
    }

    /// The covariate values for these codes.
    #[must_use]
    pub fn covariate_values(&self, codes: &[u32]) -> Vec<String> {
        let covariates = &self.0.manifest.covariates;
        codes.iter().zip(covariates).map(|(code, covariate)| covariate.values[*code as usize].clone()).collect()
    }

    /// Prefetches the codes of a cell.
    pub fn prefetch_codes(&self, cell: CellIndex) {
        simd::prefetch(bytemuck::cast_slice(self.codes(cell)));
    }

    /// The condition id of a cell, followed by its covariate codes.
    #[must_use]
    pub fn codes(&self, cell: CellIndex) -> &[u32] {
        let width = 1 + self.0.manifest.covariates.len();
        let labels: &[u32] = bytemuck::cast_slice(&self.0.labels);
        &labels[cell.index() * width..(cell.index() + 1) * width]
    }

    /// Checks that all memory-mapped data read so far were valid; call this before using what was copied.
    ///
    /// # Errors
    /// A file that another program has truncated or, for a matrix in place, changed; a disk that can't be read.
    pub fn check_maps(&self) -> Result<()> {
        self.0.blocks.check()?;
        self.0.labels.check()?;
        self.0.shuffled.as_ref().map_or(Ok(()), Shuffled::check_maps)?;
        self.check_matrix()
    }

    /// Reads the annotations of the cells, batch by batch; only the given columns, in file order.
    ///
    /// # Errors
    /// A file that can't be read, or missing columns.
    pub fn obs(&self, columns: &[&str]) -> Result<Batches> {
        let path = self.path().join(files::CELLS);
        let file = self.table(files::CELLS)?;
        let bad = |error: Undecodable| Error::damaged(&path, error.to_string());
        let builder = parquet_read::parquet(file).map_err(bad)?;
        let mut places = Vec::new();
        for name in columns {
            places.push(builder.schema().index_of(name).map_err(|_| {
                let known: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
                Error::unknown("obs column", name, known.iter().map(String::as_str))
            })?);
        }
        // Columns are selected by index, because Parquet would read a name with a dot as a nested field.
        let mask = parquet::arrow::ProjectionMask::roots(builder.parquet_schema(), places);
        Batches::new(builder.with_projection(mask).with_batch_size(8192)).map_err(bad)
    }

    /// The name in the atlas of the column of `obs` that is called `name` in its file.
    ///
    /// # Errors
    /// A file that can't be read, or a missing column.
    pub fn name_in_atlas(&self, name: &str) -> Result<String> {
        let cells = self.table(files::CELLS)?;
        let bad = |error: Undecodable| Error::damaged(self.path().join(files::CELLS), error.to_string());
        let schema = Arc::clone(parquet_read::parquet(cells).map_err(bad)?.schema());
        let known = || schema.fields().iter().map(|field| field.name().as_str());
        let place = place_of_column(&schema, name).ok_or_else(|| Error::unknown("obs column", name, known()))?;
        Ok(schema.field(place).name().clone())
    }

    /// The index of the covariate that has this name in the atlas or, if none has, in its file.
    ///
    /// # Errors
    /// A name that no covariate has.
    pub fn covariate_named(&self, name: &str) -> Result<usize> {
        let covariates = &self.manifest().covariates;
        let place = |name: &str| covariates.iter().position(|covariate| covariate.name == name);
        let known = || covariates.iter().map(|covariate| covariate.name.as_str());
        place(name)
            .or_else(|| place(&self.name_in_atlas(name).ok()?))
            .ok_or_else(|| Error::unknown("covariate", name, known()))
    }

    /// Opens a table of the atlas at its beginning; it is checked on first use.
    ///
    /// # Errors
    /// A damaged file.
    pub fn table(&self, name: &str) -> Result<File> {
        self.0.tables.get(name, self.path(), self.manifest())
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
                return Err(Error::damaged(path(), format!("cell {cell} has a code that is not in the manifest")));
            }
        }
        Ok(())
    }
}
