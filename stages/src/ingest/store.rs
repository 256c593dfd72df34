//! The end of ingest: packed slabs become an atlas, visible only when it is whole.

use std::{
    collections::{BTreeMap, HashSet},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use schemas::{
    Error, Result,
    atlas::{
        BLOCK_ROWS, Codec, FORMAT_VERSION, FileEntry, GeneWidth, Keys, Manifest, Source, ValueKind, ValueWidth, files,
    },
};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    label::Labeller,
    pack::{BadValue, PackedSlab, ValueCensus},
};
use crate::{
    BoxError, Sink,
    disk::{HashedFile, StagedFolder, checksum_of, hex, write_atomically},
    write::{ParquetFile, conditions_batch},
};

/// What values are to be taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValuesAs {
    /// Counts where all are non-negative integers, else continuous; negative integers alone are refused.
    #[default]
    Auto,
    /// Counts, or an error.
    Counts,
    /// Continuous, whatever they are.
    Continuous,
}

/// What an atlas is made from, as far as the rows don't say.
#[derive(Debug)]
pub struct StoreOptions {
    /// Where it came from.
    pub source: Source,
    /// `var`; the first column is the gene's name.
    pub var: RecordBatch,
    /// The columns of `obs`.
    pub obs_schema: SchemaRef,
    /// Which columns are labels.
    pub keys: Keys,
    /// Raw or zstd blocks.
    pub codec: Codec,
    /// What values are taken for.
    pub values: ValuesAs,
}

/// Writes an atlas.
#[derive(Debug)]
pub struct Store {
    folder: StagedFolder,
    target: PathBuf,
    options: StoreOptions,
    labeller: Labeller,
    matrix: HashedFile,
    blocks: HashedFile,
    labels: HashedFile,
    cells: ParquetFile,
    census: ValueCensus,
    cell_count: u64,
    nonzeros: u64,
    value_width: ValueWidth,
}

impl Store {
    /// Starts an atlas that will be `target`.
    ///
    /// # Errors
    /// A target that exists or can't be created.
    pub fn create(target: &Path, options: StoreOptions, labeller: Labeller) -> Result<Self> {
        let folder = StagedFolder::create(target)?;
        Ok(Self {
            matrix: HashedFile::create(folder.file(files::MATRIX))?,
            blocks: HashedFile::create(folder.file(files::BLOCKS))?,
            labels: HashedFile::create(folder.file(files::LABELS))?,
            cells: ParquetFile::create(&folder.file(files::CELLS), options.obs_schema.clone())?,
            target: target.to_path_buf(),
            folder,
            options,
            labeller,
            census: ValueCensus::default(),
            cell_count: 0,
            nonzeros: 0,
            value_width: ValueWidth::U8,
        })
    }

    fn take(&mut self, slab: PackedSlab) -> Result<()> {
        let shift = self.matrix.bytes();
        self.matrix.append(&slab.bytes)?;
        for block in &slab.blocks {
            self.nonzeros += u64::from(block.entries);
            self.value_width = self.value_width.max(block.value_width);
            let mut entry = *block;
            entry.offset += shift;
            self.blocks.append(&entry.to_bytes())?;
        }
        let codes = self.labeller.codes(slab.first.0, &slab.obs)?;
        self.labels.append(bytemuck::cast_slice(&codes))?;
        self.cells.write(&slab.obs)?;
        self.cell_count += slab.obs.num_rows() as u64;
        self.census.merge(slab.census);
        Ok(())
    }

    /// Decides what the values are.
    fn value_kind(&self) -> Result<ValueKind> {
        let census = &self.census;
        let names = gene_names(&self.options.var);
        let refuse = |what: &str, seen: &[BadValue], count: u64, hint: &str| {
            let places: Vec<String> = seen
                .iter()
                .map(|bad| format!("cell {}, gene `{}`: {}", bad.cell, names[bad.gene as usize], bad.value))
                .collect();
            let place = format!("{}, {}", self.options.source.path, self.options.source.matrix);
            Err(Error::data(place, format!("{count} {what} ({})", places.join("; ")), hint))
        };
        if 0 < census.not_finite_count {
            return refuse(
                "values are NaN or infinite",
                &census.not_finite,
                census.not_finite_count,
                "clean the matrix before ingesting",
            );
        }
        let continuous = self.value_width == ValueWidth::F32;
        match self.options.values {
            ValuesAs::Continuous => Ok(ValueKind::Continuous),
            ValuesAs::Counts if 0 < census.negative_count => refuse(
                "counts are negative",
                &census.negative,
                census.negative_count,
                "name the layer that holds raw counts with --layer",
            ),
            ValuesAs::Counts if let Some(seen) = census.fraction => refuse(
                "or more values are no counts",
                &[seen],
                1,
                "name the layer that holds raw counts with --layer, or say --values log1p",
            ),
            ValuesAs::Auto if 0 < census.negative_count && census.fraction.is_none() => refuse(
                "counts are negative",
                &census.negative,
                census.negative_count,
                "name the layer that holds raw counts with --layer; for values that are no counts say --values log1p",
            ),
            ValuesAs::Auto | ValuesAs::Counts => Ok(if continuous { ValueKind::Continuous } else { ValueKind::Counts }),
        }
    }

    fn commit(self) -> Result<Manifest> {
        if self.cell_count == 0 {
            return Err(Error::data(self.options.source.path, "there are no cells", "check the file, or the filter"));
        }
        let values = self.value_kind()?;
        let names = gene_names(&self.options.var);
        report_duplicate_genes(&names);
        let genes = u32::try_from(names.len())
            .map_err(|_| Error::data(&self.options.source.path, "there are more than 2^32 genes", ""))?;
        let (conditions, cells_of, covariates) = self.labeller.finish();

        let mut written: BTreeMap<String, FileEntry> = BTreeMap::new();
        // Its blocks have a checksum each, so that one can be checked without reading the others.
        let matrix = FileEntry { checksum: None, ..self.matrix.finish()? };
        written.insert(files::MATRIX.into(), matrix);
        written.insert(files::BLOCKS.into(), self.blocks.finish()?);
        written.insert(files::LABELS.into(), self.labels.finish()?);
        self.cells.finish()?;
        let mut file = ParquetFile::create(&self.folder.file(files::GENES), self.options.var.schema())?;
        file.write(&self.options.var)?;
        file.finish()?;
        let table = conditions_batch(&conditions, &cells_of)?;
        let mut file = ParquetFile::create(&self.folder.file(files::CONDITIONS), table.schema())?;
        file.write(&table)?;
        file.finish()?;
        for name in [files::CELLS, files::GENES, files::CONDITIONS] {
            written.insert(name.into(), checksum_of(&self.folder.file(name))?);
        }

        let mut manifest = Manifest {
            format: FORMAT_VERSION,
            cells: self.cell_count,
            genes,
            nonzeros: self.nonzeros,
            values,
            gene_width: GeneWidth::for_genes(genes),
            value_width: self.value_width,
            codec: self.options.codec,
            block_rows: BLOCK_ROWS,
            keys: self.options.keys,
            conditions,
            covariates,
            sources: vec![self.options.source],
            written_by: format!("perturbine {}", env!("CARGO_PKG_VERSION")),
            files: written,
            checksum: String::new(),
        };
        let not_json = |error: serde_json::Error| Error::Bug(error.to_string());
        manifest.checksum = hex(xxh3_64(manifest.checked_text().map_err(not_json)?.as_bytes()));
        let text = serde_json::to_vec_pretty(&manifest).map_err(not_json)?;
        write_atomically(&self.folder.file(files::MANIFEST), &text)?;
        self.folder.commit()?;
        tracing::info!("{} holds {} cells", self.target.display(), manifest.cells);
        Ok(manifest)
    }
}

impl Sink for Store {
    type In = PackedSlab;
    type Summary = Manifest;

    fn push(&mut self, slab: PackedSlab) -> Result<ControlFlow<()>, BoxError> {
        self.take(slab)?;
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Manifest, BoxError> {
        Ok(self.commit()?)
    }
}

/// The first column of `var`.
fn gene_names(var: &RecordBatch) -> Vec<String> {
    use arrow::array::AsArray;
    var.column(0).as_string::<i32>().iter().map(|name| name.unwrap_or_default().to_owned()).collect()
}

fn report_duplicate_genes(names: &[String]) {
    let mut seen = HashSet::new();
    let twice: Vec<&str> = names.iter().filter(|name| !seen.insert(name.as_str())).map(String::as_str).collect();
    if !twice.is_empty() {
        tracing::warn!(
            "{} gene names come more than once, such as `{}`; genes are told apart by position",
            twice.len(),
            twice[0]
        );
    }
}
