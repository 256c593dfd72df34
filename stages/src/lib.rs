//! The verbs of Perturbine: what is done to the data, one file a verb.
//!
//! A stage owns no thread and no channel (see [`stage`]); `pipeline` decides who follows whom and on which threads. In the
//! order in which data walks:
//!
//! 1. [`ingest`] turns files into an [`atlas`]; [`split`] says which of its cells train;
//! 2. [`order`] and [`sample`] decide which cells make a batch, [`read`] asks the disk for them, [`encode`] codes their labels for a model's
//!    [`vocabulary`], [`gather`] gathers their expression;
//! 3. [`write`] and [`disk`] put tables and files where they are whole or not there.

pub mod arrays;
pub mod atlas;
pub mod batch;
pub mod block;
#[cfg(feature = "torch")]
pub mod checkpoint;
pub mod codes;
#[cfg(feature = "torch")]
pub mod counterfactual;
pub mod crossval;
pub mod decoded;
pub mod dense;
#[cfg(feature = "torch")]
mod device_kernels;
pub mod disk;
pub mod embedding_table;
pub mod encode;
pub mod evaluate;
pub mod gather;
pub mod gene_choice;
pub mod gene_subset;
pub mod group_statistics;
pub mod groups;
#[cfg(feature = "hdf5")]
mod h5;
#[cfg(feature = "hdf5")]
pub mod h5ad_write;
pub mod held;
pub mod ingest;
pub mod interrupt;
pub mod judge;
#[cfg(feature = "torch")]
mod kernels;
#[cfg(feature = "torch")]
pub mod libtorch;
#[cfg(feature = "torch")]
pub mod mean_expression;
pub mod members;
mod mmap;
#[cfg(feature = "torch")]
pub mod model;
mod numbers;
pub mod order;
mod packed;
pub mod phase;
#[cfg(feature = "torch")]
pub mod predict;
pub mod prediction_set;
#[cfg(feature = "torch")]
pub mod principal;
pub mod profiles;
pub mod publish;
#[cfg(feature = "torch")]
pub mod query;
pub mod read;
pub mod records;
pub mod recycle;
pub mod report;
pub mod row_layout;
pub mod sample;
pub mod sampled;
#[cfg(feature = "torch")]
pub mod saved;
mod sealed;
mod simd;
pub mod simulate;
mod solve;
pub mod split;
pub mod stage;
#[cfg(feature = "torch")]
pub mod train;
#[cfg(feature = "torch")]
pub mod validation;
pub mod variability;
pub mod vocabulary;
pub mod write;

pub use stage::{BoxError, Sink, Stage};
