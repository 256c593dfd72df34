//! Reads Parquet and Arrow tables of cells, the format of large releases: one row per cell.
//!
//! Values are in one column per gene, alongside the annotations (wide), or in two columns of lists: genes as
//! numbers, and their values. A table may be one file, or a folder of files with the same columns.
//!
//! Row groups (record batches in Arrow files) are read and unpacked one by one. If one would take more memory
//! than a row range may have, all values are first written to a scratch file: those of tables with lists batch by
//! batch, those of wide tables a few columns at a time.

mod casts;
mod file;
mod folder;
mod genes;
pub mod handed;
mod ipc;
mod layout;
mod marker;
mod part;
mod values;

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arrays::{exact, rows::RANGE_CELLS};
use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray},
    compute::concat_batches,
    datatypes::{DataType, Schema, SchemaRef},
};
use schemas::{
    Error, Result,
    atlas::Origin,
    chunk::CsrRows,
    numbers::{checked, to_usize},
};
use stage::interrupt::Interrupt;

pub(super) use self::folder::tables_of;
pub use self::folder::{companions, is_one};
use self::{
    casts::{cast, lists_of},
    file::TableFile,
    folder::{check_same, check_subfolders, genes_table},
    genes::Numbering,
    layout::{TableLayout, ValueColumns},
    marker::{ListColumns, Marker},
    values::TableValues,
};
use super::{
    choice::{Choice, ListStart},
    source::Source,
    transpose::{Transposed, Transposer},
};

/// Maximum unpacked size of the values of one part, and maximum number of its rows; larger ones go through a scratch file.
const PART_BYTES: u64 = 32 << 20;
const PART_ROWS: u64 = 1 << 14;
/// Size of the columns of a wide table that are unpacked together while writing that file.
const COLUMNS_BYTES: u64 = 64 << 20;
/// Bytes of a value, packed and unpacked together: in a wide table, and in lists.
const WIDE_BYTES: u64 = 8;
const LIST_BYTES: u64 = 20;
/// Number of files whose descriptions are cached.
const OPEN_FILES: usize = 8;

/// A table of cells.
#[derive(Debug)]
pub struct CellTable {
    origin: Origin,
    paths: Vec<PathBuf>,
    opened: Mutex<Vec<(usize, TableFile)>>,
    parts: Vec<PlacedPart>,
    layout: TableLayout,
    obs: SchemaRef,
    var: RecordBatch,
    numbering: Arc<Numbering>,
    marker: Marker,
    scratch: Option<Transposed>,
}

/// A part of a file and the cells that it holds.
#[derive(Clone, Debug)]
struct PlacedPart {
    file: usize,
    part: usize,
    cells: Range<u64>,
    /// The size of its values.
    bytes: u64,
}

impl CellTable {
    /// Opens a file, or all tables of a folder in the order of their names.
    ///
    /// # Errors
    /// Files that can't be read, or that differ in their columns; ambiguous columns.
    pub fn open(path: &Path, choice: &Choice) -> Result<Self> {
        let paths = match path.is_dir() {
            true => tables_of(path)?,
            false => vec![path.to_path_buf()],
        };
        let place = path.display().to_string();
        let first = match paths.first() {
            Some(first) => TableFile::open(first)?,
            None => return Err(Error::data(place, "holds no table", "name the folder that holds Parquet files")),
        };
        let schema = first.schema();
        let layout = TableLayout::from_schema(&schema, choice.obs_columns.as_deref(), &place)?;
        if path.is_dir() {
            check_subfolders(path, choice, &first, &layout)?;
        }
        let (lists, values_per_row, value_bytes) = match &layout.values {
            ValueColumns::Wide(genes) => (None, genes.len() as u64, WIDE_BYTES),
            ValueColumns::Lists { genes, .. } => (Some(*genes), 0, LIST_BYTES),
        };
        let (mut parts, mut largest, mut cells, mut bytes) = (Vec::new(), Some(-1), 0, 0);
        for (at, path) in paths.iter().enumerate() {
            let file = TableFile::open(path)?;
            check_same(&first, &file, &layout)?;
            bytes += fs::metadata(path).map_err(Error::io("read", path))?.len();
            for (number, part) in file.parts(lists)?.iter().enumerate() {
                let values = part.rows.saturating_mul(values_per_row).max(part.list_values);
                let bytes = values.saturating_mul(value_bytes);
                let end = part.rows.saturating_add(cells);
                parts.push(PlacedPart { file: at, part: number, cells: cells..end, bytes });
                cells = end;
            }
            largest = lists.and_then(|column| Some(largest?.max(file.largest(column)?)));
        }
        let genes_table = genes_table(path, choice).filter(|_| lists.is_some() || choice.genes_table.is_some());
        let mut table = Self {
            origin: Origin {
                path: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                bytes,
                ..Origin::default()
            },
            paths,
            opened: Mutex::default(),
            parts,
            obs: layout.obs_schema(&schema),
            layout,
            var: RecordBatch::new_empty(Arc::new(Schema::empty())),
            numbering: Arc::new(Numbering::Plain(0)),
            marker: Marker::Never,
            scratch: None,
        };
        let (var, numbering) = match (&table.layout.values, genes_table) {
            (ValueColumns::Wide(genes), _) => {
                let names = genes.iter().map(|at| schema.field(*at).name().clone());
                (genes::named(names)?, Numbering::Plain(checked(genes.len(), "genes")?))
            }
            (ValueColumns::Lists { .. }, Some(path)) => genes::read(&path)?,
            (ValueColumns::Lists { genes, .. }, None) => {
                genes::numbered(largest.map_or_else(|| table.largest_gene(*genes), Ok)?, &place)?
            }
        };
        (table.var, table.numbering) = (var, Arc::new(numbering));
        table.marker = table.marker_of(choice.list_start, &place)?;
        if table.parts.iter().any(|part| part.bytes > PART_BYTES || part.cells.end - part.cells.start > PART_ROWS) {
            table.scratch = Some(table.transposed(&choice.interrupt)?);
        }
        Ok(table)
    }

    /// How the first entry of lists is read; warns if the table has a marker.
    fn marker_of(&self, list_start: ListStart, place: &str) -> Result<Marker> {
        let ValueColumns::Lists { genes, values } = self.layout.values else { return Ok(Marker::Never) };
        let Some(first) = self.parts.iter().find(|part| !part.cells.is_empty()) else { return Ok(Marker::Never) };
        let rows = to_usize(first.cells.end - first.cells.start);
        let lists = ListColumns { part: first.part, genes, values, rows };
        let marker = Marker::detect(list_start, &self.file(first.file)?, lists, &self.numbering)?;
        if let Marker::Entry { number, value } = marker {
            tracing::warn!(
                "{place}: every list begins with number {number} at {value}, which is read as a marker and left out; \
                 --list-start gene reads it as a gene"
            );
        }
        Ok(marker)
    }

    /// An open file; the descriptions of large releases are too many to keep all of them.
    fn file(&self, at: usize) -> Result<TableFile> {
        let opened = || self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = opened().iter().find(|(other, _)| *other == at) {
            return Ok(file.clone());
        }
        let file = TableFile::open(&self.paths[at])?;
        let mut opened = opened();
        if opened.len() == OPEN_FILES {
            opened.remove(0);
        }
        opened.push((at, file.clone()));
        Ok(file)
    }

    /// The parts that hold some cells, each with the range of its rows.
    fn parts_of(&self, cells: Range<u64>) -> impl Iterator<Item = (&PlacedPart, Range<usize>)> {
        let first = self.parts.partition_point(|part| part.cells.end <= cells.start);
        let within = self.parts[first..].iter().take_while(move |part| part.cells.start < cells.end);
        within.map(move |part| {
            let row = |cell: u64| to_usize(cell.clamp(part.cells.start, part.cells.end) - part.cells.start);
            (part, row(cells.start)..row(cells.end))
        })
    }

    /// The largest gene number, found by reading all of them.
    fn largest_gene(&self, column: usize) -> Result<i64> {
        let mut largest = -1;
        for (part, rows) in self.parts_of(0..self.cells()) {
            let file = self.file(part.file)?;
            file.for_each(part.part, &[column], rows, |batch| {
                largest = largest.max(genes::largest(&cast(&file, batch.column(0), &lists_of(DataType::Int64))?));
                Ok(())
            })?;
        }
        Ok(largest)
    }

    /// Calls `show` with cell, gene and value of every entry of some rows of a part; for a wide table, a few
    /// columns at a time.
    fn for_each(
        &self,
        part: &PlacedPart,
        rows: Range<usize>,
        mut show: impl FnMut(u64, u32, f32) -> Result<()>,
    ) -> Result<()> {
        let file = self.file(part.file)?;
        let first = part.cells.start + rows.start as u64;
        let bad_row = |row: usize, message: String| {
            Error::data(
                format!("{}, cell {}", file.path().display(), first + row as u64),
                message,
                "each cell needs as many values as genes; --genes-table says which numbers are genes",
            )
        };
        match &self.layout.values {
            ValueColumns::Wide(genes) => {
                let column = (rows.len() as u64 * WIDE_BYTES).max(1);
                let together = to_usize(COLUMNS_BYTES / column).max(1);
                for (block, columns) in genes.chunks(together).enumerate() {
                    let batch = file.read(part.part, columns, rows.clone())?;
                    let values = TableValues::wide(&file, &batch, checked(block * together, "genes")?)?;
                    values.for_each(&bad_row, |row, gene, value| show(first + row as u64, gene, value))?;
                }
                Ok(())
            }
            ValueColumns::Lists { genes, values } => {
                let mut next = first;
                file.for_each(part.part, &[*genes, *values], rows, |batch| {
                    let values = TableValues::lists(&file, &batch, &self.numbering, self.marker)?;
                    let before = to_usize(next - first);
                    let bad_row = |row: usize, message: String| bad_row(before + row, message);
                    values.for_each(&bad_row, |row, gene, value| show(next + row as u64, gene, value))?;
                    next += batch.num_rows() as u64;
                    Ok(())
                })
            }
        }
    }

    fn transposed(&self, interrupt: &Interrupt) -> Result<Transposed> {
        let genes: u32 = checked(self.var.num_rows(), "genes")?;
        let guess = self.cells().saturating_mul(genes.into()) / 8;
        let mut entries = Transposer::create(&self.origin.path, self.cells(), genes, guess, interrupt)?;
        for (part, rows) in self.parts_of(0..self.cells()) {
            self.for_each(part, rows, |cell, gene, value| entries.push(cell, gene, value))?;
        }
        entries.finish()
    }
}

/// Cells are named by a column `cell`, `barcode` or the like, otherwise `cell0`, `cell1` and so on.
/// Annotations are kept as text, whole numbers (`Int64`, or `UInt64` for those stored so), other numbers and
/// flags; other columns are left out, with a warning.
impl Source for CellTable {
    fn kind(&self) -> &str {
        "table"
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn cells(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.cells.end)
    }

    fn nonzeros(&self) -> Option<u64> {
        self.scratch.as_ref().map(Transposed::entries)
    }

    fn var(&self) -> &RecordBatch {
        &self.var
    }

    fn obs_schema(&self) -> SchemaRef {
        Arc::clone(&self.obs)
    }

    fn obs(&self, cells: Range<u64>, columns: &[usize]) -> Result<RecordBatch> {
        let bug = |error: arrow::error::ArrowError| Error::Bug(error.to_string());
        let schema = Arc::new(self.obs.project(columns).map_err(bug)?);
        // The first column is the name, the others follow as listed; `None` if names are made up.
        let in_file = |column: &usize| if *column == 0 { self.layout.name } else { Some(self.layout.obs[*column - 1]) };
        let read: Vec<usize> = columns.iter().filter_map(in_file).collect();
        let mut batches = Vec::new();
        for (part, rows) in self.parts_of(cells.clone()) {
            let file = self.file(part.file)?;
            let first = part.cells.start + rows.start as u64;
            let mut found = match read.is_empty() {
                true => Vec::new(),
                false => file.read(part.part, &read, rows.clone())?.columns().to_vec(),
            }
            .into_iter();
            let arrays = columns.iter().zip(schema.fields()).map(|(column, field)| {
                if in_file(column).is_none() {
                    let names = (first..first + rows.len() as u64).map(|cell| format!("cell{cell}"));
                    return Ok(Arc::new(StringArray::from_iter_values(names)) as ArrayRef);
                }
                let array = found.next().ok_or_else(|| Error::Bug("a column was not read".into()))?;
                cast(&file, &array, field.data_type())
            });
            let arrays: Vec<ArrayRef> = arrays.collect::<Result<_>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
            batches.push(RecordBatch::try_new_with_options(Arc::clone(&schema), arrays, &options).map_err(bug)?);
        }
        concat_batches(&schema, &batches).map_err(bug)
    }

    fn range_end(&self, first: u64) -> Result<u64> {
        if let Some(scratch) = &self.scratch {
            return scratch.range_end(first);
        }
        // Pieces consist of whole parts, since each part is unpacked as a whole.
        let at = self.parts.partition_point(|part| part.cells.end <= first);
        let (mut end, mut bytes) = (first + 1, 0_u64);
        for part in &self.parts[at..] {
            bytes = bytes.saturating_add(part.bytes);
            if end != first + 1 && (first + RANGE_CELLS < part.cells.end || bytes > PART_BYTES) {
                break;
            }
            end = part.cells.end;
        }
        Ok(end)
    }

    fn expression(&self, cells: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        if let Some(scratch) = &self.scratch {
            return scratch.expression(cells, spare);
        }
        let first = cells.start;
        let (mut pointers, mut genes, mut values) = spare.into_parts();
        pointers.push(0);
        for (part, rows) in self.parts_of(cells) {
            self.append(part, rows, &mut pointers, &mut genes, &mut values)?;
        }
        let count = checked(self.var.num_rows(), "genes")?;
        CsrRows::canonical(pointers, genes, values, count)
            .map_err(|bad| exact::bad_rows(&bad, &self.origin.path, first))
    }
}

impl CellTable {
    /// Appends some rows of a part: columns are shown one after another, so entries are sorted by their rows.
    fn append(
        &self,
        part: &PlacedPart,
        rows: Range<usize>,
        pointers: &mut Vec<u32>,
        genes: &mut Vec<u32>,
        values: &mut Vec<f32>,
    ) -> Result<()> {
        let first = part.cells.start + rows.start as u64;
        let mut entries: Vec<(u32, u32, f32)> = Vec::new();
        let mut next = vec![0_u32; rows.len() + 1];
        self.for_each(part, rows, |cell, gene, value| {
            let row = checked(cell - first, "rows of a piece")?;
            entries.push((row, gene, value));
            next[row as usize + 1] += 1;
            Ok(())
        })?;
        let mut total: u32 = checked(genes.len(), "entries of a piece")?;
        for pointer in &mut next {
            total = total.checked_add(*pointer).ok_or_else(|| Error::Bug("2^32 entries in a piece".into()))?;
            *pointer = total;
        }
        pointers.extend_from_slice(&next[1..]);
        genes.resize(total as usize, 0);
        values.resize(total as usize, 0.0);
        for (row, gene, value) in entries {
            let at = next[row as usize] as usize;
            (genes[at], values[at]) = (gene, value);
            next[row as usize] += 1;
        }
        Ok(())
    }
}
