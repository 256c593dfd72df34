//! Sparse times dense: the first layer of the encoder, and the gradient of its weights.

use super::real::Real;
use crate::simd::{Kernel, Way};

/// Rows by their non-zeros.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a, T> {
    /// Where each row starts among the entries: rows + 1 numbers.
    pub(crate) pointers: &'a [i64],
    /// The column of each entry.
    pub(crate) columns: &'a [i64],
    /// The value of each entry.
    pub(crate) values: &'a [T],
}

impl<'a, T: Real> Rows<'a, T> {
    /// How many rows there are.
    pub(crate) fn count(self) -> usize {
        self.pointers.len().saturating_sub(1)
    }

    /// Columns and values of a row.
    #[inline(always)]
    pub(crate) fn row(self, at: usize) -> (&'a [i64], &'a [T]) {
        let entries = index(self.pointers[at])..index(self.pointers[at + 1]);
        (&self.columns[entries.clone()], &self.values[entries])
    }
}

/// A column or a place as an index; below 0 there is none, so that a slice refuses it.
#[inline(always)]
pub(crate) fn index(number: i64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Rows by their non-zeros, owned.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OwnedRows<T> {
    pointers: Vec<i64>,
    columns: Vec<i64>,
    values: Vec<T>,
}

impl<T: Real> OwnedRows<T> {
    /// The transpose of rows with so many columns: entries of a column in the order of their rows.
    pub(crate) fn transposed(of: Rows<'_, T>, columns: usize) -> Self {
        let mut pointers = vec![0_i64; columns + 1];
        for column in of.columns {
            pointers[index(*column) + 1] += 1;
        }
        for at in 0..columns {
            pointers[at + 1] += pointers[at];
        }
        let mut next: Vec<usize> = pointers[..columns].iter().map(|pointer| index(*pointer)).collect();
        let (mut rows, mut values) = (vec![0_i64; of.columns.len()], vec![T::default(); of.columns.len()]);
        for row in 0..of.count() {
            let (row_columns, row_values) = of.row(row);
            for (column, value) in row_columns.iter().zip(row_values) {
                let place = &mut next[index(*column)];
                (rows[*place], values[*place]) = (i64::try_from(row).unwrap_or(i64::MAX), *value);
                *place += 1;
            }
        }
        Self { pointers, columns: rows, values }
    }

    /// The non-zeros of a dense matrix with so many columns.
    #[cfg(test)]
    pub(crate) fn from_dense(dense: &[T], columns: usize) -> Self {
        let place = |at: usize| i64::try_from(at).unwrap_or(i64::MAX);
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

    /// Borrowed.
    pub(crate) fn view(&self) -> Rows<'_, T> {
        Rows { pointers: &self.pointers, columns: &self.columns, values: &self.values }
    }
}

/// `out = rows × dense + bias`: `dense` is `[columns, width]`, `out` is `[rows, width]`.
pub(crate) struct SparseTimesDense<'a, T> {
    pub(crate) rows: Rows<'a, T>,
    pub(crate) dense: &'a [T],
    /// What every row of `out` starts with, `[width]`; none: zero.
    pub(crate) bias: Option<&'a [T]>,
    pub(crate) width: usize,
    pub(crate) out: &'a mut [T],
}

/// Entries that are added at once, so that the sum is read and written once for them all.
const AT_ONCE: usize = 4;

impl<T: Real> Kernel for SparseTimesDense<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: Way>(self) {
        let Self { rows, dense, bias, width, out } = self;
        let line = |column: i64| &dense[index(column) * width..][..width];
        for (at, out) in out.chunks_exact_mut(width).enumerate() {
            match bias {
                Some(bias) => out.copy_from_slice(bias),
                None => out.fill(T::default()),
            }
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simd::every_way;

    const COLUMNS: usize = 9;

    struct Product<'a> {
        rows: Rows<'a, f64>,
        dense: &'a [f64],
        bias: &'a [f64],
    }

    impl Kernel for Product<'_> {
        type Out = Vec<f64>;

        #[inline(always)]
        fn run<W: Way>(self) -> Vec<f64> {
            let Self { rows, dense, bias } = self;
            let mut out = vec![7.0; rows.count() * bias.len()];
            SparseTimesDense { rows, dense, bias: Some(bias), width: bias.len(), out: &mut out }.run::<W>();
            out
        }
    }

    fn rows(entries: &[Vec<(usize, f64)>]) -> OwnedRows<f64> {
        let mut rows = OwnedRows { pointers: vec![0], columns: Vec::new(), values: Vec::new() };
        for row in entries {
            for (column, value) in row {
                rows.columns.push(i64::try_from(*column).expect("a small number"));
                rows.values.push(*value);
            }
            rows.pointers.push(i64::try_from(rows.columns.len()).expect("a small number"));
        }
        rows
    }

    fn row() -> impl Strategy<Value = Vec<(usize, f64)>> {
        prop::collection::btree_map(0..COLUMNS, -3.0..3.0, 0..COLUMNS).prop_map(|row| row.into_iter().collect())
    }

    proptest! {
        #[test]
        fn products_are_the_sums_that_they_stand_for(
            entries in prop::collection::vec(row(), 0..7),
            dense in prop::collection::vec(-2.0..2.0, COLUMNS * 5),
        ) {
            let (sparse, bias) = (rows(&entries), [0.5; 5]);
            let mut expected: Vec<f64> = entries.iter().flat_map(|_| bias).collect();
            for (row, entries) in entries.iter().enumerate() {
                for (column, value) in entries {
                    for at in 0..5 {
                        expected[row * 5 + at] += value * dense[column * 5 + at];
                    }
                }
            }
            for out in every_way(|| Product { rows: sparse.view(), dense: &dense, bias: &bias }) {
                for (found, expected) in out.iter().zip(&expected) {
                    prop_assert!((found - expected).abs() < 1e-12);
                }
            }
            let there_and_back = OwnedRows::transposed(OwnedRows::transposed(sparse.view(), COLUMNS).view(), entries.len());
            prop_assert_eq!(there_and_back, sparse);
        }
    }
}
