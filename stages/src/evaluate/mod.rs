//! How good predictions are: held-out cells against predicted means, next to simple baselines.
//!
//! Everything here is arithmetic on slices, one number a gene; where the cells come from is the caller's business, and
//! `docs/metrics.md` says why each number is what it is. Read the modules in this order:
//!
//! 1. [`moments`]: a stream of cells becomes means and variances;
//! 2. [`metrics`]: how near one vector is to another; [`differential`]: which genes changed;
//! 3. [`baselines`]: what a model has to beat;
//! 4. [`scores`]: one condition, judged; [`table`]: all of them; [`frame`]: the same as tables to print.
//!
//! What is undefined is `None` from the metrics on, and `null` in JSON; a NaN never leaves this module.

pub mod baselines;
pub mod differential;
pub mod frame;
pub mod metrics;
pub mod moments;
pub mod scores;
pub mod table;

pub use baselines::{Baseline, Profile, Target, TrainingProfiles};
pub use moments::{Group, Moments};
pub use scores::{Comparison, Predicted, Scores};
pub use table::{BaselineScores, ConditionScores, Evaluation, Scale};
