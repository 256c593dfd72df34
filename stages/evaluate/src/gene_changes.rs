//! The real and the predicted change of every gene in one condition, for charts and tables.

use serde::{Deserialize, Serialize};
use statistics::{metrics, moments::MeanProfile};

/// The change of each gene in real and in predicted cells; every list except `top` has one entry per gene.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneChanges {
    /// The condition and its covariates.
    pub title: String,
    /// Number of real cells.
    pub cells: u64,
    /// Number of controls that the real change is measured from.
    pub reference_cells: u64,
    /// The names of the genes.
    pub genes: Vec<String>,
    /// The means of the controls from which the prediction started.
    pub control: Vec<f32>,
    /// The real change.
    pub real: Vec<f32>,
    /// The standard error of the real change; empty if one of the groups has fewer than two cells.
    pub standard_error: Vec<f32>,
    /// The predicted change.
    pub predicted: Vec<f32>,
    /// Indices of the genes that changed most significantly in the real cells, the most significant first.
    pub top: Vec<usize>,
}

/// The standard error of the difference between two means, for each gene; empty if one of the groups has fewer than two
/// cells.
#[must_use]
pub fn standard_errors(a: &MeanProfile, b: &MeanProfile) -> Vec<f64> {
    let Some((of_a, of_b)) = a.variance_unbiased().zip(b.variance_unbiased()) else { return Vec::new() };
    let (cells_a, cells_b) = (a.cells as f64, b.cells as f64);
    of_a.iter().zip(&of_b).map(|(of_a, of_b)| (of_a / cells_a + of_b / cells_b).sqrt()).collect()
}

impl GeneChanges {
    /// The correlation of the predicted with the real change.
    #[must_use]
    pub fn correlation(&self) -> Option<f64> {
        let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
        metrics::pearson(&wide(&self.real), &wide(&self.predicted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_as_uncertain_as_both_means() {
        // Population variances of two cells: the sample variances are 2 and 4.
        let of = |variance| MeanProfile { cells: 2, mean: vec![0.0], variance: vec![variance] };
        let found = standard_errors(&of(1.0), &of(2.0));
        assert!((found[0] - 3.0_f64.sqrt()).abs() < 1e-12, "{found:?}");
        let single = MeanProfile { cells: 1, mean: vec![0.0], variance: vec![0.0] };
        assert!(standard_errors(&single, &of(1.0)).is_empty());
    }
}
