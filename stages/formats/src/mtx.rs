//! Reads Matrix Market files: 10x folders, and single files with or without names next to them.
//!
//! Text can only be read from its beginning, and lists entries in any order. Therefore it is read once, on
//! opening, into a scratch file that can be read by cells.

mod banner;
mod entries;
mod folder;
mod text;

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use schemas::{
    Error, Result,
    atlas::Origin,
    chunk::CsrRows,
    numbers::{bounded, checked, to_usize},
};

pub(super) use self::folder::matrices;
use self::{
    banner::MatrixMarketHeader,
    folder::{MatrixMarketFiles, NameFile},
    text::LineReader,
};
use super::{
    choice::Choice,
    source::{MOST_GENES, Source},
    transpose::{Transposed, Transposer},
};

/// Maximum number of cells; a text file that claims more is damaged, and no memory is allocated for it.
const MOST_CELLS: u64 = 1 << 32;

/// Whether a file, or a folder's content, is read as Matrix Market.
///
/// # Errors
/// A folder that can't be read.
pub fn is_one(path: &Path) -> Result<bool> {
    if path.is_dir() { Ok(!folder::matrices(path)?.is_empty()) } else { Ok(folder::is_matrix(path)) }
}

/// The lists of cells and genes next to a matrix.
pub(super) fn companions(matrix: &Path) -> Vec<PathBuf> {
    let MatrixMarketFiles { cells, genes, .. } = MatrixMarketFiles::beside(matrix);
    cells.into_iter().chain(genes).collect()
}

/// A Matrix Market file, which was read completely.
#[derive(Debug)]
pub struct MatrixMarket {
    origin: Origin,
    cells: CellAnnotations,
    var: RecordBatch,
    expression: Transposed,
}

/// The annotations of the cells.
#[derive(Debug)]
enum CellAnnotations {
    Named(RecordBatch),
    /// This many cells, named `cell0`, `cell1` and so on.
    Counted(u64),
}

impl CellAnnotations {
    fn count(&self) -> u64 {
        match self {
            Self::Named(names) => names.num_rows() as u64,
            Self::Counted(count) => *count,
        }
    }
}

/// The kind of the file's rows: cells or genes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowAxis {
    Genes,
    Cells,
}

impl MatrixMarket {
    /// Opens a folder with one matrix and its names, or a single file. A single file's rows are the cells, unless
    /// files of names next to it have as many lines as it has columns.
    ///
    /// # Errors
    /// Files that are missing, or do not match each other; the first invalid line.
    pub fn open(path: &Path, choice: &Choice) -> Result<Self> {
        let files = if path.is_dir() { MatrixMarketFiles::of_folder(path)? } else { MatrixMarketFiles::beside(path) };
        let mut lines = LineReader::open(&files.matrix)?;
        let header = MatrixMarketHeader::read(&mut lines)?;
        let cell_names = files.cells.as_deref().map(NameFile::read).transpose()?;
        let gene_names = files.genes.as_deref().map(NameFile::read).transpose()?;
        let rows = what_rows_are(&header, cell_names.as_ref(), gene_names.as_ref(), &lines)?;
        let (cells, genes) = match rows {
            RowAxis::Genes => (header.columns, header.rows),
            RowAxis::Cells => (header.rows, header.columns),
        };
        if cells > MOST_CELLS || genes > MOST_GENES {
            let message = format!("{cells} cells × {genes} genes are too many (at most {MOST_CELLS} × {MOST_GENES})");
            return Err(lines.error(message, "check the sizes, and which of rows and columns are cells"));
        }
        let gene_count = bounded(genes);
        let var = gene_names.map_or_else(|| generated("gene", 0..genes), NameFile::into_genes)?;
        let cells = match cell_names {
            Some(names) => CellAnnotations::Named(names.into_cells()?),
            None => CellAnnotations::Counted(cells),
        };
        let place = path.display().to_string();
        let mut entries = Transposer::create(place, cells.count(), gene_count, header.entries, &choice.interrupt)?;
        entries::for_each(&mut lines, &header, |row, column, value| {
            let (cell, gene) = if rows == RowAxis::Genes { (column, row) } else { (row, column) };
            entries.push(cell, checked(gene, "a gene")?, value)
        })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let origin = Origin { path: name, bytes: files.bytes()?, ..Origin::default() };
        Ok(Self { origin, cells, var, expression: entries.finish()? })
    }
}

/// Rows are genes in every 10x folder; otherwise, the numbers of names decide, if they can.
fn what_rows_are(
    header: &MatrixMarketHeader,
    cells: Option<&NameFile>,
    genes: Option<&NameFile>,
    lines: &LineReader,
) -> Result<RowAxis> {
    let matrix = lines.path().display();
    let fits = |names: Option<&NameFile>, size: u64| names.is_none_or(|names| names.rows() == size);
    if cells.is_none() && genes.is_none() {
        return Ok(RowAxis::Cells);
    }
    let rows_may_be_cells = fits(cells, header.rows) && fits(genes, header.columns);
    if fits(genes, header.rows) && fits(cells, header.columns) {
        if rows_may_be_cells {
            tracing::warn!(
                "{matrix}: it has as many rows as columns ({}), so the names next to it do not show which are genes; its rows are \
                 read as genes, its columns as cells. If its rows are cells, transpose it first, in Python: \
                 scipy.io.mmwrite('transposed.mtx', scipy.io.mmread('matrix.mtx').T)",
                header.rows
            );
        }
        return Ok(RowAxis::Genes);
    }
    if rows_may_be_cells {
        return Ok(RowAxis::Cells);
    }
    let counts: Vec<String> = [genes, cells]
        .into_iter()
        .flatten()
        .map(|names| format!("{} has {} lines", names.path.display(), names.rows()))
        .collect();
    let message =
        format!("the matrix has {} rows and {} columns, but {}", header.rows, header.columns, counts.join(" and "));
    Err(lines.error(
        message,
        "name files have no header and one line per gene or cell; check that they belong to this matrix",
    ))
}

fn generated(kind: &str, range: Range<u64>) -> Result<RecordBatch> {
    let names = StringArray::from_iter_values(range.map(|at| format!("{kind}{at}")));
    let schema = Schema::new(vec![Field::new(kind, DataType::Utf8, true)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(names) as ArrayRef])
        .map_err(|error| Error::Bug(error.to_string()))
}

/// For 10x files, `gene` is the symbol; `gene_ids` and `feature_types` are further columns.
impl Source for MatrixMarket {
    fn kind(&self) -> &str {
        "mtx"
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn cells(&self) -> u64 {
        self.cells.count()
    }

    fn nonzeros(&self) -> Option<u64> {
        Some(self.expression.entries())
    }

    fn var(&self) -> &RecordBatch {
        &self.var
    }

    fn obs_schema(&self) -> SchemaRef {
        match &self.cells {
            CellAnnotations::Named(names) => names.schema(),
            CellAnnotations::Counted(_) => Arc::new(Schema::new(vec![Field::new("cell", DataType::Utf8, true)])),
        }
    }

    fn obs(&self, cells: Range<u64>, columns: &[usize]) -> Result<RecordBatch> {
        let obs = match &self.cells {
            CellAnnotations::Counted(_) => generated("cell", cells)?,
            CellAnnotations::Named(names) => names.slice(to_usize(cells.start), to_usize(cells.end - cells.start)),
        };
        obs.project(columns).map_err(|error| Error::Bug(error.to_string()))
    }

    fn range_end(&self, first: u64) -> Result<u64> {
        self.expression.range_end(first)
    }

    fn expression(&self, cells: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        self.expression.expression(cells, spare)
    }
}
