//! Reads `.h5ad` files, as anndata 0.7 to 0.13 writes them, in chunks of rows.
//!
//! Nothing that grows with the number of cells is held: row pointers, codes and names are read for one chunk at a time. What
//! stays is `var`, and the category names of each categorical column.

mod column;
mod matrix;
mod table;
mod values;

use std::path::{Path, PathBuf};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::SchemaRef,
};
use hdf5_metno::{File, Group};
use schemas::{Error, Result, chunk::Chunk, ids::CellIndex};

use self::{matrix::Matrix, table::Table};
use crate::h5::{self, Place};

/// More genes than any file has; what says otherwise is damaged, and must not make us allocate.
const MOST_GENES: u64 = 1 << 27;

/// What libhdf5 keeps of each dataset beyond a read: one chunk as h5py makes them, so that no column is kept whole.
const CACHE_BYTES: usize = 1 << 20;
const CACHE_SLOTS: usize = 521;

/// What of a file is read, and how much at once.
#[derive(Clone, Debug)]
pub struct H5adOptions {
    /// A layer to take instead of `X`.
    pub layer: Option<String>,
    /// Whether to take `raw/X` (and `raw/var`) instead of `X`.
    pub raw: bool,
    /// At most so many cells a chunk; cells with many genes come in smaller chunks.
    pub rows_per_chunk: usize,
}

impl Default for H5adOptions {
    fn default() -> Self {
        Self { layer: None, raw: false, rows_per_chunk: 8192 }
    }
}

/// An open `.h5ad` file, whose shape and columns have been checked.
#[derive(Debug)]
pub struct H5adReader {
    matrix: Matrix,
    obs: Table,
    var: RecordBatch,
    rows_per_chunk: usize,
}

impl H5adReader {
    /// Opens a file and checks its structure: the matrix is there in a known form, and `obs` and `var` fit it.
    ///
    /// # Errors
    /// A file that is missing, no HDF5 file or cut short; no matrix, a matrix in CSC form or of unknown encoding; an unknown
    /// layer; shapes that disagree. The error names the object and what would mend it.
    pub fn open(path: &Path, options: &H5adOptions) -> Result<Self> {
        h5::silence();
        let place = Place::root(path);
        let file = open_file(path, &place)?;
        let (group, matrix_name, matrix_place, var_group) = choose(&file, path, &place, options)?;
        let matrix = Matrix::open(&group, &matrix_name, matrix_place)?;
        let obs = Table::open(&file, "obs", "cell", &place)?;
        let (var_group, var_place) = var_group;
        let var = Table::open(&var_group, "var", "gene", &var_place)?;
        let (cells, genes) = (matrix.rows(), matrix.genes());
        obs.expect_rows(cells, "cells")?;
        var.expect_rows(genes, "genes")?;
        if MOST_GENES < genes {
            return Err(place.error(format!("{genes} genes are more than can be"), "check how the file was written"));
        }
        let var = var.read(0..h5::index(genes)?)?;
        Ok(Self { matrix, obs, var, rows_per_chunk: options.rows_per_chunk.max(1) })
    }

    /// How many cells there are.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.matrix.rows()
    }

    /// How many genes there are.
    #[must_use]
    pub fn genes(&self) -> u64 {
        self.matrix.genes()
    }

    /// How many values are stored, where that can be told without reading them all (a dense matrix can't).
    #[must_use]
    pub fn nonzeros(&self) -> Option<u64> {
        self.matrix.nonzeros()
    }

    /// What is known of each gene; the first column, `gene`, is its name in the index of `var`.
    ///
    /// A column of `var` that is itself called `gene` comes as `var_gene`.
    #[must_use]
    pub fn var(&self) -> &RecordBatch {
        &self.var
    }

    /// The columns of each chunk's `obs`: `cell`, the name in the index, then the others in the file's order.
    ///
    /// Text and text categories are `Utf8` (a missing one is null), whole numbers `Int64`, others `Float32` or `Float64`, flags
    /// `Boolean`. Columns of an unknown kind are left out, with a warning. A column that is itself called `cell` comes as
    /// `obs_cell`.
    #[must_use]
    pub fn obs_schema(&self) -> SchemaRef {
        self.obs.schema()
    }

    /// One column of `obs`, in slices of `rows_per_chunk` rows, as text; a missing value is null.
    ///
    /// # Errors
    /// A column that is not there, or can't be read.
    pub fn obs_column<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Result<ArrayRef>> + 'a {
        let rows = self.cells();
        let unknown = move || {
            let schema = self.obs_schema();
            let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            Error::unknown("obs column", name, known)
        };
        (0..rows).step_by(self.rows_per_chunk).map(move |first| {
            let slice = h5::index(first)?..h5::index(rows.min(first + self.rows_per_chunk as u64))?;
            let column = self.obs.read_column(name, slice).unwrap_or_else(|| Err(unknown()))?;
            arrow::compute::cast(&column, &arrow::datatypes::DataType::Utf8)
                .map_err(|error| Error::Bug(error.to_string()))
        })
    }

    /// All rows in the file's order. The stream ends after the first error.
    #[must_use]
    pub fn chunks(self) -> H5adChunks {
        H5adChunks { reader: self, next: 0 }
    }

    fn chunk(&self, first: u64) -> Result<Chunk> {
        let expression = self.matrix.read(first, self.rows_per_chunk)?;
        let start = h5::index(first)?;
        let obs = self.obs.read(start..start + expression.rows())?;
        Ok(Chunk { first: CellIndex(first), expression, obs })
    }
}

/// The rows of a file, chunk by chunk.
#[derive(Debug)]
pub struct H5adChunks {
    reader: H5adReader,
    next: u64,
}

impl Iterator for H5adChunks {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        let cells = self.reader.cells();
        if cells <= self.next {
            return None;
        }
        let chunk = self.reader.chunk(self.next);
        self.next = match &chunk {
            Ok(chunk) => self.next + chunk.expression.rows() as u64,
            Err(_) => cells,
        };
        Some(chunk)
    }
}

fn open_file(path: &Path, place: &Place) -> Result<File> {
    // Asked first, since libhdf5 gives one and the same error for every file that it can't open.
    std::fs::File::open(path).map_err(Error::io("read", path))?;
    let opened = File::with_options().with_fapl(|access| access.chunk_cache(CACHE_SLOTS, CACHE_BYTES, 0.75)).open(path);
    opened.map_err(|error| {
        place.error(
            format!("is no HDF5 file, or is cut short ({error})"),
            "an .h5ad file is expected; if it was downloaded, download it again",
        )
    })
}

type Chosen = (Group, String, Place, (Group, Place));

/// Which matrix to read, and the group whose `var` names its genes.
fn choose(file: &File, path: &Path, place: &Place, options: &H5adOptions) -> Result<Chosen> {
    let whole = || (Group::clone(file), place.clone());
    match (&options.layer, options.raw) {
        (Some(_), true) => Err(Error::usage("a layer and raw were both asked for", "choose one of them")),
        (None, false) => Ok((Group::clone(file), "X".into(), place.child("X"), whole())),
        (None, true) => {
            let Ok(raw) = file.group("raw") else {
                return Err(Error::Missing { path: PathBuf::from(path), kind: "`raw` in this file" });
            };
            let raw_place = place.child("raw");
            Ok((raw.clone(), "X".into(), raw_place.child("X"), (raw, raw_place)))
        }
        (Some(layer), false) => {
            let layers = file.group("layers").ok();
            let names = layers.as_ref().and_then(|layers| layers.member_names().ok()).unwrap_or_default();
            match layers {
                Some(layers) if names.contains(layer) => {
                    Ok((layers, layer.clone(), place.child("layers").child(layer), whole()))
                }
                _ => Err(Error::unknown("layer", layer, names.iter().map(String::as_str))),
            }
        }
    }
}
