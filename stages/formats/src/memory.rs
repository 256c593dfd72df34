//! A source for cells that a program already holds.

use std::{ops::Range, sync::Arc};

use arrays::rows::RANGE_CELLS;
use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use schemas::{
    Error, Result,
    atlas::Origin,
    chunk::CsrRows,
    numbers::{checked, to_usize},
};

use super::source::Source;

/// Cells in memory.
#[derive(Debug)]
pub struct CellsInMemory {
    origin: Origin,
    obs: RecordBatch,
    var: RecordBatch,
    expression: CsrRows,
}

impl CellsInMemory {
    /// Cells with these columns of labels and without genes, for decisions that depend only on labels.
    ///
    /// # Panics
    /// If there is no column, or columns differ in length.
    #[must_use]
    pub fn without_genes(columns: &[(&str, Vec<&str>)]) -> Self {
        let rows = columns[0].1.len();
        let columns =
            columns.iter().map(|(name, values)| (*name, Arc::new(StringArray::from(values.clone())) as ArrayRef));
        let obs = RecordBatch::try_from_iter(columns).expect("columns of one length");
        let var = RecordBatch::new_empty(Arc::new(Schema::new(vec![Field::new("gene", DataType::Utf8, false)])));
        let expression = CsrRows::canonical(vec![0; rows + 1], Vec::new(), Vec::new(), 0).expect("empty rows");
        Self::new("a.h5ad", obs, var, expression).expect("a row for each cell")
    }

    /// Cells with their annotations and expression; the first column of `obs` is the cell's name, that of `var` the gene's.
    ///
    /// # Errors
    /// Annotations for a number of cells other than the number of rows.
    pub fn new(name: &str, obs: RecordBatch, var: RecordBatch, expression: CsrRows) -> Result<Self> {
        let (cells, rows) = (obs.num_rows(), expression.rows());
        if cells != rows {
            return Err(Error::data(
                name,
                format!("obs has {cells} rows, but the matrix has {rows}"),
                "give one row per cell",
            ));
        }
        let bytes = (obs.get_array_memory_size() + schemas::ByteSize::byte_size(&expression)) as u64;
        Ok(Self { origin: Origin { path: name.to_owned(), bytes, ..Origin::default() }, obs, var, expression })
    }
}

impl Source for CellsInMemory {
    fn kind(&self) -> &str {
        "memory"
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn cells(&self) -> u64 {
        self.obs.num_rows() as u64
    }

    fn nonzeros(&self) -> Option<u64> {
        Some(self.expression.genes().len() as u64)
    }

    fn var(&self) -> &RecordBatch {
        &self.var
    }

    fn obs_schema(&self) -> SchemaRef {
        self.obs.schema()
    }

    fn obs(&self, cells: Range<u64>, columns: &[usize]) -> Result<RecordBatch> {
        let rows = rows(&cells);
        let obs = self.obs.slice(rows.start, rows.len()).project(columns);
        obs.map_err(|error| Error::Bug(error.to_string()))
    }

    fn range_end(&self, first: u64) -> Result<u64> {
        Ok((first + RANGE_CELLS).min(self.cells()))
    }

    fn expression(&self, cells: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        let (mut pointers, mut genes, mut values) = spare.into_parts();
        pointers.push(0);
        for row in rows(&cells) {
            let (row_genes, row_values) = self.expression.row(row);
            genes.extend_from_slice(row_genes);
            values.extend_from_slice(row_values);
            pointers.push(checked(genes.len(), "entries of a piece")?);
        }
        let gene_count = checked(self.var.num_rows(), "genes")?;
        CsrRows::canonical(pointers, genes, values, gene_count)
            .map_err(|error| Error::data(&self.origin.path, error.to_string(), "give one column per gene"))
    }
}

fn rows(cells: &Range<u64>) -> Range<usize> {
    to_usize(cells.start)..to_usize(cells.end)
}
