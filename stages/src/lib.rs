//! The verbs of Perturbine: what is done to the data, one file a verb.
//!
//! A stage owns no thread and no channel (see [`stage`]); `pipeline` decides who follows whom and on which threads.

pub mod evaluate;
pub mod report;
pub mod stage;

pub use stage::{BoxError, Sink, Stage};
