//! Reads `.h5ad` files, as anndata 0.7 to 0.13 writes them, in chunks of rows.
//!
//! Nothing that grows with the number of cells is held: row pointers, codes and names are read for one chunk at a time. What
//! stays is `var`, and the category names of each categorical column.

mod column;
mod matrix;
mod table;
mod values;

use std::path::Path;

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
        Self { layer: None, raw: false, rows_per_chunk: 1024 }
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
        let place = Place::root(path);
        let file = open_file(path, &place)?;
        let chosen = choose(&file, path, &place, options)?;
        let matrix = Matrix::open(&chosen.group, &chosen.name, chosen.place)?;
        let obs = Table::open(&file, "obs", "cell", &place)?;
        let var = Table::open(&chosen.var_group, "var", "gene", &chosen.var_place)?;
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
    pub fn obs_column(&self, name: String) -> impl Iterator<Item = Result<ArrayRef>> + '_ {
        let rows = self.cells();
        let unknown = |name: &str| {
            let schema = self.obs_schema();
            let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            Error::unknown("obs column", name, known)
        };
        (0..rows).step_by(self.rows_per_chunk).map(move |first| {
            let slice = h5::index(first)?..h5::index(rows.min(first + self.rows_per_chunk as u64))?;
            let column = self.obs.read_column(&name, slice).unwrap_or_else(|| Err(unknown(&name)))?;
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
    h5::open(path).map_err(|error| {
        place.error(
            format!("is no HDF5 file, or is cut short ({error})"),
            "an .h5ad file is expected; if it was downloaded, download it again",
        )
    })
}

/// A matrix of a file, and the group whose `var` names its genes.
struct Chosen {
    group: Group,
    name: String,
    place: Place,
    var_group: Group,
    var_place: Place,
}

fn choose(file: &File, path: &Path, root: &Place, options: &H5adOptions) -> Result<Chosen> {
    let beside_var = |group: Group, name: &str, place: Place| Chosen {
        group,
        name: name.to_owned(),
        place,
        var_group: Group::clone(file),
        var_place: root.clone(),
    };
    match (&options.layer, options.raw) {
        (Some(_), true) => Err(Error::usage("a layer and raw were both asked for", "choose one of them")),
        (None, false) => Ok(beside_var(Group::clone(file), "X", root.child("X"))),
        (None, true) => {
            let missing = |_| Error::Missing { path: path.to_path_buf(), kind: "`raw` in this file" };
            let raw = file.group("raw").map_err(missing)?;
            let place = root.child("raw");
            Ok(Chosen {
                group: raw.clone(),
                name: "X".to_owned(),
                place: place.child("X"),
                var_group: raw,
                var_place: place,
            })
        }
        (Some(layer), false) => {
            let layers = file.group("layers").ok();
            let names = layers.as_ref().and_then(|layers| layers.member_names().ok()).unwrap_or_default();
            match layers {
                Some(layers) if names.contains(layer) => {
                    Ok(beside_var(layers, layer, root.child("layers").child(layer)))
                }
                _ => Err(Error::unknown("layer", layer, names.iter().map(String::as_str))),
            }
        }
    }
}
