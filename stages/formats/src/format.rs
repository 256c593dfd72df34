//! Detects the format of a file or folder, and opens it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use schemas::{Error, Result};

pub use super::choice::{Choice, ListStart, SourceFormat};
use super::{
    hdf5_signature::is_hdf5,
    in_hdf5, mtx,
    source::{Source, check_names, chunks},
    table, zarr,
};

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

/// A text about the matrix in a dictionary in `uns` of an `.h5ad` file; `None` if it is not there, if `scanpy.pp.log1p` has
/// changed the matrix since (it leaves `uns/log1p`), or if the file is of another format.
///
/// # Errors
/// A file that can't be read.
pub fn text_in_uns(path: &Path, dictionary: &str, key: &str) -> Result<Option<String>> {
    if path.is_dir() || !is_hdf5(path)? { Ok(None) } else { in_hdf5::text_in_uns(path, dictionary, key) }
}

/// Matrices in which files usually keep counts beside values that were made from them: a layer, or `raw/X`.
const COUNT_MATRICES: [(&str, Option<&str>); 4] = [
    ("--layer counts", Some("counts")),
    ("--raw", None),
    ("--layer raw_counts", Some("raw_counts")),
    ("--layer raw", Some("raw")),
];

/// Layers of whole numbers that are only a part of a cell's counts, as velocyto writes them.
const PARTS_OF_COUNTS: [&str; 3] = ["spliced", "unspliced", "ambiguous"];

/// The flag that reads counts from another matrix of the same file than its `X`, if the first rows of one are counts: of one with a
/// usual name, or else of any layer. `None` if `choice` names another matrix already.
#[must_use]
pub fn flag_for_counts(path: &Path, choice: &Choice) -> Option<String> {
    if choice.matrix() != "X" {
        return None;
    }
    let mut usual = COUNT_MATRICES.into_iter().filter(|(_, layer)| holds_counts(path, choice, *layer) == Some(true));
    if let Some((flag, _)) = usual.next() {
        return Some(flag.to_owned());
    }
    let others = layers(path, choice)?.into_iter().filter(|name| !PARTS_OF_COUNTS.contains(&name.as_str()));
    let mut holding = others.filter(|name| holds_counts(path, choice, Some(name)) == Some(true));
    holding.next().map(|name| flag_for_layer(&name))
}

/// The flag that reads logarithms from a layer of an AnnData file whose chosen matrix holds counts: from one whose name says so, and
/// whose first rows are not counts.
#[must_use]
pub fn flag_for_logarithms(path: &Path, choice: &Choice) -> Option<String> {
    let says_so = |name: &String| ["log", "norm"].iter().any(|part| name.to_lowercase().contains(part));
    let named = layers(path, choice)?.into_iter().filter(says_so);
    let mut holding = named.filter(|name| holds_counts(path, choice, Some(name)) == Some(false));
    holding.next().map(|name| flag_for_layer(&name))
}

/// The names of an AnnData file's layers; `None` if it is not one, or can't be read.
fn layers(path: &Path, choice: &Choice) -> Option<Vec<String>> {
    if !path.is_dir() && !is_hdf5(path).ok()? {
        return None;
    }
    let source = open(path, &Choice { lists_members: true, ..choice.clone() }).ok()?;
    let names = source.members().iter().filter_map(|member| member.name.strip_prefix("layers/"));
    Some(names.map(str::to_owned).collect())
}

/// The flag that reads a layer, quoted where a shell needs it.
fn flag_for_layer(name: &str) -> String {
    let is_plain = name.chars().all(|sign| sign.is_alphanumeric() || "_-.".contains(sign));
    if is_plain { format!("--layer {name}") } else { format!("--layer '{name}'") }
}

/// Whether the first rows of a layer, or of `raw/X`, are counts; `None` if they can't be read, as if the file had no such matrix.
fn holds_counts(path: &Path, choice: &Choice, layer: Option<&str>) -> Option<bool> {
    let choice = Choice { layer: layer.map(str::to_owned), raw: layer.is_none(), ..choice.clone() };
    let rows = chunks(open(path, &choice).ok()?).next()?.ok()?;
    let values = rows.expression.values();
    Some(!values.is_empty() && values.iter().all(|value| *value >= 0.0 && value.fract() == 0.0))
}
