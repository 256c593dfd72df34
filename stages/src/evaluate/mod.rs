//! How good predictions are: held-out cells against predicted means, next to simple baselines.
//!
//! Everything here is arithmetic on slices, one number a gene; where the cells come from is the caller's business, and
//! `docs/metrics.md` says why each number is what it is. Read the modules in this order:
//!
//! 1. [`moments`]: a stream of cells becomes means and variances; [`axes`]: and points of a space with few dimensions;
//! 2. [`metrics`]: how near one vector is to another; [`differential`]: which genes changed; [`clouds`]: how far predicted
//!    cells are from real ones; [`discrimination`]: which condition a prediction is nearest to;
//! 3. [`baselines`]: what a model has to beat; [`bootstrap`] and [`versus`]: whether it does;
//! 4. [`comparison`] and [`scores`]: one condition, judged; [`table`]: all of them, and their summary; [`frame`]: the same as
//!    tables to print; [`crossval`]: evaluations of several folds and seeds, summed up.
//!
//! Undefined values are `None` from the metrics on, and `null` in JSON; a NaN never leaves this module.

pub mod axes;
pub mod baselines;
pub mod bootstrap;
pub mod clouds;
pub mod comparison;
pub mod crossval;
pub mod differential;
pub mod discrimination;
pub mod frame;
pub mod metrics;
pub mod moments;
pub mod scatter;
pub mod scores;
mod summary;
pub mod table;
pub mod versus;

pub use baselines::{Baseline, Profile, Target, TrainingProfiles};
pub use comparison::{Chosen, Comparison, Predicted};
pub use crossval::{CrossEvaluation, FoldEvaluation};
pub use moments::{Group, Moments};
pub use scatter::Scatter;
pub use scores::Scores;
pub use table::{Anchor, BaselineScores, ConditionScores, Evaluation, Scale};
pub use versus::Contestant;
