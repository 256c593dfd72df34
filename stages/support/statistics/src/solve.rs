//! Small symmetric systems of equations, solved by Cholesky's factorisation.

/// A symmetric positive definite matrix, as the product of a lower triangle and its transpose.
#[derive(Debug)]
pub struct Cholesky {
    size: usize,
    /// Row-major, `size` × `size`; the part above the diagonal is never read.
    lower: Vec<f64>,
}

impl Cholesky {
    /// Factorises a matrix, given by its entries at (row, column) with column ≤ row; `None` if it is not positive
    /// definite.
    pub fn new(size: usize, entry: impl Fn(usize, usize) -> f64) -> Option<Self> {
        let mut lower = vec![0.0; size * size];
        for row in 0..size {
            for column in 0..=row {
                let (before, current) = lower.split_at(row * size);
                let other = if column < row { &before[column * size..] } else { current };
                let explained: f64 = current[..column].iter().zip(&other[..column]).map(|(a, b)| a * b).sum();
                let rest = entry(row, column) - explained;
                lower[row * size + column] = if column < row {
                    rest / lower[column * size + column]
                } else if rest > 0.0 {
                    rest.sqrt()
                } else {
                    return None;
                };
            }
        }
        Some(Self { size, lower })
    }

    /// The solution x of `matrix · x = right`.
    pub fn solve(&self, right: &[f64]) -> Vec<f64> {
        let at = |row: usize, column: usize| self.lower[row * self.size + column];
        let mut solution = right.to_vec();
        for row in 0..self.size {
            let known: f64 = (0..row).map(|column| at(row, column) * solution[column]).sum();
            solution[row] = (solution[row] - known) / at(row, row);
        }
        for row in (0..self.size).rev() {
            let known: f64 = (row + 1..self.size).map(|below| at(below, row) * solution[below]).sum();
            solution[row] = (solution[row] - known) / at(row, row);
        }
        solution
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved_to_what_gives_its_right_side() {
        let matrix = [[4.0, 2.0, 0.6], [2.0, 5.0, 1.0], [0.6, 1.0, 3.0]];
        let factor = Cholesky::new(3, |row, column| matrix[row][column]).expect("it is positive definite");
        let solution = factor.solve(&[1.0, -2.0, 3.0]);
        for (row, right) in matrix.iter().zip([1.0, -2.0, 3.0]) {
            let left: f64 = row.iter().zip(&solution).map(|(a, x)| a * x).sum();
            assert!((left - right).abs() < 1e-12);
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_no_factor() {
        assert!(Cholesky::new(2, |row, column| if row == column { 1.0 } else { 2.0 }).is_none());
        assert!(Cholesky::new(1, |_, _| f64::NAN).is_none());
    }
}
