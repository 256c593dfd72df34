//! AnnData in any storage: an `.h5ad` file, as written by anndata 0.5 to 0.13 and other programs, or a zarr
//! store.
//!
//! Nothing that grows with the number of cells is kept in memory: row pointers, codes and names are read one
//! chunk at a time. Only `var` and the category names of each categorical column are kept.

pub(super) mod column;
mod csc;
pub(super) mod group;
pub(super) mod matrix;
mod members;
pub(super) mod sparse;
mod table;

use std::{ops::Range, path::PathBuf};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use schemas::{
    Error, Result,
    atlas::{InPlace, InPlaceMatrix, Origin},
    chunk::CsrRows,
    numbers::to_usize,
};

use self::{
    group::{MemberKind, StoredGroup},
    matrix::CheckedMatrix,
    table::CheckedDataFrame,
};
use super::{
    choice::Choice,
    source::{AnnDataMember, MOST_GENES, Source},
};

/// Cells of an AnnData object, whose shape and columns have been checked.
#[derive(Debug)]
pub struct AnnData {
    kind: &'static str,
    path: PathBuf,
    origin: Origin,
    matrix: CheckedMatrix,
    obs: CheckedDataFrame,
    var: RecordBatch,
    members: Vec<AnnDataMember>,
}

impl AnnData {
    /// Opens the content of a group, in a file or store of this many bytes, and checks its structure: the matrix
    /// exists in a known form, and `obs` and `var` match it.
    ///
    /// # Errors
    /// No matrix, or one with an unknown encoding; an unknown layer; shapes that disagree. The error names the
    /// object and how to fix it.
    pub(super) fn open(kind: &'static str, root: &dyn StoredGroup, bytes: u64, choice: &Choice) -> Result<Self> {
        let place = root.place();
        let path = place.path();
        if let Some(genome) = &choice.genome {
            let message = format!("{} is not a 10x file, so there is no genome {genome} to choose", path.display());
            return Err(Error::usage(message, "leave out --genome"));
        }
        let chosen = choose(root, choice)?;
        let group = chosen.group.as_deref().unwrap_or(root);
        let var_group = if chosen.own_var { group } else { root };
        let matrix = CheckedMatrix::open(group, &chosen.name, &choice.interrupt)?;
        let obs = CheckedDataFrame::open(root, "obs", "cell")?;
        let var = CheckedDataFrame::open(var_group, chosen.var, "gene")?;
        let (cells, genes) = (matrix.rows(), matrix.genes());
        obs.expect_rows(cells, "cells")?;
        var.expect_rows(genes, "genes")?;
        if genes > MOST_GENES {
            let message = format!("{genes} genes are too many (at most {MOST_GENES})");
            return Err(place.error(message, "check how the file was written"));
        }
        let var = var.read_all(0..to_usize(genes))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let origin = Origin { path: name, bytes, matrix: choice.matrix(), ..Origin::default() };
        let members = if choice.lists_members { members::members(root) } else { Vec::new() };
        Ok(Self { kind, path: path.to_path_buf(), origin, matrix, obs, var, members })
    }
}

/// A column of `var` that is itself named `gene` becomes `var_gene` (`var_var_gene` if there is also a
/// `var_gene`), and one of `obs` named `cell` becomes `obs_cell`. Text and text categories are `Utf8` (a
/// missing value is null), whole numbers `Int64` (`UInt64` if stored so), other numbers `Float32` or
/// `Float64`, flags `Boolean`. Columns of an unknown kind are left out, with a warning.
impl Source for AnnData {
    fn kind(&self) -> &str {
        self.kind
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

    fn members(&self) -> &[AnnDataMember] {
        &self.members
    }

    fn obs(&self, cells: Range<u64>, columns: &[usize]) -> Result<RecordBatch> {
        self.obs.read(to_usize(cells.start)..to_usize(cells.end), columns)
    }

    fn range_end(&self, first: u64) -> Result<u64> {
        self.matrix.range_end(first)
    }

    fn in_place(&self) -> Option<InPlace> {
        let mut chunks = Vec::new();
        let form = self.matrix.in_place(&mut chunks)?;
        let path = std::fs::canonicalize(&self.path).ok()?;
        let matrix = InPlaceMatrix { path, bytes: self.origin.bytes, object: self.origin.matrix.clone(), form };
        Some(InPlace { matrix, chunks })
    }

    fn expression(&self, cells: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        self.matrix.read(cells, spare)
    }
}

/// A matrix, and the `var` that names its genes.
struct MatrixChoice {
    /// The group that holds the matrix; `None` for the root.
    group: Option<Box<dyn StoredGroup>>,
    name: String,
    /// Whether `var` is stored with the matrix, not at the root.
    own_var: bool,
    var: &'static str,
}

fn choose(root: &dyn StoredGroup, choice: &Choice) -> Result<MatrixChoice> {
    let at_root = |name: &str, var| MatrixChoice { group: None, name: name.to_owned(), own_var: false, var };
    let has = |name: &str| root.member(name).map(|member| member != MemberKind::Missing);
    match (&choice.layer, choice.raw) {
        (Some(_), true) => Err(Error::usage("both a layer and raw were requested", "choose one of them")),
        (None, false) if has("X")? => Ok(at_root("X", "var")),
        (None, false) => Err(root.place().child("X").error("there is no such matrix", other_matrices(root)?)),
        // The location before anndata 0.7.
        (None, true) if has("raw.X")? => Ok(at_root("raw.X", "raw.var")),
        (None, true) if root.member("raw")? == MemberKind::Group => {
            Ok(MatrixChoice { group: Some(root.group("raw")?), name: "X".to_owned(), own_var: true, var: "var" })
        }
        (None, true) => {
            let mut others: Vec<String> = layers(root)?.into_iter().map(|layer| format!("--layer {layer}")).collect();
            if has("X")? {
                others.insert(0, "leave out --raw to take X".into());
            }
            Err(root.place().error("the file has no raw/X, which --raw asks for", others.join(", or use ")))
        }
        (Some(layer), false) => {
            let names = layers(root)?;
            if names.is_empty() {
                let message = format!("the file has no layers, and --layer {layer} asks for one");
                return Err(root.place().error(message, "leave out --layer to take X"));
            }
            if !names.contains(layer) {
                return Err(Error::unknown("layer", layer, names.iter().map(String::as_str)));
            }
            Ok(MatrixChoice { group: Some(root.group("layers")?), name: layer.clone(), own_var: false, var: "var" })
        }
    }
}

fn layers(root: &dyn StoredGroup) -> Result<Vec<String>> {
    if root.member("layers")? == MemberKind::Group { root.group("layers")?.names() } else { Ok(Vec::new()) }
}

/// Lists the matrices that could be used if there is no `X`.
fn other_matrices(root: &dyn StoredGroup) -> Result<String> {
    let mut choices: Vec<String> = layers(root)?.into_iter().map(|layer| format!("--layer {layer}")).collect();
    if root.member("raw")? != MemberKind::Missing || root.member("raw.X")? != MemberKind::Missing {
        choices.push("--raw".into());
    }
    Ok(match choices.is_empty() {
        true => "the file has neither a layer nor `raw`: set adata.X and write it again".into(),
        false => format!("use another one: {}", choices.join(", ")),
    })
}
