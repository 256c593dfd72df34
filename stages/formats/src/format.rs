//! Detects the format of a file or folder, and opens it.

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
    source::{Source, check_names, chunks},
    table, zarr,
};

/// The signature of an HDF5 file, at its start or after a user block of 512 bytes, twice that, twice that
/// again, and so on.
const HDF5_SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
/// Larger user blocks are not supported.
const LARGEST_USER_BLOCK: u64 = 1 << 20;

/// Which matrix of a file to read, if the format can hold several, and how to read it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Choice {
    /// A layer to take instead of `X`.
    pub layer: Option<String>,
    /// Whether to take `raw/X` (and `raw/var`) instead of `X`.
    pub raw: bool,
    /// The genome to take from a 10x file that has several.
    pub genome: Option<String>,
    /// The columns of a table that annotate cells, as text and times do; all other numbers and flags are genes. By
    /// default, conventions decide.
    pub obs_columns: Option<Vec<String>>,
    /// A table with the names of genes that a table of cells refers to by number.
    pub genes_table: Option<PathBuf>,
    /// Whether the first entry of each list in a table is a gene's.
    pub list_start: ListStart,
    /// The program that reads HDF5 files in a separate process; without one, this process reads them. In either
    /// case, their structure is checked before libhdf5 opens them.
    pub worker: Option<PathBuf>,
    /// Stops long operations while a source is opened or read: transposing a matrix, and the worker.
    #[serde(skip)]
    pub interrupt: Interrupt,
}

/// The first entry of the lists in a table of cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListStart {
    /// A marker if every list begins with the same negative entry, whose number occurs nowhere else; otherwise a
    /// gene.
    #[default]
    Auto,
    /// A marker, which is left out.
    Marker,
    /// A gene, whatever its value.
    Gene,
}

impl Choice {
    /// The name of the matrix in the file.
    #[must_use]
    pub fn matrix(&self) -> String {
        match (&self.layer, self.raw) {
            (Some(layer), _) => format!("layers/{layer}"),
            (None, true) => "raw/X".into(),
            (None, false) => "X".into(),
        }
    }
}

/// The supported formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceFormat {
    /// A file written by anndata, or by another program in the same format.
    H5ad,
    /// A zarr store: a folder with the same content.
    Zarr,
    /// An HDF5 file of Cell Ranger or Space Ranger.
    TenX,
    /// A 10x folder, or a Matrix Market file.
    MatrixMarket,
    /// A Parquet or Arrow table of cells, or a folder of them.
    Table,
}

impl SourceFormat {
    /// Detects the format of a file or folder from its content.
    ///
    /// # Errors
    /// A format that is not supported, or a file that can't be read.
    pub fn detect(path: &Path) -> Result<Self> {
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
            if let Some(format) = text_table(path).filter(|_| path.is_file()) {
                let message = format!("{format} is not supported");
                let hint = "convert it to Parquet, with a row for each cell and a column for each gene: in pandas, pd.read_csv(...).to_parquet(...)";
                return Err(Error::data(path.display().to_string(), message, hint));
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

/// Opens cells in any format; HDF5 files are opened through the worker, if there is one.
///
/// # Errors
/// A path that does not exist, a format that is not supported, or an invalid file.
pub fn open(path: &Path, choice: &Choice) -> Result<Arc<dyn Source>> {
    if !path.exists() {
        return Err(Error::Missing { path: path.into(), kind: "file or folder" });
    }
    match &choice.worker {
        Some(worker) if is_hdf5(path)? => in_hdf5::open_remote(worker, path, choice),
        _ => open_here(path, choice),
    }
}

/// Reads every value of an `.h5ad` file, of its layers too.
///
/// # Errors
/// The first that can't be read; a file that is not an `.h5ad` file.
pub fn read_every_value(path: &Path, choice: &Choice) -> Result<()> {
    let layers = in_hdf5::layers_of(path)?.into_iter().map(Some);
    for layer in std::iter::once(None).chain(layers) {
        let source = open(path, &Choice { layer, ..choice.clone() })?;
        chunks(source).try_for_each(|chunk| chunk.map(drop))?;
    }
    Ok(())
}

/// The files from which a folder's cells are read, if each can also be read by itself; empty for other
/// folders and for files.
///
/// # Errors
/// As for [`SourceFormat::detect`].
pub(super) fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    match SourceFormat::detect(path)? {
        SourceFormat::MatrixMarket => mtx::matrices(path),
        SourceFormat::Table => table::tables_of(path),
        _ => Ok(Vec::new()),
    }
}

/// Other files that are read together with this one: files next to it, or named by `choice`.
///
/// # Errors
/// As for [`SourceFormat::detect`].
pub fn companions(path: &Path, choice: &Choice) -> Result<Vec<PathBuf>> {
    Ok(match SourceFormat::detect(path)? {
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
    let format = SourceFormat::detect(path)?;
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

/// The format of a table of text, by its name; `None` if it is something else.
fn text_table(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    [(".csv", "CSV"), (".tsv", "TSV")].into_iter().find(|(end, _)| name.ends_with(end)).map(|(_, format)| format)
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
