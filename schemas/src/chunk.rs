//! Rows from a source file: expression as CSR with annotations.

use ::arrow::array::RecordBatch;

use crate::{ByteSize, ids::CellIndex};

/// Some rows of a source, in the source's order.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The position of the first row in the source.
    pub first: CellIndex,
    /// Expression, one row per cell.
    pub expression: CsrRows,
    /// Annotations (`obs`), one row per cell; the first column, `cell`, is the cell's name.
    pub obs: RecordBatch,
}

impl ByteSize for Chunk {
    fn byte_size(&self) -> usize {
        self.expression.byte_size() + self.obs.get_array_memory_size()
    }
}

/// Rows of a sparse matrix: in each row the genes ascend without duplicates, and no value is zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CsrRows {
    row_pointers: Vec<u32>,
    genes: Vec<u32>,
    values: Vec<f32>,
}

/// Why rows are invalid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadRows {
    /// The row pointers don't ascend from zero to the number of entries.
    #[error("row pointers don't ascend from 0 to the number of entries (at row {row})")]
    Pointers {
        /// The row, counted from the first of these rows.
        row: usize,
    },
    /// A gene index is beyond the last gene.
    #[error("gene index {gene} at row {row}, but there are {genes} genes")]
    Gene {
        /// The row, counted from the first of these rows.
        row: usize,
        /// The gene index.
        gene: u32,
        /// Number of genes.
        genes: u32,
    },
    /// Entries of the same row and gene add up to a whole number that float32 can't hold.
    #[error("the entries of gene {gene} at row {row} add up to {sum}, which float32 can't hold")]
    Sum {
        /// The row, counted from the first of these rows.
        row: usize,
        /// The gene.
        gene: u32,
        /// Their sum.
        sum: f64,
    },
}

/// From here on, float64 can't distinguish all whole numbers either.
const LARGEST_OF_DOUBLES: f64 = 9_007_199_254_740_992.0;

/// Whether a whole number changed when it was converted to float32.
#[must_use]
pub fn is_rounded(exact: f64, kept: f32) -> bool {
    f64::from(kept) != exact && exact.fract() == 0.0 && exact.abs() < LARGEST_OF_DOUBLES
}

impl CsrRows {
    /// The three arrays, emptied, to reuse their memory.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u32>, Vec<u32>, Vec<f32>) {
        let Self { mut row_pointers, mut genes, mut values } = self;
        row_pointers.clear();
        genes.clear();
        values.clear();
        (row_pointers, genes, values)
    }

    /// Normalises rows: sorts genes within a row, sums duplicates, drops explicit zeros.
    ///
    /// # Errors
    /// Row pointers that don't ascend, a gene beyond `gene_count`, or duplicates whose sum float32 can't hold.
    pub fn canonical(
        row_pointers: Vec<u32>,
        mut genes: Vec<u32>,
        mut values: Vec<f32>,
        gene_count: u32,
    ) -> Result<Self, BadRows> {
        let entries = genes.len();
        let starts_at_zero = row_pointers.first() == Some(&0);
        let ends = row_pointers.last().is_some_and(|last| *last as usize == entries) && values.len() == entries;
        if !starts_at_zero || !ends {
            return Err(BadRows::Pointers { row: row_pointers.len().saturating_sub(1) });
        }
        if let Some(row) = row_pointers.windows(2).position(|pair| pair[1] < pair[0]) {
            return Err(BadRows::Pointers { row });
        }
        if genes.iter().max().is_some_and(|largest| gene_count <= *largest) {
            let at = genes.iter().position(|gene| gene_count <= *gene).unwrap_or_default();
            let row = row_pointers.partition_point(|pointer| *pointer as usize <= at) - 1;
            return Err(BadRows::Gene { row, gene: genes[at], genes: gene_count });
        }
        if is_canonical(&row_pointers, &genes, &values) {
            return Ok(Self { row_pointers, genes, values });
        }
        let mut pointers = vec![0];
        let mut kept = 0;
        let mut row_entries: Vec<(u32, f32)> = Vec::new();
        for pair in row_pointers.windows(2) {
            let row = pair[0] as usize..pair[1] as usize;
            row_entries.clear();
            row_entries.extend(genes[row.clone()].iter().copied().zip(values[row].iter().copied()));
            row_entries.sort_by_key(|(gene, _)| *gene);
            let row_start = kept;
            for (gene, value) in row_entries.drain(..) {
                if row_start < kept && genes[kept - 1] == gene {
                    let sum = f64::from(values[kept - 1]) + f64::from(value);
                    values[kept - 1] += value;
                    if is_rounded(sum, values[kept - 1]) {
                        return Err(BadRows::Sum { row: pointers.len() - 1, gene, sum });
                    }
                } else {
                    (genes[kept], values[kept]) = (gene, value);
                    kept += 1;
                }
            }
            // Zeros are removed last, since duplicates may cancel out.
            let mut written = row_start;
            for at in row_start..kept {
                if values[at] != 0.0 {
                    (genes[written], values[written]) = (genes[at], values[at]);
                    written += 1;
                }
            }
            kept = written;
            pointers.push(u32::try_from(kept).map_err(|_| BadRows::Pointers { row: pointers.len() - 1 })?);
        }
        genes.truncate(kept);
        values.truncate(kept);
        Ok(Self { row_pointers: pointers, genes, values })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.row_pointers.len().saturating_sub(1)
    }

    /// Row pointers, `[rows + 1]`.
    #[must_use]
    pub fn row_pointers(&self) -> &[u32] {
        &self.row_pointers
    }

    /// The gene of each entry.
    #[must_use]
    pub fn genes(&self) -> &[u32] {
        &self.genes
    }

    /// The value of each entry.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Genes and values of one row.
    #[must_use]
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let entries = self.row_pointers[row] as usize..self.row_pointers[row + 1] as usize;
        (&self.genes[entries.clone()], &self.values[entries])
    }
}

/// Reads every entry without stopping early, since loops without branches are faster.
fn is_canonical(row_pointers: &[u32], genes: &[u32], values: &[f32]) -> bool {
    let ascends = |row: &[u32]| row.iter().zip(&row[1.min(row.len())..]).fold(true, |so_far, (a, b)| so_far & (a < b));
    row_pointers.windows(2).all(|pair| ascends(&genes[pair[0] as usize..pair[1] as usize]))
        && values.iter().fold(true, |so_far, value| so_far & (*value != 0.0))
}

impl ByteSize for CsrRows {
    fn byte_size(&self) -> usize {
        self.row_pointers.byte_size() + self.genes.byte_size() + self.values.byte_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsorted_duplicate_and_zero_entries_become_one_canonical_row() {
        let rows = CsrRows::canonical(vec![0, 5, 5, 6], vec![3, 1, 3, 2, 0, 7], vec![1.0, 2.0, 4.0, 0.0, 9.0, 1.0], 8);
        let rows = rows.expect("the rows are in range");
        assert_eq!(rows.row_pointers(), [0, 3, 3, 4]);
        assert_eq!(rows.row(0), (&[0, 1, 3][..], &[9.0, 2.0, 5.0][..]));
        assert_eq!(rows.row(2), (&[7][..], &[1.0][..]));
    }

    #[test]
    fn a_gene_beyond_the_last_is_named_with_its_row() {
        let error = CsrRows::canonical(vec![0, 1, 2], vec![0, 9], vec![1.0, 1.0], 4).expect_err("9 is beyond 4");
        assert_eq!(error, BadRows::Gene { row: 1, gene: 9, genes: 4 });
    }

    #[test]
    fn duplicates_whose_sum_float32_can_not_hold_are_refused() {
        let add_up = |values: Vec<f32>| CsrRows::canonical(vec![0, 0, 3], vec![1, 2, 1], values, 4);
        let error = add_up(vec![16_777_216.0, 3.0, 1.0]).expect_err("16777217 becomes 16777216");
        assert_eq!(error, BadRows::Sum { row: 1, gene: 1, sum: 16_777_217.0 });
        for values in [vec![16_777_214.0, 3.0, 2.0], vec![0.1, 3.0, 0.2], vec![f32::MAX, 3.0, f32::INFINITY]] {
            assert!(add_up(values.clone()).is_ok(), "{values:?}");
        }
    }

    #[test]
    fn row_pointers_that_fall_are_refused() {
        let error = CsrRows::canonical(vec![0, 2, 1, 2], vec![0, 1], vec![1.0, 1.0], 4).expect_err("2 falls to 1");
        assert_eq!(error, BadRows::Pointers { row: 1 });
    }
}
