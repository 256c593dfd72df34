//! The large operations of a step, cut into pieces that worker threads share.
//!
//! The cuts depend on sizes alone, sums over pieces are added in their order, and libtorch computes each piece on one thread, so a
//! step's result is the same for any number of threads.

use std::{ops::Range, sync::Arc};

use kernels::sparse::{BLOCK_ROWS, BlockedRows, CsrView, SparseTimesDense, TransposedTimesDense};
use schemas::numbers::{bounded, to_i64};
use simd::widest;
use stage::workers::Workers;
use tch::{Device, Tensor};
use torch::{
    OneThread,
    memory::{TensorNumber, numbers, numbers_mut},
};

use crate::input::Cells;

/// Maximum number of pieces: enough for the threads of a laptop to end at about the same time.
const MOST_PIECES: i64 = 16;
/// Fewest rows of a piece of a matrix product: each piece brings the other matrix into the form that libtorch's kernel reads.
const FEWEST_ROWS: i64 = 128;
/// Multiplications of a product that is not worth cutting.
const SMALL_PRODUCT: i64 = 1 << 21;

/// Consecutive ranges of rows, each of at least `fewest` and, but for the last, a multiple of it.
pub(super) fn ranges(rows: i64, fewest: i64) -> impl Iterator<Item = (i64, i64)> {
    let parts = |whole: i64, each: i64| (whole + each - 1) / each;
    let each = parts(parts(rows, fewest), MOST_PIECES).max(1) * fewest;
    (0..parts(rows, each)).map(move |piece| (piece * each, each.min(rows - piece * each)))
}

/// The same ranges as positions in slices.
pub(super) fn positions((start, count): (i64, i64)) -> Range<usize> {
    bounded(start)..bounded(start + count)
}

/// The matrix product of `a` and `b`.
pub(super) fn product(workers: &Workers, a: &Tensor, b: &Tensor) -> Tensor {
    let (rows, columns) = (a.size()[0], b.size()[1]);
    let is_small = rows * columns * a.size()[1] < SMALL_PRODUCT;
    let out = Tensor::empty([rows, columns], (a.kind(), Device::Cpu));
    let pieces = ranges(rows, if is_small { rows.max(1) } else { FEWEST_ROWS }).map(|(start, count)| {
        let rows = |tensor: &Tensor| tensor.detach().narrow(0, start, count);
        (rows(a), b.detach(), rows(&out))
    });
    workers.map(pieces.collect(), |(a, b, out)| {
        let _one_thread = OneThread::hold();
        drop(a.mm_out(&out, &b));
    });
    out
}

/// Sparse rows of cells, owned, so that pieces can share them.
pub(super) struct SparseCells {
    pointers: Tensor,
    genes: Tensor,
    values: Tensor,
}

impl SparseCells {
    /// The rows of cells with these values.
    pub(super) fn new(cells: &Cells, values: &Tensor) -> Self {
        Self {
            pointers: cells.pointers.shallow_clone(),
            genes: cells.genes.shallow_clone(),
            values: values.shallow_clone(),
        }
    }

    pub(super) fn shallow_clone(&self) -> Self {
        let [pointers, genes, values] = [&self.pointers, &self.genes, &self.values].map(Tensor::shallow_clone);
        Self { pointers, genes, values }
    }

    fn count(&self) -> i64 {
        self.pointers.size()[0] - 1
    }

    pub(super) fn view<T: TensorNumber>(&self) -> CsrView<'_, T> {
        CsrView { pointers: numbers(&self.pointers), columns: numbers(&self.genes), values: numbers(&self.values) }
    }

    /// The product with a dense matrix, `[genes, width]`.
    pub(super) fn times<T: TensorNumber>(&self, workers: &Workers, dense: &Tensor) -> Tensor {
        let (count, width) = (self.count(), dense.size()[1]);
        let out = Tensor::empty([count, width], (T::KIND, Device::Cpu));
        let pieces =
            ranges(count, 16).map(|rows| (self.shallow_clone(), rows, dense.detach(), out.narrow(0, rows.0, rows.1)));
        workers.map(pieces.collect(), move |(sparse, rows, dense, mut out)| {
            let rows = sparse.view::<T>().part(positions(rows));
            widest(SparseTimesDense {
                rows,
                dense: numbers::<T>(&dense),
                width: bounded(width),
                out: numbers_mut(&mut out),
            });
        });
        out
    }

    /// The product of the transpose with a dense matrix, `[rows, width]`: `[genes, width]`.
    pub(super) fn transposed_times<T: TensorNumber>(&self, workers: &Workers, genes: i64, dense: &Tensor) -> Tensor {
        let width = dense.size()[1];
        let out = Tensor::empty([genes, width], (T::KIND, Device::Cpu));
        let parts = ranges(self.count(), to_i64(BLOCK_ROWS)).map(|rows| (self.shallow_clone(), rows));
        let blocked = workers.map(parts.collect(), move |(sparse, rows)| {
            BlockedRows::new(sparse.view::<T>().part(positions(rows)), bounded(genes))
        });
        let blocked = Arc::new(blocked);
        let pieces = ranges(genes, 64)
            .map(|genes| (Arc::clone(&blocked), genes, dense.detach(), out.narrow(0, genes.0, genes.1)));
        workers.map(pieces.collect(), move |(rows, genes, dense, mut out)| {
            widest(TransposedTimesDense {
                rows: &rows,
                columns: positions(genes),
                dense: numbers::<T>(&dense),
                width: bounded(width),
                out: numbers_mut(&mut out),
            });
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::Kind;

    use super::*;

    proptest! {
        #[test]
        fn ranges_follow_each_other_to_the_last_row(rows in 0_i64..3_000, fewest in 1_i64..70) {
            let found: Vec<(i64, i64)> = ranges(rows, fewest).collect();
            let mut next = 0;
            for (at, (start, count)) in found.iter().enumerate() {
                prop_assert_eq!(*start, next);
                prop_assert!(at + 1 == found.len() || (*count % fewest == 0 && *count > 0), "{:?}", found);
                next += count;
            }
            prop_assert!(next == rows && to_i64(found.len()) <= MOST_PIECES);
        }
    }

    #[test]
    fn products_in_pieces_are_those_of_the_whole_matrices() {
        tch::manual_seed(1);
        let [a, b, c] =
            [[300, 70], [70, 150], [300, 150]].map(|shape| Tensor::randn(shape, (Kind::Double, Device::Cpu)));
        let workers = Workers::default();
        let off = |found: Tensor, expected: Tensor| (found - expected).abs().max().double_value(&[]);
        assert!(off(product(&workers, &a, &b), a.matmul(&b)) < 1e-12);
        // A transposed one, as for the gradient of a weight.
        assert!(off(product(&workers, &c.tr(), &a), c.tr().matmul(&a)) < 1e-12);
    }
}
