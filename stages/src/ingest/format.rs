//! Which format a file or folder has, and how it is opened.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use schemas::{Error, Result};

use super::{mtx, source::Source, table};

/// Which matrix of a file is taken, where a format can hold several, and how a table is told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// A layer to take instead of `X`.
    pub layer: Option<String>,
    /// Whether to take `raw/X` (and `raw/var`) instead of `X`.
    pub raw: bool,
    /// The columns of a table that annotate cells; all other numbers are genes. Where none are named, habits decide.
    pub obs_columns: Option<Vec<String>>,
    /// A table that names the genes which a table of cells has as numbers.
    pub genes_table: Option<PathBuf>,
}

impl Choice {
    /// The name of the matrix within the file.
    #[must_use]
    pub fn matrix(&self) -> String {
        match (&self.layer, self.raw) {
            (Some(layer), _) => format!("layers/{layer}"),
            (None, true) => "raw/X".into(),
            (None, false) => "X".into(),
        }
    }
}

/// The formats that are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A file that anndata wrote.
    H5ad,
    /// A 10x folder, or a Matrix Market file.
    MatrixMarket,
    /// A Parquet or Arrow table of cells, or a folder of them.
    Table,
}

impl Format {
    /// What a file or folder is taken for, by its name and its first bytes.
    ///
    /// # Errors
    /// A path that leads nowhere.
    pub fn of(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::Missing { path: path.into(), kind: "file or folder" });
        }
        if mtx::is_one(path)? {
            return Ok(Self::MatrixMarket);
        }
        if table::is_one(path)? {
            return Ok(Self::Table);
        }
        if path.is_dir() {
            return Err(Error::data(
                path.display().to_string(),
                "the folder holds no cells in a format that is known here",
                "a 10x folder holds matrix.mtx, a table of cells is one or several .parquet or .arrow files",
            ));
        }
        Ok(Self::H5ad)
    }

    /// Its name, as `inspect` tells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::H5ad => "h5ad",
            Self::MatrixMarket => "mtx",
            Self::Table => "table",
        }
    }
}

/// Opens cells of any format.
///
/// # Errors
/// A path that leads nowhere, a format that is not known here, a file that is not as it should be.
pub fn open(path: &Path, choice: &Choice) -> Result<Arc<dyn Source>> {
    let format = Format::of(path)?;
    if format != Format::H5ad && choice.matrix() != "X" {
        let message = format!("{} holds one matrix only", path.display());
        return Err(Error::usage(message, "--layer and --raw choose among those of an .h5ad file"));
    }
    match format {
        Format::MatrixMarket => Ok(Arc::new(mtx::MatrixMarket::open(path)?)),
        Format::Table => Ok(Arc::new(table::CellTable::open(path, choice)?)),
        #[cfg(feature = "hdf5")]
        Format::H5ad => Ok(Arc::new(super::h5ad::H5adReader::open(path, choice)?)),
        #[cfg(not(feature = "hdf5"))]
        Format::H5ad => Err(Error::data(
            path.display().to_string(),
            "its format is not known here",
            "build with the feature `hdf5`",
        )),
    }
}
