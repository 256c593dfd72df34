//! Sums over the cells of groups, from which the noise of their means follows.

use schemas::Result;

use crate::measured::refused;

/// Sums over the cells of a group.
#[derive(Clone, Copy, Debug)]
pub struct CellSums<'a> {
    /// Number of cells (or wells), at least 1.
    pub cells: u64,
    /// The sum of each gene's values, on the scale on which shifts are measured (for counts, log(1 + normalised
    /// count)).
    pub values: &'a [f64],
    /// The sum of each gene's squared values.
    pub squares: &'a [f64],
}

impl CellSums<'_> {
    /// Number of cells as a real number.
    pub(crate) fn count(&self) -> f64 {
        self.cells as f64
    }

    /// Checks lengths and numbers.
    ///
    /// # Errors
    /// No cells, sums that are not of this many genes, or not finite.
    pub(crate) fn check(&self, genes: usize) -> Result<()> {
        if self.cells == 0 {
            return Err(refused("a group has no cells", "leave empty groups out"));
        }
        if self.values.len() != genes || self.squares.len() != genes {
            return Err(refused(format!("a group's sums are not of {genes} genes"), "sum all genes"));
        }
        let largest = self
            .values
            .iter()
            .chain(self.squares)
            .fold(0.0, |largest: f64, sum| if sum.is_finite() { largest.max(sum.abs()) } else { f64::INFINITY });
        // The square of a sum, over as many cells as there may be, is still a number.
        if largest > 1e100 {
            return Err(refused("a group's sums are not finite numbers", "leave damaged values out"));
        }
        Ok(())
    }

    /// The sum over cells of the squared deviations of a gene from its mean; negative at most by rounding.
    pub(crate) fn scatter(&self, gene: usize) -> f64 {
        self.squares[gene] - self.values[gene] * self.values[gene] / self.count()
    }
}
