//! Reads `.h5ad` files, as anndata 0.5 to 0.13 and others write them, in chunks of rows.
//!
//! Nothing that grows with the number of cells is held: row pointers, codes and names are read for one chunk at a time. What
//! stays is `var`, and the category names of each categorical column.

mod column;
mod compound;
mod csc;
mod in_place;
pub(super) mod matrix;
pub(super) mod sparse;
mod table;
pub(super) mod values;

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use hdf5_metno::{File, Group};
use schemas::{
    Error, Result,
    atlas::{InPlace, Origin},
    chunk::CsrRows,
};

pub(crate) use self::in_place::RowsInPlace;
use self::{matrix::Matrix, table::Table};
use super::{format::Choice, source::Source};
use crate::h5::{self, Place};

/// More genes than any file has; what says otherwise is damaged, and must not make us allocate.
const MOST_GENES: u64 = 1 << 24;

/// An open `.h5ad` file, whose shape and columns have been checked.
#[derive(Debug)]
pub struct H5adReader {
    path: PathBuf,
    origin: Origin,
    matrix: Matrix,
    obs: Table,
    var: RecordBatch,
}

impl H5adReader {
    /// Opens a file and checks its structure: the matrix is there in a known form, and `obs` and `var` fit it.
    ///
    /// # Errors
    /// A file that is missing, no HDF5 file or cut short; no matrix, or one of unknown encoding; an unknown layer; shapes
    /// that disagree. The error names the object and what would mend it.
    pub fn open(path: &Path, choice: &Choice) -> Result<Self> {
        let place = Place::root(path);
        let file = h5::open_for_reading(path)?;
        if let Some(genome) = &choice.genome {
            let message = format!("{} is no 10x file, of which the genome {genome} could be taken", path.display());
            return Err(Error::usage(message, "leave --genome out"));
        }
        let chosen = choose(&file, path, &place, choice)?;
        let matrix = Matrix::open(&chosen.group, &chosen.name, chosen.place)?;
        let obs = Table::open(&file, "obs", "cell", &place)?;
        let var = Table::open(&chosen.var_group, chosen.var, "gene", &chosen.var_place)?;
        let (cells, genes) = (matrix.rows(), matrix.genes());
        obs.expect_rows(cells, "cells")?;
        var.expect_rows(genes, "genes")?;
        if MOST_GENES < genes {
            return Err(place.error(format!("{genes} genes are more than can be"), "check how the file was written"));
        }
        let var = var.read_all(0..h5::index(genes)?)?;
        let bytes = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let origin = Origin { path: name, bytes, matrix: choice.matrix() };
        Ok(Self { path: path.to_path_buf(), origin, matrix, obs, var })
    }
}

/// A column of `var` that is itself called `gene` comes as `var_gene`, one of `obs` that is called `cell` as `obs_cell`.
/// Text and text categories are `Utf8` (a missing one is null), whole numbers `Int64`, others `Float32` or `Float64`, flags
/// `Boolean`. Columns of an unknown kind are left out, with a warning.
impl Source for H5adReader {
    fn kind(&self) -> &str {
        "h5ad"
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn cells(&self) -> u64 {
        self.matrix.rows()
    }

    fn nonzeros(&self) -> Option<u64> {
        self.matrix.nonzeros()
    }

    fn var(&self) -> &RecordBatch {
        &self.var
    }

    fn obs_schema(&self) -> SchemaRef {
        self.obs.schema()
    }

    fn obs(&self, cells: Range<u64>, columns: &[usize]) -> Result<RecordBatch> {
        self.obs.read(h5::index(cells.start)?..h5::index(cells.end)?, columns)
    }

    fn piece_end(&self, first: u64) -> Result<u64> {
        self.matrix.piece_end(first)
    }

    fn in_place(&self) -> Option<InPlace> {
        self.matrix_in_place()
    }

    fn expression(&self, cells: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        self.matrix.read(cells, spare)
    }
}

/// A matrix of a file, and the group whose `var` names its genes.
struct Chosen {
    group: Group,
    name: String,
    place: Place,
    var_group: Group,
    /// The name of `var` within its group.
    var: &'static str,
    var_place: Place,
}

fn choose(file: &File, path: &Path, root: &Place, choice: &Choice) -> Result<Chosen> {
    let beside_var = |group: Group, name: &str, place: Place| Chosen {
        group,
        name: name.to_owned(),
        place,
        var_group: Group::clone(file),
        var: "var",
        var_place: root.clone(),
    };
    match (&choice.layer, choice.raw) {
        (Some(_), true) => Err(Error::usage("a layer and raw were both asked for", "choose one of them")),
        (None, false) if file.link_exists("X") => Ok(beside_var(Group::clone(file), "X", root.child("X"))),
        (None, false) => Err(root.child("X").error("there is no such matrix", other_matrices(file))),
        // As anndata kept it before 0.7.
        (None, true) if file.link_exists("raw.X") => {
            let chosen = beside_var(Group::clone(file), "raw.X", root.child("raw.X"));
            Ok(Chosen { var: "raw.var", ..chosen })
        }
        (None, true) => {
            let missing = |_| Error::Missing { path: path.to_path_buf(), kind: "`raw` in this file" };
            let raw = file.group("raw").map_err(missing)?;
            let place = root.child("raw");
            Ok(Chosen {
                group: raw.clone(),
                name: "X".to_owned(),
                place: place.child("X"),
                var_group: raw,
                var: "var",
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

/// Which matrices could be taken where there is no `X`.
fn other_matrices(file: &File) -> String {
    let layers = file.group("layers").and_then(|layers| layers.member_names()).unwrap_or_default();
    let mut choices: Vec<String> = layers.into_iter().map(|layer| format!("--layer {layer}")).collect();
    if file.link_exists("raw") || file.link_exists("raw.X") {
        choices.push("--raw".into());
    }
    match choices.is_empty() {
        true => "the file has no layer and no `raw` either: set adata.X and write it again".into(),
        false => format!("take another one: {}", choices.join(", ")),
    }
}
