//! Whether predicted cells keep the dependence between genes.
//!
//! A distance such as the E-distance is dominated by means and variances of single genes: cells with the right ones, but
//! with every gene drawn independently of the others, can be close to the real cells. Here only correlations between
//! genes count.

use super::metrics::pearson;

/// The sums from which the correlations of some genes over cells follow; genes² / 2 numbers, however many cells.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneCorrelations {
    cells: u64,
    /// The first cell: deviations from it are summed, so that little is lost to rounding.
    origin: Vec<f64>,
    sums: Vec<f64>,
    /// Σ x_i x_j for i ≥ j, row by row.
    products: Vec<f64>,
}

/// How alike the dependence between genes is in real and predicted cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeneDependence {
    /// Pearson's correlation, over pairs of genes, of the real with the predicted correlation of the pair: 1 if predicted
    /// cells have the same pattern, 0 by chance or if genes are predicted independently. Undefined if one of the
    /// two is the same for all pairs.
    pub similarity: Option<f64>,
    /// The root mean square over pairs of the difference between the two correlations: 0 is perfect.
    pub error: f64,
}

impl GeneCorrelations {
    /// Without cells, for this many genes.
    #[must_use]
    pub fn new(genes: usize) -> Self {
        Self { cells: 0, origin: Vec::new(), sums: vec![0.0; genes], products: vec![0.0; genes * (genes + 1) / 2] }
    }

    /// Adds cells, `[cells, genes]`, row by row.
    ///
    /// # Panics
    /// If the last cell is incomplete.
    pub fn extend(&mut self, cells: &[f32]) {
        let genes = self.sums.len();
        assert!(genes == 0 || cells.len().is_multiple_of(genes), "cells are whole");
        for cell in cells.chunks_exact(genes.max(1)) {
            if self.origin.is_empty() {
                self.origin = cell.iter().map(|value| f64::from(*value)).collect();
            }
            let from_origin: Vec<f64> =
                cell.iter().zip(&self.origin).map(|(value, origin)| f64::from(*value) - origin).collect();
            let mut products = self.products.iter_mut();
            for (at, value) in from_origin.iter().enumerate() {
                self.sums[at] += value;
                from_origin[..=at].iter().zip(&mut products).for_each(|(other, product)| *product += value * other);
            }
            self.cells += 1;
        }
    }

    /// The correlation of each pair of different genes; `None` for a gene that does not vary.
    fn pairs(&self) -> Vec<Option<f64>> {
        let cells = self.cells as f64;
        let place = |a: usize, b: usize| a * (a + 1) / 2 + b;
        let covariance = |a: usize, b: usize| self.products[place(a, b)] - self.sums[a] * self.sums[b] / cells.max(1.0);
        let spreads: Vec<f64> = (0..self.sums.len()).map(|gene| covariance(gene, gene).max(0.0).sqrt()).collect();
        let varies = |gene: usize| spreads[gene] > 1e-6 * self.products[place(gene, gene)].sqrt();
        (0..self.sums.len())
            .flat_map(|a| (0..a).map(move |b| (a, b)))
            .map(|(a, b)| (varies(a) && varies(b)).then(|| covariance(a, b) / (spreads[a] * spreads[b])))
            .collect()
    }
}

/// Compares the correlations between genes in real and in predicted cells, over all pairs of genes that vary among the
/// real cells; a gene that does not vary among the predicted ones counts as independent of all others.
///
/// Undefined with fewer than three cells in one of the two, with fewer than three pairs of genes, and if a value is not
/// finite.
#[must_use]
pub fn gene_dependence(real: &GeneCorrelations, predicted: &GeneCorrelations) -> Option<GeneDependence> {
    if real.cells < 3 || predicted.cells < 3 || real.sums.len() != predicted.sums.len() {
        return None;
    }
    let is_finite = |correlations: &GeneCorrelations| correlations.products.iter().all(|product| product.is_finite());
    if !is_finite(real) || !is_finite(predicted) {
        return None;
    }
    let known = real.pairs().into_iter().zip(predicted.pairs());
    let known = known.filter_map(|(real, predicted)| Some((real?, predicted.unwrap_or(0.0))));
    let (real, predicted): (Vec<f64>, Vec<f64>) = known.unzip();
    if real.len() < 3 {
        return None;
    }
    let squares: f64 = real.iter().zip(&predicted).map(|(real, predicted)| (real - predicted).powi(2)).sum();
    Some(GeneDependence { similarity: pearson(&real, &predicted), error: (squares / real.len() as f64).sqrt() })
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const GENES: usize = 12;

    /// Cells whose genes share two factors; without `is_joint`, each gene draws its own.
    fn cells(count: usize, is_joint: bool, seed: u64) -> GeneCorrelations {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = || random.random::<f32>() - 0.5;
        let mut correlations = GeneCorrelations::new(GENES);
        for _ in 0..count {
            let mut factors = [draw(), draw()];
            let cell: [f32; GENES] = std::array::from_fn(|gene| {
                if !is_joint {
                    factors = [draw(), draw()];
                }
                let weight = (gene as f32 * 0.9).sin();
                1000.0 + weight * factors[0] + (1.0 - weight) * factors[1] + 0.3 * draw()
            });
            correlations.extend(&cell);
        }
        correlations
    }

    #[test]
    fn cells_of_the_same_population_depend_alike_and_independent_genes_do_not() {
        let real = cells(400, true, 1);
        let same = gene_dependence(&real, &cells(300, true, 2)).expect("many cells");
        assert!(same.similarity > Some(0.95) && same.error < 0.15, "{same:?}");
        let apart = gene_dependence(&real, &cells(300, false, 3)).expect("many cells");
        assert!(apart.similarity.is_some_and(|similarity| similarity.abs() < 0.4), "{apart:?}");
        assert!(apart.error > 0.3, "{apart:?}");
    }

    #[test]
    fn cells_are_a_perfect_prediction_of_themselves() {
        let real = cells(40, true, 1);
        assert_eq!(gene_dependence(&real, &real), Some(GeneDependence { similarity: Some(1.0), error: 0.0 }));
    }

    #[test]
    fn a_gene_that_does_not_vary_depends_on_nothing() {
        let of = |rows: &[[f32; 4]]| {
            let mut correlations = GeneCorrelations::new(4);
            rows.iter().for_each(|row| correlations.extend(row));
            correlations
        };
        let real = of(&[[1.0, 2.0, 0.1, 5.0], [2.0, 1.0, 0.1, 3.0], [3.0, 3.0, 0.1, 1.0]]);
        let found = gene_dependence(&real, &of(&[[1.0; 4], [1.0; 4], [1.0; 4]])).expect("three pairs vary");
        // The correlations of the three pairs are 1/2, −1 and −1/2.
        assert_eq!(found.similarity, None);
        assert!((found.error - 0.5_f64.sqrt()).abs() < 1e-12, "{found:?}");
        assert_eq!(gene_dependence(&real, &of(&[[1.0; 4], [2.0; 4]])), None, "two cells have no correlation");
        assert_eq!(gene_dependence(&real, &of(&[[f32::NAN; 4]; 3])), None);
    }
}
