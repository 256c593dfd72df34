//! The targets of predictions, and the cells to predict them from.

use std::sync::Arc;

use schemas::{ids::CellIndex, vocabulary::CovariateTerm};

use super::Extrapolation;

/// Maximum bytes of a predictor's sums: this determines how many targets are predicted in one pass over their
/// source cells.
const SUMS_BYTES: usize = 128 << 20;

/// Number of targets predicted together: each takes two float64 sums per gene.
pub(super) fn targets_per_job(genes: usize) -> usize {
    (SUMS_BYTES / (2 * size_of::<f64>() * genes.max(1))).clamp(64, 4096)
}

/// A prediction: a condition at doses, with a covariate combination.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The condition's name.
    pub condition: String,
    /// Its doses, in the order of the name.
    pub dose: String,
    /// Codes of its perturbations in the model's vocabulary, and their doses; control is one of the codes.
    pub parts: Vec<(u32, f64)>,
    /// The value of every covariate.
    pub covariates: Vec<String>,
    /// The latent term of each covariate.
    pub terms: Vec<CovariateTerm>,
    /// How far the target goes beyond the training data.
    pub extrapolation: Extrapolation,
}

/// Source cells, and the targets to predict from them.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The covariate combinations of the source cells, by their codes in the atlas.
    pub contexts: Vec<Vec<u32>>,
    /// Number of source cells.
    pub source_cells: u64,
    /// The targets.
    pub targets: Vec<Target>,
}

/// Decides whether a cell is a source cell.
pub type IsSource = Arc<dyn Fn(CellIndex) -> bool + Send + Sync>;

/// The cells from which a target starts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Start {
    /// Cells of some contexts, given by index.
    In(Vec<usize>),
    /// Cells that match these covariate values.
    Matching(Vec<String>),
}

/// Identifies a request: where it starts, codes and bits of the doses, and the target's covariates.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct TargetKey {
    pub(super) start: Start,
    pub(super) parts: Vec<(u32, u64)>,
    pub(super) covariates: Vec<String>,
}
