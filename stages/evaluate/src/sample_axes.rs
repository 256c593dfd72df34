//! Principal components of a sample of cells: the space in which predicted and real cells are compared.

use std::{ops::ControlFlow, sync::Arc};

use reader::profiles::ExpressionRows;
use stage::{BoxError, Sink};
use statistics::{axes::Axes, compared::ComparedGenes, principal::principal_components, scale::CellScale};

/// Maximum number of cells in a sample.
const MOST_CELLS: usize = 1000;
/// Maximum number of values in a sample: 64 MiB.
const MOST_NUMBERS: usize = 1 << 24;

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
        let (components, loadings) = principal_components(self.rows, self.compared.chosen().len());
        let mut of_all = vec![0.0; self.compared.of() * components];
        for (gene, of_gene) in self.compared.chosen().iter().zip(loadings.chunks_exact(components.max(1))) {
            of_all[gene * components..(gene + 1) * components].copy_from_slice(of_gene);
        }
        Ok(Axes::new(self.scale, components, of_all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_stays_small_whatever_the_number_of_genes() {
        assert_eq!((sample_size(2000), sample_size(40_000), sample_size(usize::MAX)), (1000, 419, 2));
    }
}
