//! Principal components of a sample of cells.

use nalgebra::DMatrix;

use crate::{axes::MOST_COMPONENTS, eigen::largest};

/// Components that explain less than this share of the first one are rounding noise.
const LEAST_SHARE: f64 = 1e-5;

/// The first principal components of cells `[cells, genes]`, row by row: at most [`MOST_COMPONENTS`].
///
/// Returns their number and their loadings `[genes, components]`, row by row, the components in descending order of the
/// variance that they explain. Computed from the eigenvectors of the cells' Gram matrix, since there are fewer cells than
/// genes: if u is an eigenvector of X Xᵀ with eigenvalue s², then Xᵀ u / s is one of Xᵀ X.
///
/// # Panics
/// If the rows are not of this many genes.
#[must_use]
pub fn principal_components(rows: Vec<f32>, genes: usize) -> (usize, Vec<f32>) {
    assert_eq!(rows.len() % genes.max(1), 0, "every cell has a value for every gene");
    let cells = rows.len() / genes.max(1);
    // Column by column, this is the transpose: one column per cell.
    let mut centred = DMatrix::from_vec(genes, cells, rows);
    let mean = centred.column_mean();
    centred.column_iter_mut().for_each(|mut cell| cell -= &mean);
    let (values, vectors) = largest(&(centred.transpose() * &centred).cast(), MOST_COMPONENTS);
    let first = values.first().copied().unwrap_or(0.0);
    let is_noise = |value: &f64| *value <= first * LEAST_SHARE || *value <= 0.0;
    let components = values.iter().take_while(|value| !is_noise(value)).count();
    let mut scaled: DMatrix<f32> = vectors.columns(0, components).map(single);
    for (mut vector, value) in scaled.column_iter_mut().zip(&values) {
        vector /= single(value.sqrt());
    }
    (components, (centred * scaled).transpose().data.into())
}

/// The coordinates of rows `[rows, width]` in the plane of their two largest principal components, and the
/// share of the variance that each component explains. The sign of a component is chosen such that its
/// largest loading is positive, so that pictures are reproducible.
///
/// # Panics
/// If the rows are not of this width.
#[must_use]
pub fn plane(rows: &[f32], width: usize) -> (Vec<[f32; 2]>, [f64; 2]) {
    assert_eq!(rows.len() % width.max(1), 0, "every row is of this width");
    let count = rows.len() / width.max(1);
    let mut centred = DMatrix::from_iterator(width, count, rows.iter().map(|value| f64::from(*value)));
    let mean = centred.column_mean();
    centred.column_iter_mut().for_each(|mut row| row -= &mean);
    let covariance = &centred * centred.transpose();
    let total = covariance.trace();
    let (values, vectors) = largest(&covariance, 2);
    let (mut points, mut explained) = (vec![[0.0; 2]; count], [0.0; 2]);
    for (axis, (value, vector)) in values.iter().zip(vectors.column_iter()).enumerate() {
        let along = centred.tr_mul(&vector) * vector[vector.iamax()].signum();
        points.iter_mut().zip(along.iter()).for_each(|(point, at)| point[axis] = single(*at));
        explained[axis] = if total > 0.0 { value / total } else { 0.0 };
    }
    (points, explained)
}

#[expect(clippy::cast_possible_truncation, reason = "axes and pictures need no more than f32")]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn distance(left: &[f32], right: &[f32]) -> f32 {
        left.iter().zip(right).map(|(left, right)| (left - right).powi(2)).sum::<f32>().sqrt()
    }

    #[test]
    fn components_are_at_right_angles_and_keep_the_distances_between_cells() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let rows: Vec<f32> = (0..12 * 40).map(|_| random.random_range(-1.0..1.0)).collect();
        let (components, loadings) = principal_components(rows.clone(), 40);
        assert_eq!(components, 11, "twelve cells span eleven directions around their mean");
        let loadings = DMatrix::from_row_slice(40, components, &loadings);
        let angles = loadings.tr_mul(&loadings) - DMatrix::identity(components, components);
        assert!(angles.amax() < 1e-4);
        let projected = DMatrix::from_row_slice(12, 40, &rows) * &loadings;
        let of_cell = |cell: usize| projected.row(cell).iter().copied().collect::<Vec<f32>>();
        for (one, other) in [(0, 1), (2, 9), (5, 11)] {
            let apart = distance(&rows[one * 40..][..40], &rows[other * 40..][..40]);
            assert!((distance(&of_cell(one), &of_cell(other)) - apart).abs() < 1e-4);
        }
    }

    #[test]
    fn a_plane_shows_what_varies_most_and_how_much_of_it() {
        let row = |x: f32, y: f32| [x, 0.0, y, 7.0];
        let rows: Vec<f32> = [row(3.0, 0.0), row(-3.0, 0.0), row(0.0, 1.0), row(0.0, -1.0)].concat();
        let (points, explained) = plane(&rows, 4);
        for (point, expected) in points.iter().zip([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) {
            assert!(point.iter().zip(expected).all(|(at, expected)| (at - expected).abs() < 1e-5), "{points:?}");
        }
        assert!((explained[0] - 0.9).abs() < 1e-9 && (explained[1] - 0.1).abs() < 1e-9);
    }

    #[test]
    fn cells_that_are_all_alike_span_nothing() {
        assert_eq!(principal_components(vec![1.0; 5 * 8], 8), (0, Vec::new()));
        assert_eq!(principal_components(Vec::new(), 8), (0, Vec::new()));
    }
}
