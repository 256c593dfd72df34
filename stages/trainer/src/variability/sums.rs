//! One pass over cells to measure each gene's variability.

use std::ops::ControlFlow;

use reader::profiles::ExpressionRows;
use stage::{BoxError, Sink, cast::real};

/// The transformation of each value before summing.
#[derive(Clone, Debug)]
pub enum ValueTransform {
    /// The value itself.
    Values,
    /// The value, cut off at a bound for its gene.
    AtMost(Vec<f64>),
    /// The x of a log(1 + x).
    Unlogged,
}

/// Sums over cells, per gene.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneSums {
    /// Number of cells.
    pub cells: u64,
    /// Σ x of each gene.
    pub sums: Vec<f64>,
    /// Σ x² of each gene.
    pub squares: Vec<f64>,
    /// Whether a value was below 0.
    pub any_negative: bool,
}

impl GeneSums {
    /// The mean of each gene.
    #[must_use]
    pub fn mean(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / real(self.cells)).collect()
    }

    /// The sample variance of each gene (divided by n − 1).
    #[must_use]
    pub fn variance(&self) -> Vec<f64> {
        let cells = real(self.cells);
        let of_gene = |(sum, square): (&f64, &f64)| {
            let deviations = square - sum * sum / cells;
            // Rounding may make the variance of a constant gene slightly different from zero.
            if deviations <= 1e-13 * square { 0.0 } else { deviations / (cells - 1.0) }
        };
        self.sums.iter().zip(&self.squares).map(of_gene).collect()
    }
}

/// Sums the values of each gene.
#[derive(Debug)]
pub struct SumGenes {
    summed: ValueTransform,
    sums: GeneSums,
}

impl SumGenes {
    /// Empty sums over this many genes.
    #[must_use]
    pub fn new(genes: usize, summed: ValueTransform) -> Self {
        let sums = GeneSums { cells: 0, sums: vec![0.0; genes], squares: vec![0.0; genes], any_negative: false };
        Self { summed, sums }
    }
}

impl Sink for SumGenes {
    type In = ExpressionRows;
    type Summary = GeneSums;

    fn push(&mut self, rows: ExpressionRows) -> Result<ControlFlow<()>, BoxError> {
        let GeneSums { cells, sums, squares, any_negative } = &mut self.sums;
        *cells += rows.plan.cells.len() as u64;
        let mut add = |gene: usize, x: f64| {
            sums[gene] += x;
            squares[gene] += x * x;
            *any_negative |= x < 0.0;
        };
        match &self.summed {
            ValueTransform::Values => rows.expression.for_each(|_, gene, x| add(gene, x.into())),
            ValueTransform::AtMost(most) => {
                rows.expression.for_each(|_, gene, x| add(gene, f64::from(x).min(most[gene])))
            }
            ValueTransform::Unlogged => rows.expression.for_each(|_, gene, x| add(gene, f64::from(x).exp_m1())),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<GeneSums, BoxError> {
        Ok(self.sums)
    }
}
