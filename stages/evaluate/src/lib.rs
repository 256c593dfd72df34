//! How good predictions are: held-out cells against predicted means, next to simple baselines.
//!
//! [`judge`] is the stage that compares; the rest is arithmetic on slices, one number a gene, and `docs/metrics.md` says why each
//! number is what it is. Read the modules in this order:
//!
//! 1. [`sampled`] cells and [`statistics`] of a stream; [`prediction_set`]: predictions that were written to files;
//! 2. [`baselines`]: what a model has to beat; [`discrimination`]: which condition a prediction is nearest to; [`versus`]: whether
//!    the model is ahead;
//! 3. [`comparison`] and [`scores`]: one condition, judged; [`table`]: all of them, and their summary; [`frame`]: the same as
//!    tables to print; [`crossval`]: evaluations of several folds and seeds, summed up; [`crossval_folder`]: where they lie.
//!
//! Undefined values are `None` from the metrics on, and `null` in JSON; a NaN never leaves this room.
//!
//! ```
//! use evaluate::Baseline;
//!
//! assert_eq!(Baseline::Additive.name(), "additive");
//! ```
#![forbid(unsafe_code)]

pub mod baselines;
pub mod comparison;
pub mod crossval;
pub mod crossval_folder;
pub mod discrimination;
pub mod frame;
pub mod judge;
pub mod prediction_set;
pub mod sampled;
pub mod scatter;
pub mod scores;
mod summary;
pub mod table;
pub mod versus;

pub use baselines::{Baseline, BaselineTarget, TrainingProfile, TrainingProfiles};
pub use comparison::{Comparison, Predicted, ScoredGenes};
pub use crossval::{CrossEvaluation, FoldEvaluation};
pub use scatter::Scatter;
pub use scores::PredictionScores;
pub use table::{BaselineScores, ConditionScores, Evaluation};
pub use versus::Contestant;
