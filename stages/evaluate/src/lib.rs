//! Measures the quality of predictions: compares held-out cells with predicted means, alongside simple
//! baselines.
//!
//! [`evaluator`] is the stage that compares; the rest is arithmetic on slices with one number per gene, and
//! `docs/metrics.md` explains the reason for each number. Read the modules in this order:
//!
//! 1. [`sampled`] cells and [`statistics`] of a stream; [`prediction_set`] and [`predicted_cells`]:
//!    predictions read from files;
//! 2. [`baselines`]: what a model has to beat; [`discrimination`]: which condition is nearest to a
//!    prediction; [`versus`]: whether the model is ahead;
//! 3. [`comparison`], [`cell_tests`] (of [`test_rows`]) and [`scores`] ([chosen](chosen_scores)) of one condition, and the [`range`] of each score; [`strata`] of conditions; [`table`]: all conditions and their summary, whose numbers are a [`verdict`]; [`gene_changes`] of one condition; [`frame`]:
//!    the same as tables to print; [`crossval`]: a summary of several folds and seeds; [`crossval_folder`]:
//!    the files of a cross-validation; [`card`]: hashes of what scores were computed from.
//!
//! Undefined values are `None`, and `null` in JSON; NaNs do not leave this crate.
//!
//! ```
//! use evaluate::Baseline;
//!
//! assert_eq!(Baseline::Additive.name(), "additive");
//! ```
#![forbid(unsafe_code)]

pub mod baselines;
pub mod card;
pub mod cell_tests;
pub mod chosen_scores;
pub mod comparison;
pub mod condition_scores;
mod context_groups;
pub mod crossval;
pub mod crossval_folder;
pub mod discrimination;
pub mod evaluator;
pub mod frame;
pub mod gene_changes;
pub mod predicted_cells;
pub mod prediction_set;
pub mod range;
pub mod sample_axes;
pub mod sampled;
pub mod scores;
pub mod strata;
mod summary;
pub mod table;
pub mod test_rows;
pub mod verdict;
pub mod versus;

pub use baselines::{Baseline, BaselineTarget, TrainingProfile, TrainingProfiles};
pub use chosen_scores::ChosenScores;
pub use comparison::{Comparison, Predicted, ScoredGenes};
pub use condition_scores::{BEST, BaselineScores, ConditionScores, Versus};
pub use context_groups::{ContextGroup, ContextGroups};
pub use crossval::{CrossEvaluation, FoldEvaluation};
pub use gene_changes::GeneChanges;
pub use range::{MeanRange, ScoreRange, ScoreRanges};
pub use scores::PredictionScores;
pub use strata::Stratum;
pub use summary::BaselineComparison;
pub use table::Evaluation;
pub use verdict::Verdict;
pub use versus::ComparedPrediction;
