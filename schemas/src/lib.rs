//! The nouns of Perturbine: data in flight, data on disk, and configuration.
//!
//! Nothing here starts a thread, uses libtorch or depends on the order of stages. Read the modules in this order:
//!
//! 1. [`ids`]: the newtypes that keep cells, genes and conditions apart;
//! 2. [`conditions`]: perturbations, doses and covariates, and the codes they become;
//! 3. [`chunk`]: rows from a source file; [`atlas`]: rows on disk;
//! 4. [`batch`]: rows for a model; [`vocabulary`]: a model's names and codes, [`embedding_table`], [`gene_selection`];
//! 5. [`arrow`]: input and output tables; [`model_files`]; [`skipped`] conditions;
//! 6. [`config`]: settings; [`error`]: errors;
//! 7. [`notation`]: values in another notation; [`quoting`]: names and values in quotes; [`counting`]: counts with their nouns; [`numbers`]:
//!    conversions between integer types.

pub mod arrow;
pub mod atlas;
pub mod batch;
pub mod bytes;
pub mod chunk;
pub mod conditions;
pub mod config;
pub mod counting;
pub mod embedding_table;
pub mod error;
pub mod gene_selection;
pub mod ids;
pub mod model_files;
pub mod notation;
pub mod numbers;
pub mod quoting;
pub mod skipped;
pub mod vocabulary;

pub use bytes::ByteSize;
pub use error::{Error, Result};
