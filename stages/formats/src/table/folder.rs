//! Finds the files of a folder that form a table of cells, and checks that they match.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use arrow::datatypes::{DataType, FieldRef, Schema};
use schemas::{Error, Result, arrow::PREDICTIONS_MANIFEST, atlas::files};

use super::{
    super::choice::Choice,
    file::{self, TableFile},
    layout::TableLayout,
};

/// Names of a table of genes next to tables of cells.
const GENES_TABLES: [&str; 3] = ["gene_metadata.parquet", "genes.parquet", "var.parquet"];

/// Files of atlases, models and predictions, which contain their own tables.
const OURS: [&str; 5] = [files::MANIFEST, files::LABELS, PREDICTIONS_MANIFEST, "model.json", "checkpoints"];

/// Whether a file, or any file of a folder, is read as a table of cells.
///
/// # Errors
/// A folder that can't be read.
pub fn is_one(path: &Path) -> Result<bool> {
    if !path.is_dir() {
        return Ok(file::is_one(path));
    }
    // An atlas also holds tables, and may have lost its manifest.
    let is_atlas = [files::MANIFEST, files::LABELS].iter().any(|name| path.join(name).exists());
    Ok(!is_atlas && !tables_of(path)?.is_empty())
}

/// The tables of cells in a folder.
pub(crate) fn tables_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = entries_of(folder)?;
    found.retain(|path| {
        let is_genes_table = GENES_TABLES.iter().any(|name| path.ends_with(name));
        !is_genes_table && path.is_file() && file::is_one(path)
    });
    Ok(found)
}

/// Checks the tables in the subfolders of a folder of tables. Those with columns of values in common with its `first` table may be
/// cells that would be missed, and are refused; a warning reports the subfolders of others, such as tables of metadata.
pub(super) fn check_subfolders(folder: &Path, choice: &Choice, first: &TableFile, layout: &TableLayout) -> Result<()> {
    let schema = first.schema();
    let values: HashSet<&str> = layout.values.columns().map(|at| schema.field(at).name().as_str()).collect();
    // A table that can't be opened may hold cells.
    let may_hold_cells = |table: &Path| {
        TableFile::open(table)
            .map_or(true, |table| table.schema().fields().iter().any(|field| values.contains(field.name().as_str())))
    };
    let genes_table = choice.genes_table.as_ref().and_then(|path| fs::canonicalize(path).ok());
    let is_genes_table = |table: &Path| genes_table.is_some() && fs::canonicalize(table).ok() == genes_table;
    // Links are followed; each folder is visited once.
    let mut seen: HashSet<PathBuf> = fs::canonicalize(folder).into_iter().collect();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(next) = waiting.pop() {
        // Folders without permission to read are skipped.
        for path in entries_of(&next).unwrap_or_default() {
            let is_ours = || OURS.iter().any(|name| path.join(name).exists());
            if !path.is_dir() || is_ours() || !fs::canonicalize(&path).is_ok_and(|path| seen.insert(path)) {
                continue;
            }
            let mut tables = tables_of(&path).unwrap_or_default();
            tables.retain(|table| !is_genes_table(table));
            if let Some(table) = tables.iter().find(|table| may_hold_cells(table)) {
                let message = format!("contains tables, and so does one of its subfolders ({})", table.display());
                let hint = "move all tables of cells into one folder and other tables out of it, or name the files as separate \
                            inputs";
                return Err(Error::data(folder.display().to_string(), message, hint));
            }
            if !tables.is_empty() {
                let (folder, path) = (folder.display(), path.display());
                tracing::warn!("{folder}: the tables in {path} have none of its columns of values and are not read");
            }
            waiting.push(path);
        }
    }
    Ok(())
}

/// The entries of a folder that are not hidden, ordered by name.
fn entries_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut found = paths.map_err(Error::io("read", folder))?;
    found.retain(|path| !path.file_name().unwrap_or_default().to_string_lossy().starts_with(['.', '_']));
    found.sort();
    Ok(found)
}

/// The table of genes that belongs to tables of cells: the given one, or one in their folder.
pub(super) fn genes_table(path: &Path, choice: &Choice) -> Option<PathBuf> {
    let in_folder = |folder: &Path| GENES_TABLES.iter().map(|name| folder.join(name)).find(|table| table.is_file());
    choice.genes_table.clone().or_else(|| in_folder(if path.is_dir() { path } else { path.parent()? }))
}

/// The files that are read together with a file or folder of tables but are not part of it.
pub fn companions(path: &Path, choice: &Choice) -> Vec<PathBuf> {
    genes_table(path, choice).into_iter().filter(|table| !path.is_dir() || !table.starts_with(path)).collect()
}

/// The hint for files whose columns differ.
const SAME_COLUMNS: &str = "all files of a folder need the same columns, in the same order";

/// Checks that a file has the columns of the first one, and that those in use are at the same indices, since columns
/// are found by index.
pub(super) fn check_same(first: &TableFile, other: &TableFile, layout: &TableLayout) -> Result<()> {
    check_columns(first, other)?;
    let (expected, found) = (first.schema(), other.schema());
    for at in layout.name.into_iter().chain(layout.obs.iter().copied()).chain(layout.values.columns()) {
        let field = expected.field(at);
        let same = found.fields().get(at);
        if !same.is_some_and(|same| same.name() == field.name() && same.data_type() == field.data_type()) {
            let message = format!(
                "column {at} is not `{}` of type {}, as in {}",
                field.name(),
                field.data_type(),
                first.path().display()
            );
            return Err(other.error(message, SAME_COLUMNS));
        }
    }
    Ok(())
}

/// Refuses a file that has a column more or less than the first one, or one of another type.
fn check_columns(first: &TableFile, other: &TableFile) -> Result<()> {
    let (expected, found) = (first.schema(), other.schema());
    let is_like =
        |(one, same): (&FieldRef, &FieldRef)| one.name() == same.name() && one.data_type() == same.data_type();
    if expected.fields().len() == found.fields().len() && expected.fields().iter().zip(found.fields()).all(is_like) {
        return Ok(());
    }
    let place = first.path().display();
    let types = |schema: &Schema| -> HashMap<String, DataType> {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    };
    let (expected_types, found_types) = (types(&expected), types(&found));
    for field in found.fields() {
        let (name, data_type) = (field.name(), field.data_type());
        match expected_types.get(name) {
            None => return Err(other.error(format!("has a column `{name}`, which {place} lacks"), SAME_COLUMNS)),
            Some(of_first) if of_first != data_type => {
                let message = format!("the column `{name}` is of type {data_type}, but of type {of_first} in {place}");
                return Err(other.error(message, SAME_COLUMNS));
            }
            Some(_) => {}
        }
    }
    if let Some(field) = expected.fields().iter().find(|field| !found_types.contains_key(field.name())) {
        return Err(other.error(format!("lacks the column `{}` of {place}", field.name()), SAME_COLUMNS));
    }
    if expected.fields().len() != found.fields().len() {
        let message = format!("has {} columns, but {place} has {}", found.fields().len(), expected.fields().len());
        return Err(other.error(message, SAME_COLUMNS));
    }
    Ok(())
}
