//! Sparse times dense: the first layer of the encoder, and the gradient of its weights.

use std::ops::Range;

use simd::{InstructionSet, Kernel};

use super::real::Real;

/// Rows as their non-zeros.
#[derive(Clone, Copy, Debug)]
pub struct CsrView<'a, T> {
    /// Where each row starts among the entries, `[rows + 1]`.
    pub pointers: &'a [i64],
    /// The column of each entry.
    pub columns: &'a [i64],
    /// The value of each entry.
    pub values: &'a [T],
}

impl<'a, T: Real> CsrView<'a, T> {
    /// Number of rows.
    pub fn count(self) -> usize {
        self.pointers.len().saturating_sub(1)
    }

    /// Some of the rows.
    #[must_use]
    pub fn part(self, rows: Range<usize>) -> Self {
        Self { pointers: &self.pointers[rows.start..=rows.end], ..self }
    }

    /// Columns and values of a row.
    #[inline(always)]
    pub fn row(self, at: usize) -> (&'a [i64], &'a [T]) {
        let entries = index(self.pointers[at])..index(self.pointers[at + 1]);
        (&self.columns[entries.clone()], &self.values[entries])
    }
}

/// A column or a position as an index; a negative number becomes one that is out of bounds, so that a slice
/// refuses it.
#[inline(always)]
pub fn index(number: i64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The non-zeros of rows, grouped into blocks of [`BLOCK_ROWS`] rows and sorted by column within a block.
///
/// A product with the transpose updates, for each block, one line of the dense matrix per column. Without
/// blocks, it would update one per non-zero, usually far away in memory from the previous one.
#[derive(Debug)]
pub struct BlockedRows<T> {
    /// Number of rows.
    rows: usize,
    columns: usize,
    /// Where each column of each block starts among the entries, `[blocks, columns + 1]`.
    starts: Vec<usize>,
    /// The row of each entry within its block.
    rows_within: Vec<u8>,
    values: Vec<T>,
}

/// Rows per block: this many lines of a dense matrix stay in the nearest cache.
pub const BLOCK_ROWS: usize = 24;

impl<T: Real> BlockedRows<T> {
    /// Sorts the non-zeros of rows with this many columns.
    pub fn new(matrix: CsrView<'_, T>, columns: usize) -> Self {
        let rows = matrix.count();
        let mut starts = Vec::with_capacity(rows.div_ceil(BLOCK_ROWS) * (columns + 1));
        // The rows may be a part of more.
        let before = index(matrix.pointers[0]);
        let entries = index(matrix.pointers[rows]) - before;
        let (mut rows_within, mut values) = (vec![0; entries], vec![T::default(); entries]);
        let mut next = vec![0; columns];
        for first in (0..rows).step_by(BLOCK_ROWS) {
            let block = first..rows.min(first + BLOCK_ROWS);
            next.fill(0);
            for row in block.clone() {
                matrix.row(row).0.iter().for_each(|column| next[index(*column)] += 1);
            }
            let mut start = index(matrix.pointers[first]) - before;
            for next in &mut next {
                starts.push(start);
                start += std::mem::replace(next, start);
            }
            starts.push(start);
            for (within, row) in (0..).zip(block) {
                let (columns, row_values) = matrix.row(row);
                for (column, value) in columns.iter().zip(row_values) {
                    let next = &mut next[index(*column)];
                    (rows_within[*next], values[*next]) = (within, *value);
                    *next += 1;
                }
            }
        }
        Self { rows, columns, starts, rows_within, values }
    }
}

/// `out = rows × dense`: `dense` is `[columns, width]`, `out` is `[rows, width]`.
pub struct SparseTimesDense<'a, T> {
    /// The sparse matrix.
    pub rows: CsrView<'a, T>,
    /// The dense matrix, row by row.
    pub dense: &'a [T],
    /// Columns of the dense matrix.
    pub width: usize,
    /// Receives the product, row by row.
    pub out: &'a mut [T],
}

/// Some rows of `rowsᵀ × dense`, those of a range of columns: `dense` is `[rows, width]`, `out` is `[columns.len(), width]`.
pub struct TransposedTimesDense<'a, T> {
    /// The sparse matrix, in consecutive parts; all but the last have a multiple of [`BLOCK_ROWS`] rows.
    pub rows: &'a [BlockedRows<T>],
    /// The columns of the sparse matrix whose products are computed.
    pub columns: Range<usize>,
    /// The dense matrix, row by row.
    pub dense: &'a [T],
    /// Columns of the dense matrix.
    pub width: usize,
    /// Receives the product, row by row.
    pub out: &'a mut [T],
}

/// Numbers of a line that are summed in registers.
const TILE: usize = 128;

impl<T: Real> Kernel for TransposedTimesDense<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        let Self { rows, columns, dense, width, out } = self;
        let count: usize = rows.iter().map(|part| part.rows).sum();
        assert!(dense.len() == count * width && out.len() == columns.len() * width, "a matrix of another size");
        out.fill(T::default());
        let blocks =
            rows.iter().flat_map(|part| part.starts.chunks_exact(part.columns + 1).map(move |block| (part, block)));
        for ((rows, starts), dense) in blocks.zip(dense.chunks(BLOCK_ROWS * width)) {
            for (column, out) in columns.clone().zip(out.chunks_exact_mut(width)) {
                let entries = starts[column]..starts[column + 1];
                let (rows_within, values) = (&rows.rows_within[entries.clone()], &rows.values[entries]);
                let (tiles, rest) = out.as_chunks_mut::<TILE>();
                for (at, tile) in tiles.iter_mut().enumerate() {
                    let mut sums = *tile;
                    for (row, value) in rows_within.iter().zip(values) {
                        let line = &dense[usize::from(*row) * width + at * TILE..][..TILE];
                        for lane in 0..TILE {
                            sums[lane] = line[lane].mul_add::<W>(*value, sums[lane]);
                        }
                    }
                    *tile = sums;
                }
                let first = width - rest.len();
                for (row, value) in rows_within.iter().zip(values) {
                    let line = &dense[usize::from(*row) * width..][first..width];
                    for (sum, number) in rest.iter_mut().zip(line) {
                        *sum = number.mul_add::<W>(*value, *sum);
                    }
                }
            }
        }
    }
}

/// Entries that are added at once, so that the sum is read and written once for all of them.
const AT_ONCE: usize = 4;

impl<T: Real> Kernel for SparseTimesDense<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        let Self { rows, dense, width, out } = self;
        out.fill(T::default());
        let line = |column: i64| &dense[index(column) * width..][..width];
        for (at, out) in out.chunks_exact_mut(width).enumerate() {
            let (columns, values) = rows.row(at);
            let (fours, rest) = columns.as_chunks::<AT_ONCE>();
            let (value_fours, value_rest) = values.as_chunks::<AT_ONCE>();
            for (columns, values) in fours.iter().zip(value_fours) {
                let [a, b, c, d] = columns.map(line);
                for at in 0..width {
                    let sum = a[at].mul_add::<W>(values[0], out[at]);
                    let sum = b[at].mul_add::<W>(values[1], sum);
                    let sum = c[at].mul_add::<W>(values[2], sum);
                    out[at] = d[at].mul_add::<W>(values[3], sum);
                }
            }
            for (column, value) in rest.iter().zip(value_rest) {
                for (out, dense) in out.iter_mut().zip(line(*column)) {
                    *out = dense.mul_add::<W>(*value, *out);
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use simd::every_instruction_set;

    use super::*;

    const COLUMNS: usize = 9;

    /// Rows by their non-zeros, owned.
    #[derive(Clone, Debug)]
    pub(crate) struct OwnedRows<T> {
        pointers: Vec<i64>,
        columns: Vec<i64>,
        values: Vec<T>,
    }

    impl<T: Real> OwnedRows<T> {
        /// The non-zeros of a dense matrix with this many columns.
        pub(crate) fn from_dense(dense: &[T], columns: usize) -> Self {
            let place = |at: usize| i64::try_from(at).expect("a small number");
            let mut rows = Self { pointers: vec![0], columns: Vec::new(), values: Vec::new() };
            for row in dense.chunks(columns) {
                for (column, value) in row.iter().enumerate().filter(|(_, value)| **value != T::default()) {
                    rows.columns.push(place(column));
                    rows.values.push(*value);
                }
                rows.pointers.push(place(rows.columns.len()));
            }
            rows
        }

        /// The same rows, borrowed.
        pub(crate) fn view(&self) -> CsrView<'_, T> {
            CsrView { pointers: &self.pointers, columns: &self.columns, values: &self.values }
        }
    }

    /// Computes both products: of rows with one matrix, and of their transpose with another.
    struct Products<'a> {
        rows: CsrView<'a, f64>,
        by_column: &'a [f64],
        by_row: &'a [f64],
        width: usize,
    }

    impl Kernel for Products<'_> {
        type Out = [Vec<f64>; 2];

        #[inline(always)]
        fn run<W: InstructionSet>(self) -> Self::Out {
            let Self { rows, by_column, by_row, width } = self;
            let mut out = [vec![7.0; by_row.len()], vec![7.0; by_column.len()]];
            SparseTimesDense { rows, dense: by_column, width, out: &mut out[0] }.run::<W>();
            // In parts of rows, and pieces of columns.
            let first = rows.count().min(BLOCK_ROWS);
            let blocked = [0..first, first..rows.count()].map(|part| BlockedRows::new(rows.part(part), COLUMNS));
            let (left, right) = out[1].split_at_mut(4 * width);
            for (columns, out) in [(0..4, left), (4..COLUMNS, right)] {
                TransposedTimesDense { rows: &blocked, columns, dense: by_row, width, out }.run::<W>();
            }
            out
        }
    }

    fn cases() -> impl Strategy<Value = (usize, Vec<f64>, Vec<f64>, Vec<f64>)> {
        let widths = prop_oneof![1_usize..6, Just(TILE), Just(2 * TILE + 5)];
        (0_usize..3 * BLOCK_ROWS, widths).prop_flat_map(|(rows, width)| {
            let value = prop_oneof![3 => Just(0.0), 1 => -3.0_f64..3.0];
            (
                Just(width),
                prop::collection::vec(value, rows * COLUMNS),
                prop::collection::vec(-2.0_f64..2.0, COLUMNS * width),
                prop::collection::vec(-2.0_f64..2.0, rows * width),
            )
        })
    }

    proptest! {
        #[test]
        fn products_are_the_sums_that_they_stand_for((width, sparse, by_column, by_row) in cases()) {
            let (mut product, mut of_transposed) = (vec![0.0; by_row.len()], vec![0.0; by_column.len()]);
            for (at, value) in sparse.iter().enumerate() {
                let (row, column) = (at / COLUMNS, at % COLUMNS);
                for lane in 0..width {
                    product[row * width + lane] += value * by_column[column * width + lane];
                    of_transposed[column * width + lane] += value * by_row[row * width + lane];
                }
            }
            let owned = OwnedRows::from_dense(&sparse, COLUMNS);
            let products = || Products { rows: owned.view(), by_column: &by_column, by_row: &by_row, width };
            for found in every_instruction_set(products) {
                for (found, expected) in found.iter().flatten().zip(product.iter().chain(&of_transposed)) {
                    prop_assert!((found - expected).abs() < 1e-12);
                }
            }
        }
    }
}
