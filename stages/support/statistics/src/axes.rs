//! The space in which sets of cells are compared: principal components of training cells.

use simd::{InstructionSet, Kernel, widest};

use super::{point_sets::PointSet, scale::CellScale};

/// Maximum number of components.
pub const MOST_COMPONENTS: usize = 50;

/// Orthogonal directions of length 1 in the space of genes.
#[derive(Clone, Debug, PartialEq)]
pub struct Axes {
    scale: CellScale,
    components: usize,
    /// Each gene's loading on every component, `[genes, components]`, row by row.
    loadings: Vec<f32>,
}

impl Axes {
    /// Axes with these loadings, `[genes, components]`, row by row.
    #[must_use]
    pub fn new(scale: CellScale, components: usize, loadings: Vec<f32>) -> Self {
        Self { scale, components, loadings }
    }

    /// Number of components.
    #[must_use]
    pub fn components(&self) -> usize {
        self.components
    }

    /// The loadings of all genes, `[genes, components]`, row by row.
    #[must_use]
    pub fn loadings(&self) -> &[f32] {
        &self.loadings
    }

    /// The scale of a cell's numbers before projection.
    #[must_use]
    pub fn scale(&self) -> CellScale {
        self.scale
    }

    /// A point set without cells.
    #[must_use]
    pub fn empty_point_set(&self) -> PointSet {
        PointSet::new(self.components)
    }

    /// Projects a cell, given by its non-zero genes and their values as stored in the atlas.
    ///
    /// # Panics
    /// If a gene is beyond the last one.
    #[must_use]
    pub fn project(&self, genes: &[u32], mut values: Vec<f64>) -> Vec<f32> {
        self.scale.convert(&mut values);
        self.project_converted(genes, &values)
    }

    /// Projects a cell, given by its non-zero genes and their values on the [scale](Axes::scale).
    ///
    /// # Panics
    /// If a gene is beyond the last one.
    #[must_use]
    pub fn project_converted(&self, genes: &[u32], values: &[f64]) -> Vec<f32> {
        self.sum(genes.iter().map(|gene| *gene as usize).zip(values.iter().copied()))
    }

    /// Projects a change of every gene.
    #[must_use]
    pub fn direction(&self, change: &[f64]) -> Vec<f32> {
        self.sum(change.iter().copied().enumerate())
    }

    #[expect(clippy::cast_possible_truncation, reason = "a distance between cells needs no more than f32")]
    fn sum(&self, entries: impl Iterator<Item = (usize, f64)>) -> Vec<f32> {
        widest(Projection { axes: self, entries }).into_iter().map(|at| at as f32).collect()
    }
}

/// The sum of the loadings of entries, gene by gene, each times its value.
struct Projection<'a, I> {
    axes: &'a Axes,
    entries: I,
}

impl<I: Iterator<Item = (usize, f64)>> Kernel for Projection<'_, I> {
    type Out = Vec<f64>;

    #[inline(always)]
    fn run<W: InstructionSet>(self) -> Vec<f64> {
        let Axes { components, loadings, .. } = self.axes;
        let mut point = vec![0.0; *components];
        for (gene, value) in self.entries {
            let loadings = &loadings[gene * components..(gene + 1) * components];
            point.iter_mut().zip(loadings).for_each(|(at, loading)| *at += value * f64::from(*loading));
        }
        point
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_put_on_the_scale_before_it_is_projected() {
        let loadings = vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        let projected = |scale| Axes::new(scale, 2, loadings.clone()).project(&[0, 2], vec![3.0, 1.0]);
        assert_eq!(projected(CellScale::Values), [3.0, 0.0]);
        assert_eq!(projected(CellScale::Log1p), [4.0_f32.ln(), 0.0]);
        assert_eq!(projected(CellScale::Scaled(8.0)), [7.0_f32.ln(), 0.0]);
    }

    #[test]
    fn a_change_moves_a_cell_as_far_as_it_moves_its_genes() {
        let axes = Axes::new(CellScale::Values, 2, vec![0.6, 0.8, 0.8, -0.6]);
        let (before, after) = (axes.project(&[0, 1], vec![1.0, 2.0]), axes.project(&[0, 1], vec![2.0, 1.5]));
        let step = axes.direction(&[1.0, -0.5]);
        for at in 0..2 {
            assert!((after[at] - before[at] - step[at]).abs() < 1e-6);
        }
    }
}
