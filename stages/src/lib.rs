//! The verbs of Perturbine: what is done to the data, one file a verb.
//!
//! A stage owns no thread and no channel (see [`stage`]); `pipeline` decides who follows whom and on which threads.

#[cfg(feature = "hdf5")]
mod h5;
#[cfg(feature = "hdf5")]
pub mod h5ad_write;
pub mod ingest;
pub mod simulate;
pub mod stage;

pub use stage::{BoxError, Sink, Stage};
