//! Principal components of a sample of cells: the space in which predicted and real cells are compared.

use std::{ops::ControlFlow, sync::Arc};

use reader::profiles::ExpressionRows;
use schemas::numbers::to_i64;
use stage::{BoxError, Sink};
use statistics::{
    axes::{Axes, MOST_COMPONENTS},
    compared::ComparedGenes,
    scale::CellScale,
};
use tch::{Kind, Tensor};

/// Maximum number of cells in a sample.
const MOST_CELLS: usize = 1000;
/// Maximum number of values in a sample: 64 MiB.
const MOST_NUMBERS: usize = 1 << 24;
/// Components that explain less than this share of the first one are rounding noise.
const LEAST_SHARE: f64 = 1e-5;

/// Maximum number of cells of a sample over this many genes.
#[must_use]
pub fn sample_size(genes: usize) -> u64 {
    (MOST_NUMBERS / genes.max(1)).clamp(2, MOST_CELLS) as u64
}

/// Gathers a sample of cells, and finds its principal components.
#[derive(Debug)]
pub struct FindAxes {
    scale: CellScale,
    compared: Arc<ComparedGenes>,
    rows: Vec<f32>,
}

impl FindAxes {
    /// An empty sample; only the compared genes have loadings.
    #[must_use]
    pub fn new(scale: CellScale, compared: Arc<ComparedGenes>) -> Self {
        Self { scale, compared, rows: Vec::new() }
    }
}

impl Sink for FindAxes {
    type In = ExpressionRows;
    type Summary = Axes;

    #[expect(clippy::cast_possible_truncation, reason = "axes need no more than f32")]
    fn push(&mut self, rows: ExpressionRows) -> Result<ControlFlow<()>, BoxError> {
        for (_, (mut genes, mut values)) in rows.cells() {
            self.scale.convert(&mut values);
            self.compared.keep(&mut genes, &mut values);
            let first = self.rows.len();
            self.rows.resize(first + self.compared.chosen().len(), 0.0);
            for (gene, value) in genes.iter().zip(values) {
                self.rows[first + *gene as usize] = value as f32;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Axes, BoxError> {
        if self.rows.is_empty() {
            return Ok(Axes::new(self.scale, 0, Vec::new()));
        }
        let genes = to_i64(self.compared.chosen().len());
        let loadings = principal_components(&Tensor::from_slice(&self.rows).view([-1, genes]))?;
        let components = usize::try_from(loadings.size()[1])?;
        let loadings = Vec::<f32>::try_from(loadings.contiguous().view([-1]))?;
        let mut of_all = vec![0.0; self.compared.of() * components];
        for (gene, of_gene) in self.compared.chosen().iter().zip(loadings.chunks_exact(components.max(1))) {
            of_all[gene * components..(gene + 1) * components].copy_from_slice(of_gene);
        }
        Ok(Axes::new(self.scale, components, of_all))
    }
}

/// The first principal components of cells `[cells, genes]`: at most [`MOST_COMPONENTS`], `[genes, components]`.
///
/// Computed from the eigenvectors of the cells' Gram matrix, since there are fewer cells than genes: if u is
/// an eigenvector of X Xᵀ with eigenvalue s², then Xᵀ u / s is one of Xᵀ X.
///
/// # Errors
/// Values for which libtorch finds no eigenvectors, such as infinite ones.
pub fn principal_components(cells: &Tensor) -> Result<Tensor, BoxError> {
    let _no_grad = tch::no_grad_guard();
    let centred = cells - cells.mean_dim([0_i64].as_slice(), true, Kind::Float);
    let gram = centred.matmul(&centred.tr()).to_kind(Kind::Double);
    // Eigenvalues come in ascending order.
    let (values, vectors) = gram.f_linalg_eigh("L")?;
    let values = Vec::<f64>::try_from(&values)?;
    let largest = values.last().copied().unwrap_or(0.0);
    let is_noise = |value: &f64| *value <= largest * LEAST_SHARE || *value <= 0.0;
    let components = values.iter().rev().take_while(|value| !is_noise(value)).take(MOST_COMPONENTS).count();
    let first = to_i64(values.len() - components);
    let count = to_i64(components);
    let vectors = vectors.narrow(1, first, count).to_kind(Kind::Float);
    let lengths = Tensor::from_slice(&values[values.len() - components..]).sqrt().to_kind(Kind::Float);
    Ok(centred.tr().matmul(&vectors) / lengths)
}

/// The coordinates of rows `[rows, width]` in the plane of their two largest principal components, and the
/// share of the variance that each component explains. The sign of a component is chosen such that its
/// largest loading is positive, so that pictures are reproducible.
///
/// # Errors
/// Values for which libtorch finds no eigenvectors, such as infinite ones.
pub fn plane(rows: &Tensor) -> Result<(Vec<[f32; 2]>, [f64; 2]), BoxError> {
    let _no_grad = tch::no_grad_guard();
    let centred = rows.to_kind(Kind::Double);
    let centred = &centred - centred.mean_dim([0_i64].as_slice(), true, Kind::Double);
    let (values, vectors) = centred.tr().matmul(&centred).f_linalg_eigh("L")?;
    let width = values.size()[0];
    let total = values.sum(Kind::Double).double_value(&[]);
    let (mut points, mut explained) = (vec![[0.0; 2]; usize::try_from(rows.size()[0])?], [0.0; 2]);
    for axis in 0..width.min(2) {
        // Eigenvalues come in ascending order.
        let vector = vectors.select(1, width - 1 - axis);
        let largest = vector.gather(0, &vector.abs().argmax(0, true), false);
        let along = Vec::<f32>::try_from(centred.matmul(&(&vector * largest.sign())).to_kind(Kind::Float))?;
        let axis = usize::try_from(axis)?;
        points.iter_mut().zip(along).for_each(|(point, at)| point[axis] = at);
        let value = values.double_value(&[width - 1 - to_i64(axis)]);
        explained[axis] = if total > 0.0 { value / total } else { 0.0 };
    }
    Ok((points, explained))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_at_right_angles_and_keep_the_distances_between_cells() {
        tch::manual_seed(3);
        let cells = Tensor::randn([12, 40], (Kind::Float, tch::Device::Cpu));
        let components = principal_components(&cells).expect("finite cells");
        assert_eq!(components.size(), [40, 11], "twelve cells span eleven directions around their mean");
        let angles = components.tr().matmul(&components) - Tensor::eye(11, (Kind::Float, tch::Device::Cpu));
        assert!(f64::try_from(angles.abs().max()).expect("a number") < 1e-4);
        let projected = cells.matmul(&components);
        let apart = |rows: &Tensor| Tensor::cdist(rows, rows, 2.0, None::<i64>);
        let difference = (apart(&projected) - apart(&cells)).abs().max();
        assert!(f64::try_from(difference).expect("a number") < 1e-3);
    }

    #[test]
    fn a_plane_shows_what_varies_most_and_how_much_of_it() {
        let row = |x: f32, y: f32| [x, 0.0, y, 7.0];
        let rows: Vec<f32> = [row(3.0, 0.0), row(-3.0, 0.0), row(0.0, 1.0), row(0.0, -1.0)].concat();
        let (points, explained) = plane(&Tensor::from_slice(&rows).view([4, 4])).expect("finite rows");
        for (point, expected) in points.iter().zip([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) {
            assert!(point.iter().zip(expected).all(|(at, expected)| (at - expected).abs() < 1e-5), "{points:?}");
        }
        assert!((explained[0] - 0.9).abs() < 1e-9 && (explained[1] - 0.1).abs() < 1e-9);
    }

    #[test]
    fn a_sample_stays_small_whatever_the_number_of_genes() {
        assert_eq!((sample_size(2000), sample_size(40_000), sample_size(usize::MAX)), (1000, 419, 2));
    }

    #[test]
    fn cells_that_are_all_alike_span_nothing() {
        let cells = Tensor::ones([5, 8], (Kind::Float, tch::Device::Cpu));
        assert_eq!(principal_components(&cells).expect("finite cells").size(), [8, 0]);
    }
}
