//! Finds the files that belong to a matrix, and reads the names of cells and genes.
//!
//! A 10x folder holds `matrix.mtx`, `barcodes.tsv` and `features.tsv` (`genes.tsv` before Cell Ranger 3),
//! each possibly with `.gz`. Archives put a prefix before each name, and kallisto writes `NAME.mtx`,
//! `NAME.barcodes.txt` and `NAME.genes.txt`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, StringArray, StringBuilder},
    datatypes::{DataType, Field, Schema},
};
use schemas::{Error, Result};

use super::text::LineReader;

/// The files of a matrix.
#[derive(Debug)]
pub(super) struct MatrixMarketFiles {
    pub(super) matrix: PathBuf,
    pub(super) cells: Option<PathBuf>,
    pub(super) genes: Option<PathBuf>,
}

/// Whether a file has the name of a Matrix Market file.
pub(super) fn is_matrix(path: &Path) -> bool {
    stem(path).is_some()
}

/// The matrices in a folder.
pub(crate) fn matrices(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut found: Vec<PathBuf> = paths.map_err(Error::io("read", folder))?;
    found.retain(|path| is_matrix(path) && path.is_file());
    found.sort();
    Ok(found)
}

impl MatrixMarketFiles {
    /// The files of a folder that holds one matrix.
    pub(super) fn of_folder(folder: &Path) -> Result<Self> {
        let found = matrices(folder)?;
        let place = || folder.display().to_string();
        match found.as_slice() {
            [] => Err(Error::data(place(), "has neither matrix.mtx nor matrix.mtx.gz", "give the folder that has one")),
            [matrix] => {
                let files = Self::beside(matrix);
                for (there, name) in [(&files.cells, "barcodes.tsv"), (&files.genes, "features.tsv or genes.tsv")] {
                    if there.is_none() {
                        let hint = format!("put {name} (or its .gz) next to it, or name {}", matrix.display());
                        return Err(Error::data(place(), format!("holds a matrix, but no {name}"), hint));
                    }
                }
                Ok(files)
            }
            several => {
                let names: Vec<String> = several.iter().map(|path| file_name(path)).collect();
                let message = format!("holds several matrices: {}", names.join(", "));
                Err(Error::data(place(), message, "give one of the files"))
            }
        }
    }

    /// A matrix with the names next to it.
    pub(super) fn beside(matrix: &Path) -> Self {
        let stem = stem(matrix).unwrap_or_default();
        let prefix = stem.strip_suffix("matrix").unwrap_or("");
        let find = |names: [String; 3]| {
            let paths = names
                .iter()
                .flat_map(|name| [matrix.with_file_name(name), matrix.with_file_name(format!("{name}.gz"))]);
            paths.into_iter().find(|path| path.is_file())
        };
        Self {
            matrix: matrix.to_path_buf(),
            cells: find([
                format!("{prefix}barcodes.tsv"),
                format!("{stem}.barcodes.txt"),
                format!("{prefix}barcodes.txt"),
            ]),
            genes: find([format!("{prefix}features.tsv"), format!("{prefix}genes.tsv"), format!("{stem}.genes.txt")]),
        }
    }

    /// Total size of all files, in bytes.
    pub(super) fn bytes(&self) -> Result<u64> {
        let all = [Some(&self.matrix), self.cells.as_ref(), self.genes.as_ref()];
        all.into_iter()
            .flatten()
            .map(|path| fs::metadata(path).map(|file| file.len()).map_err(Error::io("read", path)))
            .sum()
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name before `.mtx` or `.mtx.gz`.
fn stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".bz2")).unwrap_or(name);
    name.strip_suffix(".mtx").map(str::to_owned)
}

/// The kind of feature that is a gene.
const GENE_EXPRESSION: &str = "Gene Expression";
/// Maximum number of kinds of features; files with more have something else in this column.
const MOST_KINDS: usize = 16;

/// The columns of a file without a header, separated by tabs.
pub(super) struct NameFile {
    pub(super) path: PathBuf,
    /// The columns; there is at least one.
    columns: Vec<StringArray>,
}

impl NameFile {
    /// Reads a file; every line has as many columns as the first.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut lines = LineReader::open(path)?;
        let mut columns = vec![StringBuilder::new()];
        let mut rows = 0;
        while lines.advance()? {
            let text = std::str::from_utf8(lines.bytes())
                .map_err(|_| lines.error("is not UTF-8 text", "convert the file to UTF-8"))?;
            if rows == 0 {
                columns.resize_with(text.split('\t').count(), StringBuilder::new);
            }
            let mut found = 0;
            for value in text.split('\t') {
                if let Some(column) = columns.get_mut(found) {
                    column.append_value(value);
                }
                found += 1;
            }
            if found != columns.len() {
                let message = format!("has {found} columns, but the first line has {}", columns.len());
                return Err(lines.error(message, "separate columns by tabs"));
            }
            rows += 1;
        }
        let columns = columns.iter_mut().map(StringBuilder::finish).collect();
        Ok(Self { path: path.to_path_buf(), columns })
    }

    /// Number of names.
    pub(super) fn rows(&self) -> u64 {
        self.columns[0].len() as u64
    }

    /// The genes; `gene` is the symbol, if there is one.
    pub(super) fn into_genes(self) -> Result<RecordBatch> {
        let names: &[&str] = match self.columns.len() {
            1 => &["gene"],
            2 => &["gene_ids", "gene"],
            _ => &["gene_ids", "gene", "feature_types"],
        };
        let mut columns = self.table(names);
        if names.len() != 1 {
            columns.swap(0, 1);
        }
        self.warn_of_other_kinds();
        batch(columns)
    }

    /// For files that list feature types, reports features other than gene expression. They are kept, since the
    /// file holds a single matrix and users may want them.
    fn warn_of_other_kinds(&self) {
        let Some(kinds) = self.columns.get(2) else { return };
        let mut counts = BTreeMap::new();
        for kind in kinds.iter().flatten() {
            *counts.entry(kind).or_insert(0_u64) += 1;
        }
        // Other files have something else in the third column.
        if counts.remove(GENE_EXPRESSION).is_none() || counts.is_empty() || counts.len() > MOST_KINDS {
            return;
        }
        let others: Vec<String> = counts.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        tracing::warn!(
            "{}: features that are not of the type {GENE_EXPRESSION} are kept as genes: {}",
            self.path.display(),
            others.join(", ")
        );
    }

    /// The cells; `cell` is the barcode, and further columns become `column_2` and so on.
    pub(super) fn into_cells(self) -> Result<RecordBatch> {
        batch(self.table(&["cell"]))
    }

    fn table(&self, names: &[&str]) -> Vec<(String, ArrayRef)> {
        let name = |at: usize| names.get(at).map_or_else(|| format!("column_{}", at + 1), |name| (*name).to_owned());
        self.columns.iter().enumerate().map(|(at, values)| (name(at), Arc::new(values.clone()) as ArrayRef)).collect()
    }
}

fn batch(columns: Vec<(String, ArrayRef)>) -> Result<RecordBatch> {
    let fields: Vec<Field> = columns.iter().map(|(name, _)| Field::new(name, DataType::Utf8, true)).collect();
    let arrays = columns.into_iter().map(|(_, values)| values).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|error| Error::Bug(error.to_string()))
}
