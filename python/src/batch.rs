//! A batch as it leaves the pipeline: rows of expression and the labels of their cells.

use std::sync::Arc;

use pyo3::{exceptions::PyIndexError, prelude::*};
use schemas::{
    ByteSize,
    batch::{DenseRows, Expression, Genes, Values},
};
use stage::pool::Pooled;

use crate::{
    buffer::{Buffer, Memory},
    columns::ColumnValues,
    process::Owned,
    wide::WideRows,
};

/// The rows of a batch, in a recycled buffer.
pub(crate) enum Rows {
    /// One number for each cell and gene.
    Dense(Pooled<DenseRows>),
    /// 32-bit CSR.
    Csr(Pooled<WideRows>),
    /// CSR in the narrowest types that hold it.
    Packed(Pooled<Expression>),
}

/// The perturbations of cells, as one list.
#[derive(Debug, Default)]
pub(crate) struct Perturbations {
    /// Where each cell's perturbations begin, and where the last one's end.
    pub(crate) offsets: Vec<i64>,
    /// Their codes.
    pub(crate) codes: Vec<i64>,
    /// The dose of each.
    pub(crate) doses: Vec<f32>,
}

/// The parts of a batch.
pub(crate) struct Content {
    pub(crate) rows: Owned<Rows>,
    /// Number of genes of a row.
    pub(crate) genes: usize,
    pub(crate) cells: Vec<i64>,
    pub(crate) conditions: Vec<i64>,
    pub(crate) perturbations: Perturbations,
    pub(crate) columns: Vec<ColumnValues>,
}

/// A share of a batch; its buffers are recycled when the last share is gone.
pub(crate) struct SharedContent(pub(crate) Arc<Content>);

impl ByteSize for SharedContent {
    fn byte_size(&self) -> usize {
        let rows = match &*self.0.rows {
            Rows::Dense(rows) => rows.byte_size(),
            Rows::Csr(rows) => rows.byte_size(),
            Rows::Packed(rows) => rows.byte_size(),
        };
        // The labels are small; a condition and a cell take as much as a perturbation.
        rows + 16 * self.0.cells.len() + 20 * self.0.perturbations.codes.len()
    }
}

/// A batch; every method returns views of its memory.
#[pyclass(frozen, module = "perturbine._native", name = "Batch")]
pub(crate) struct NativeBatch {
    content: Arc<Content>,
    memory: Arc<dyn Memory>,
}

impl NativeBatch {
    pub(crate) fn new(shared: SharedContent) -> Self {
        Self { memory: Arc::<Content>::clone(&shared.0), content: shared.0 }
    }

    fn list<T: crate::buffer::Element>(&self, numbers: &[T]) -> Buffer {
        Buffer::list(&self.memory, numbers)
    }
}

#[pymethods]
impl NativeBatch {
    /// Number of cells and of genes.
    #[getter]
    fn shape(&self) -> (usize, usize) {
        (self.content.cells.len(), self.content.genes)
    }

    /// Dense rows as one array; CSR as row pointers, genes and values.
    fn rows(&self) -> Vec<Buffer> {
        match &*self.content.rows {
            Rows::Dense(rows) => {
                vec![Buffer::rows(&self.memory, rows.as_slice(), rows.rows(), rows.genes(), rows.stride())]
            }
            Rows::Csr(rows) => vec![self.list(&rows.row_pointers), self.list(&rows.genes), self.list(&rows.values)],
            Rows::Packed(rows) => {
                let genes = match &rows.genes {
                    Genes::U16(genes) => self.list(genes),
                    Genes::U32(genes) => self.list(genes),
                };
                let values = match &rows.values {
                    Values::U8(values) => self.list(values),
                    Values::U16(values) => self.list(values),
                    Values::U32(values) => self.list(values),
                    Values::F32(values) => self.list(values),
                };
                vec![self.list(&rows.row_pointers), genes, values]
            }
        }
    }

    /// The index of each cell in the atlas, `int64`.
    fn cell(&self) -> Buffer {
        self.list(&self.content.cells)
    }

    /// The code of each cell's condition, `int64`.
    fn condition(&self) -> Buffer {
        self.list(&self.content.conditions)
    }

    /// The perturbations of each cell: offsets and codes as `int64`, doses as `float32`.
    fn perturbations(&self) -> (Buffer, Buffer, Buffer) {
        let Perturbations { offsets, codes, doses } = &self.content.perturbations;
        (self.list(offsets), self.list(codes), self.list(doses))
    }

    /// The values of a requested column, by its place among them.
    fn column(&self, place: usize) -> PyResult<Buffer> {
        let values = self.content.columns.get(place).ok_or_else(|| PyIndexError::new_err("there is no such column"))?;
        Ok(match values {
            ColumnValues::Codes(codes) => self.list(codes),
            ColumnValues::Whole(numbers) => self.list(numbers),
            ColumnValues::Single(numbers) => self.list(numbers),
            ColumnValues::Double(numbers) => self.list(numbers),
            ColumnValues::Flags(flags) => self.list(flags),
        })
    }
}
