//! Which files of a folder make a table of cells, and whether they fit together.

use std::{
    fs,
    path::{Path, PathBuf},
};

use schemas::{Error, Result, atlas::files};

use super::{
    super::format::Choice,
    file::{self, TableFile},
    layout::{Layout, ValueColumns},
};

/// Names of a table of genes next to tables of cells.
const GENES_TABLES: [&str; 3] = ["gene_metadata.parquet", "genes.parquet", "var.parquet"];

/// Whether a file, or any file of a folder, is read as a table of cells.
///
/// # Errors
/// A folder that can't be read.
pub fn is_one(path: &Path) -> Result<bool> {
    if !path.is_dir() {
        return Ok(file::is_one(path));
    }
    // An atlas holds tables too, and may have lost what makes it one.
    let is_atlas = [files::MANIFEST, files::LABELS].iter().any(|name| path.join(name).exists());
    Ok(!is_atlas && !tables_of(path)?.is_empty())
}

/// The tables of cells that lie in a folder.
pub(super) fn tables_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut found = paths.map_err(Error::io("read", folder))?;
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_other = name.starts_with(['.', '_']) || GENES_TABLES.contains(&&*name);
        !is_other && path.is_file() && file::is_one(path)
    });
    found.sort();
    Ok(found)
}

/// The table of genes that goes with tables of cells: the one that is named, or else one in their folder.
pub(super) fn genes_table(path: &Path, choice: &Choice) -> Option<PathBuf> {
    let in_folder = |folder: &Path| GENES_TABLES.iter().map(|name| folder.join(name)).find(|table| table.is_file());
    choice.genes_table.clone().or_else(|| in_folder(if path.is_dir() { path } else { path.parent()? }))
}

/// The files that are read with a file or folder of tables, and are not part of it.
pub fn companions(path: &Path, choice: &Choice) -> Vec<PathBuf> {
    genes_table(path, choice).into_iter().filter(|table| !path.is_dir() || !table.starts_with(path)).collect()
}

/// Columns of a file are found by their places, so those that are used must be where the first file has them.
pub(super) fn check_same(first: &TableFile, other: &TableFile, layout: &Layout) -> Result<()> {
    let values = match &layout.values {
        ValueColumns::Wide(genes) => genes.clone(),
        ValueColumns::Lists { genes, values } => vec![*genes, *values],
    };
    let (expected, found) = (first.schema(), other.schema());
    for at in layout.name.iter().chain(&layout.obs).chain(&values) {
        let field = expected.field(*at);
        let same = found.fields().get(*at);
        if !same.is_some_and(|same| same.name() == field.name() && same.data_type() == field.data_type()) {
            let message = format!(
                "column {at} is not `{}` of type {}, as in {}",
                field.name(),
                field.data_type(),
                first.path().display()
            );
            return Err(other.error(message, "all files of a folder need the same columns, in the same order"));
        }
    }
    Ok(())
}
