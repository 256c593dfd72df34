//! The nouns of Perturbine: what flows, what lies on disk, what a user may ask for.
//!
//! Nothing here starts a thread, opens a libtorch or knows in which order things happen. Read the modules in this order:
//!
//! 1. [`ids`]: the newtypes that keep cells, genes and conditions apart;
//! 2. [`conditions`]: perturbations, doses and covariates, and the codes they become;
//! 3. [`chunk`]: rows as a source file gives them; [`atlas`]: rows as they lie on disk;
//! 4. [`batch`]: rows as a model sees them;
//! 5. [`arrow`]: the tables that go in and out;
//! 6. [`config`]: what a user writes; [`error`]: what a user is told.
//! 7. [`numbers`]: integers from one type to another.

pub mod arrow;
pub mod atlas;
pub mod batch;
pub mod bytes;
pub mod chunk;
pub mod conditions;
pub mod config;
pub mod error;
pub mod ids;
pub mod numbers;

pub use bytes::ByteSize;
pub use error::{Error, Result};
