//! Which format a file or folder has, and how it is opened.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use schemas::{Error, Result};
use serde::{Deserialize, Serialize};
use stage::interrupt::Interrupt;

use super::{
    in_hdf5, mtx,
    source::{Source, check_names},
    table, zarr,
};

/// The signature of an HDF5 file, at its start or after a user block of 512 bytes, or twice that, or twice that again.
const HDF5_SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
/// Larger user blocks are not looked behind.
const LARGEST_USER_BLOCK: u64 = 1 << 20;

/// Which matrix of a file is taken, where a format can hold several, and how it is read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Choice {
    /// A layer to take instead of `X`.
    pub layer: Option<String>,
    /// Whether to take `raw/X` (and `raw/var`) instead of `X`.
    pub raw: bool,
    /// The genome to take of a 10x file that has several.
    pub genome: Option<String>,
    /// The columns of a table that annotate cells; all other numbers are genes. Where none are named, habits decide.
    pub obs_columns: Option<Vec<String>>,
    /// A table that names the genes which a table of cells has as numbers.
    pub genes_table: Option<PathBuf>,
    /// Whether the first entry of each list of a table is a gene's.
    pub list_start: ListStart,
    /// The program that reads HDF5 files in its own process; without one they are read in this process,
    /// after a check of their structure, which goes before libhdf5 in either.
    pub worker: Option<PathBuf>,
    /// Ends what takes long while a source is opened or read: a matrix that is transposed, and the worker.
    #[serde(skip)]
    pub interrupt: Interrupt,
}

/// The first entry of the lists in a table of cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListStart {
    /// A marker where every list begins with the same entry below zero, whose number comes nowhere else; a gene elsewhere.
    #[default]
    Auto,
    /// A marker, which is left out.
    Marker,
    /// A gene, whatever its value.
    Gene,
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
pub enum SourceFormat {
    /// A file that anndata wrote, or another program as anndata does.
    H5ad,
    /// A zarr store, a folder that holds the same.
    Zarr,
    /// An HDF5 file of Cell Ranger or Space Ranger.
    TenX,
    /// A 10x folder, or a Matrix Market file.
    MatrixMarket,
    /// A Parquet or Arrow table of cells, or a folder of them.
    Table,
}

impl SourceFormat {
    /// The format of a file or folder, by its content.
    ///
    /// # Errors
    /// A format that is not known here, a file that can't be read.
    pub fn of(path: &Path) -> Result<Self> {
        if !is_hdf5(path)? {
            if zarr::is_one(path) {
                return Ok(Self::Zarr);
            }
            if mtx::is_one(path)? {
                return Ok(Self::MatrixMarket);
            }
            if table::is_one(path)? {
                return Ok(Self::Table);
            }
        }
        if path.is_dir() {
            return Err(Error::data(
                path.display().to_string(),
                "the folder holds no cells in a supported format",
                "a 10x folder holds matrix.mtx, a zarr store zarr.json or .zgroup, a table of cells one or several .parquet \
                 or .arrow files",
            ));
        }
        in_hdf5::format_of(path)
    }
}

/// Opens cells of any format; HDF5 files through the worker, where one is named.
///
/// # Errors
/// A path that leads nowhere, a format that is not known here, a file that is not as it should be.
pub fn open(path: &Path, choice: &Choice) -> Result<Arc<dyn Source>> {
    if !path.exists() {
        return Err(Error::Missing { path: path.into(), kind: "file or folder" });
    }
    match &choice.worker {
        Some(worker) if is_hdf5(path)? => in_hdf5::open_remote(worker, path, choice),
        _ => open_here(path, choice),
    }
}

/// The files that the cells of a folder are read from, if each can also be read by itself; none for other folders and for files.
///
/// # Errors
/// As for [`SourceFormat::of`].
pub(super) fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    match SourceFormat::of(path)? {
        SourceFormat::MatrixMarket => mtx::matrices(path),
        SourceFormat::Table => table::tables_of(path),
        _ => Ok(Vec::new()),
    }
}

/// Files next to the one that is opened, or named by `choice`, that are read as well.
///
/// # Errors
/// As for [`SourceFormat::of`].
pub fn companions(path: &Path, choice: &Choice) -> Result<Vec<PathBuf>> {
    Ok(match SourceFormat::of(path)? {
        SourceFormat::MatrixMarket if !path.is_dir() => mtx::companions(path),
        SourceFormat::Table => table::companions(path, choice),
        _ => Vec::new(),
    })
}

/// Opens cells of any format in this process.
///
/// # Errors
/// As for [`open`].
pub(super) fn open_here(path: &Path, choice: &Choice) -> Result<Arc<dyn Source>> {
    let format = SourceFormat::of(path)?;
    if matches!(format, SourceFormat::MatrixMarket | SourceFormat::Table) && choice.matrix() != "X" {
        let message = format!("{} holds one matrix only", path.display());
        return Err(Error::usage(message, "--layer and --raw choose among those of AnnData (.h5ad, zarr)"));
    }
    let source: Arc<dyn Source> = match format {
        SourceFormat::MatrixMarket => Arc::new(mtx::MatrixMarket::open(path, choice)?),
        SourceFormat::Zarr => Arc::new(zarr::open(path, choice)?),
        SourceFormat::Table => Arc::new(table::CellTable::open(path, choice)?),
        SourceFormat::H5ad => in_hdf5::open_h5ad(path, choice)?,
        SourceFormat::TenX => in_hdf5::open_tenx(path, choice)?,
    };
    check_names(&*source)?;
    Ok(source)
}

pub(super) fn is_hdf5(path: &Path) -> Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut blocks =
        std::iter::successors(Some(512), |size| Some(2 * size)).take_while(|size| *size <= LARGEST_USER_BLOCK);
    let begins = |offset: u64| {
        let mut found = [0; 8];
        file.read_exact_at(&mut found, offset).is_ok() && found == *HDF5_SIGNATURE
    };
    Ok(begins(0) || blocks.any(begins))
}
