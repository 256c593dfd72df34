//! The largest eigenvalues of symmetric matrices, and their eigenvectors.
//!
//! A small matrix is decomposed as a whole. Of a large one, Lanczos' method finds the largest eigenvalues from products with
//! vectors, some ten times as fast (for 50 of 1,000), with every basis vector kept at right angles to all others
//! (Golub and Van Loan, Matrix Computations, chapter 10).

use nalgebra::{DMatrix, DVector, SymmetricEigen};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Matrices up to this size are decomposed as a whole.
const SMALL: usize = 256;
/// Basis vectors before convergence is first looked at, and from each look to the next.
const FIRST_LOOK: usize = 200;
const NEXT_LOOK: usize = 50;
/// The largest residual of an eigenvector, relative to the largest eigenvalue. The error of the eigenvalue is about its square.
const TOLERANCE: f64 = 1e-6;
/// A basis vector shorter than this, relative to the matrix, is rounding noise: the basis is closed under the matrix.
const NOISE: f64 = 1e-12;

/// At most `count` of the largest eigenvalues of a symmetric matrix in descending order, and their eigenvectors as columns.
///
/// # Panics
/// If the matrix is not square.
pub(crate) fn largest(matrix: &DMatrix<f64>, count: usize) -> (Vec<f64>, DMatrix<f64>) {
    assert!(matrix.is_square(), "eigenvalues are those of a square matrix");
    let size = matrix.nrows();
    let count = count.min(size);
    if count == 0 {
        return (Vec::new(), DMatrix::zeros(size, 0));
    }
    let mut krylov = Krylov::begin(matrix);
    if size > SMALL.max(2 * count) {
        while krylov.steps() < size {
            let looks = if krylov.steps() == 0 { FIRST_LOOK.max(2 * count) } else { NEXT_LOOK };
            (0..looks.min(size - krylov.steps())).for_each(|_| krylov.step(matrix));
            let (values, vectors) = descending(krylov.projected());
            let last = krylov.steps() - 1;
            let residual = |at: usize| (krylov.coupling[last] * vectors[(last, at)]).abs();
            if (0..count).all(|at| residual(at) <= TOLERANCE * values[0].abs()) {
                let basis = krylov.basis.columns(0, krylov.steps());
                return (values[..count].to_vec(), basis * vectors.columns(0, count));
            }
        }
    }
    let (mut values, vectors) = descending(matrix.clone());
    values.truncate(count);
    (values, vectors.columns(0, count).into_owned())
}

/// The basis that grows by one vector with each product, and the matrix in it, which is tridiagonal.
struct Krylov {
    basis: DMatrix<f64>,
    diagonal: Vec<f64>,
    coupling: Vec<f64>,
    next: DVector<f64>,
    scale: f64,
    random: ChaCha8Rng,
}

impl Krylov {
    fn begin(matrix: &DMatrix<f64>) -> Self {
        let size = matrix.nrows();
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let next = random_vector(size, &mut random).normalize();
        Self {
            basis: DMatrix::zeros(size, 0),
            diagonal: Vec::new(),
            coupling: Vec::new(),
            next,
            scale: matrix.norm(),
            random,
        }
    }

    fn steps(&self) -> usize {
        self.diagonal.len()
    }

    fn step(&mut self, matrix: &DMatrix<f64>) {
        let steps = self.steps() + 1;
        if self.basis.ncols() < steps {
            let columns = (2 * steps).max(FIRST_LOOK).min(matrix.nrows());
            self.basis.resize_horizontally_mut(columns, 0.0);
        }
        self.basis.set_column(steps - 1, &self.next);
        let mut product = matrix * &self.next;
        self.diagonal.push(product.dot(&self.next));
        self.make_orthogonal(&mut product, steps);
        let mut length = product.norm();
        if length <= NOISE * self.scale {
            // Nothing leads out of the basis: it goes on with any other direction, which is not coupled to it.
            length = 0.0;
            product = random_vector(matrix.nrows(), &mut self.random);
            self.make_orthogonal(&mut product, steps);
        }
        self.coupling.push(length);
        self.next = product.normalize();
    }

    /// Makes a vector orthogonal to the basis; twice, since once leaves what cancellation has blurred.
    fn make_orthogonal(&self, vector: &mut DVector<f64>, steps: usize) {
        let basis = self.basis.columns(0, steps);
        for _ in 0..2 {
            let along = basis.tr_mul(vector);
            vector.gemv(-1.0, &basis, &along, 1.0);
        }
    }

    /// The matrix in the basis.
    fn projected(&self) -> DMatrix<f64> {
        let mut projected = DMatrix::from_diagonal(&DVector::from_column_slice(&self.diagonal));
        for (at, coupling) in self.coupling[..self.steps() - 1].iter().enumerate() {
            (projected[(at, at + 1)], projected[(at + 1, at)]) = (*coupling, *coupling);
        }
        projected
    }
}

fn random_vector(size: usize, random: &mut ChaCha8Rng) -> DVector<f64> {
    DVector::from_fn(size, |_, _| random.random_range(-1.0..1.0))
}

/// All eigenvalues in descending order, and their eigenvectors as columns.
fn descending(matrix: DMatrix<f64>) -> (Vec<f64>, DMatrix<f64>) {
    let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(matrix);
    let mut order: Vec<usize> = (0..eigenvalues.len()).collect();
    order.sort_by(|one, other| eigenvalues[*other].total_cmp(&eigenvalues[*one]));
    (order.iter().map(|at| eigenvalues[*at]).collect(), eigenvectors.select_columns(&order))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symmetric(size: usize, rank: usize) -> DMatrix<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let factor = DMatrix::from_fn(size, rank, |_, _| random.random_range(-1.0..1.0));
        &factor * factor.transpose()
    }

    #[track_caller]
    fn is_as_the_whole(matrix: &DMatrix<f64>, count: usize) {
        let (values, vectors) = largest(matrix, count);
        let (all, _) = descending(matrix.clone());
        assert_eq!((values.len(), vectors.ncols()), (count, count));
        for (value, expected) in values.iter().zip(&all) {
            assert!((value - expected).abs() <= 1e-9 * all[0].max(1.0), "{value} is not {expected}");
        }
        let residual = matrix * &vectors - &vectors * DMatrix::from_diagonal(&DVector::from_vec(values));
        assert!(residual.amax() <= 1e-5 * all[0].max(1.0), "{}", residual.amax());
        assert!((vectors.tr_mul(&vectors) - DMatrix::identity(count, count)).amax() < 1e-9);
    }

    #[test]
    fn the_largest_eigenvalues_of_a_large_matrix_are_those_of_its_whole_decomposition() {
        is_as_the_whole(&symmetric(300, 400), 20);
        is_as_the_whole(&symmetric(300, 40), 20);
    }

    #[test]
    fn eigenvalues_that_occur_many_times_are_all_found() {
        let values = DVector::from_fn(300, |at, _| if at < 30 { 5.0 } else { 1.0 });
        is_as_the_whole(&DMatrix::from_diagonal(&values), 20);
        is_as_the_whole(&symmetric(300, 5), 20);
        is_as_the_whole(&DMatrix::zeros(300, 300), 20);
    }
}
