//! A minibatch for a model: expression as CSR in its narrow storage types, and labels.
//!
//! The computing device makes it dense; [`DenseRows`] is for users who want rows of `f32` in memory.

use sprs::CsMatI;

use crate::{
    ByteSize,
    ids::{CellIndex, RowIndex},
    numbers::to_usize,
};

/// The purpose of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Training.
    Train,
    /// Validation.
    Valid,
    /// Prediction.
    Source,
}

/// The cells of a batch and its position in the order: everything known before reading data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    /// Its pass over the cells, from 0: the epoch in training, the job in prediction.
    pub pass: u32,
    /// Its index among the batches of that pass and role, from 0.
    pub index: u64,
    /// Its purpose.
    pub role: Role,
    /// Whether it is the last of its pass and role.
    pub last: bool,
    /// Its cells.
    pub cells: Vec<CellIndex>,
    /// The rows of the matrix with these cells.
    pub rows: Vec<RowIndex>,
}

impl BatchPlan {
    /// Its job, if the batch is for prediction.
    #[must_use]
    pub fn job(&self) -> usize {
        to_usize(self.pass)
    }
}

/// The position of a training run: its next batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The epoch.
    pub epoch: u32,
    /// Its next training batch.
    pub batch: u64,
}

/// The length of a training run.
#[derive(Clone, Copy, Debug)]
pub struct TrainingLength {
    /// Number of epochs.
    pub epochs: u32,
    /// Training batches per epoch.
    pub batches: u64,
    /// Number of epochs between two validations; `None` if there are no validation cells.
    pub validate_every: Option<u32>,
}

impl TrainingLength {
    /// Whether an epoch ends with a validation; the last one always does, if there are validation cells.
    #[must_use]
    pub fn validates(&self, epoch: u32) -> bool {
        self.validate_every.is_some_and(|every| (epoch + 1).is_multiple_of(every) || epoch + 1 == self.epochs)
    }
}

impl ByteSize for BatchPlan {
    fn byte_size(&self) -> usize {
        self.cells.byte_size() + self.rows.byte_size()
    }
}

/// Gene ids in the width of their atlas.
#[derive(Clone, Debug, PartialEq)]
pub enum Genes {
    /// Up to 65,536 genes.
    U16(Vec<u16>),
    /// More genes.
    U32(Vec<u32>),
}

/// Values, in a type wide enough for all of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Counts up to 255.
    U8(Vec<u8>),
    /// Counts up to 65,535.
    U16(Vec<u16>),
    /// Larger counts.
    U32(Vec<u32>),
    /// Anything else.
    F32(Vec<f32>),
}

/// Rows of expression, CSR.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    /// Row pointers, `[rows + 1]`.
    pub row_pointers: Vec<u32>,
    /// The gene of each entry, ascending in each row.
    pub genes: Genes,
    /// The value of each entry.
    pub values: Values,
}

impl Expression {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.row_pointers.len().saturating_sub(1)
    }

    /// The genes and values of a row.
    ///
    /// # Panics
    /// If the row does not exist.
    #[must_use]
    pub fn row(&self, row: usize) -> (Vec<u32>, Vec<f64>) {
        let entries = self.row_pointers[row] as usize..self.row_pointers[row + 1] as usize;
        let genes = match &self.genes {
            Genes::U16(genes) => genes[entries.clone()].iter().map(|gene| u32::from(*gene)).collect(),
            Genes::U32(genes) => genes[entries.clone()].to_vec(),
        };
        let values = match &self.values {
            Values::U8(values) => values[entries].iter().map(|value| f64::from(*value)).collect(),
            Values::U16(values) => values[entries].iter().map(|value| f64::from(*value)).collect(),
            Values::U32(values) => values[entries].iter().map(|value| f64::from(count_to_f32(*value))).collect(),
            Values::F32(values) => values[entries].iter().map(|value| f64::from(*value)).collect(),
        };
        (genes, values)
    }

    /// Calls `f` with row, gene and value of every entry.
    pub fn for_each(&self, mut f: impl FnMut(usize, usize, f32)) {
        match &self.genes {
            Genes::U16(genes) => self.for_each_of(genes, &mut f),
            Genes::U32(genes) => self.for_each_of(genes, &mut f),
        }
    }

    fn for_each_of<G: Copy + Into<u32>>(&self, genes: &[G], f: &mut impl FnMut(usize, usize, f32)) {
        match &self.values {
            Values::U8(values) => self.walk(genes, values, f32::from, f),
            Values::U16(values) => self.walk(genes, values, f32::from, f),
            Values::U32(values) => self.walk(genes, values, count_to_f32, f),
            Values::F32(values) => self.walk(genes, values, |v| v, f),
        }
    }

    fn walk<G: Copy + Into<u32>, V: Copy>(
        &self,
        genes: &[G],
        values: &[V],
        to_f32: impl Fn(V) -> f32,
        f: &mut impl FnMut(usize, usize, f32),
    ) {
        for (row, pair) in self.row_pointers.windows(2).enumerate() {
            let entries = pair[0] as usize..pair[1] as usize;
            for (gene, value) in genes[entries.clone()].iter().zip(&values[entries]) {
                let gene: u32 = (*gene).into();
                f(row, gene as usize, to_f32(*value));
            }
        }
    }
}

/// A stored count as a floating-point number.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "larger counts than 2^24 are stored as f32 from the start")]
pub fn count_to_f32(count: u32) -> f32 {
    count as f32
}

impl ByteSize for Expression {
    fn byte_size(&self) -> usize {
        let genes = match &self.genes {
            Genes::U16(genes) => genes.byte_size(),
            Genes::U32(genes) => genes.byte_size(),
        };
        let values = match &self.values {
            Values::U8(values) => values.byte_size(),
            Values::U16(values) => values.byte_size(),
            Values::U32(values) => values.byte_size(),
            Values::F32(values) => values.byte_size(),
        };
        self.row_pointers.byte_size() + genes + values
    }
}

/// Floats per cache line.
const LINE: usize = 16;

/// Sixteen floats in one cache line of the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct CacheLine(pub [f32; LINE]);

/// Rows of expression, dense: row-major, each row starting at a multiple of 64 bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DenseRows {
    genes: usize,
    rows: usize,
    lines: Vec<CacheLine>,
}

impl DenseRows {
    /// Resizes it to this many rows and genes. The content is unspecified until it is written.
    pub fn resize(&mut self, rows: usize, genes: usize) {
        (self.rows, self.genes) = (rows, genes);
        let needed = rows * genes.div_ceil(LINE);
        // A larger buffer keeps its memory and content.
        if self.lines.len() < needed {
            self.lines.resize(needed, CacheLine::default());
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of genes in a row.
    #[must_use]
    pub fn genes(&self) -> usize {
        self.genes
    }

    /// Number of floats from the start of one row to the next; those beyond the last gene are zero.
    #[must_use]
    pub fn stride(&self) -> usize {
        LINE * self.genes.div_ceil(LINE)
    }

    /// The values of one row, one per gene.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.as_slice()[row * self.stride()..row * self.stride() + self.genes]
    }

    /// All rows, [`DenseRows::stride`] floats each.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.rows * self.stride()]
    }

    /// The lines of each row, for writing.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [CacheLine]> {
        let lines = self.genes.div_ceil(LINE);
        self.lines.chunks_exact_mut(lines.max(1)).take(self.rows)
    }
}

impl ByteSize for DenseRows {
    fn byte_size(&self) -> usize {
        self.lines.capacity() * size_of::<CacheLine>()
    }
}

/// The code of values that a model does not know; adversaries never learn from such cells.
pub const UNKNOWN: u32 = u32::MAX;

/// The conditions and other labels of a batch's cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    /// Perturbations × doses, CSR: one row per cell, one column per entry of the model's vocabulary; values are doses.
    ///
    /// Control is an entry like any other, at dose 1; padding (column 0) never appears.
    pub perturbations: CsMatI<f32, u32>,
    /// The adversary's class of each cell: its combination, without doses.
    pub combinations: Vec<u32>,
    /// For each covariate, the code of each cell.
    pub covariates: Vec<Vec<u32>>,
    /// The group of each cell: its combination and doses, and its covariate combination; metrics are computed per
    /// group.
    pub groups: Vec<u32>,
}

impl ByteSize for Labels {
    fn byte_size(&self) -> usize {
        8 * self.perturbations.nnz()
            + 4 * self.perturbations.rows()
            + self.combinations.byte_size()
            + self.groups.byte_size()
            + self.covariates.iter().map(ByteSize::byte_size).sum::<usize>()
    }
}
