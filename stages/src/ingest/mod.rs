//! From files to an atlas, one file a step.
//!
//! A reader of a format (one file a format: `h5ad`) yields chunks of rows; [`keys`] settles which columns are labels; rows are cut into [`slab`]s, [`pack`]ed into
//! blocks, [`label`]led and [`store`]d.

#[cfg(feature = "hdf5")]
pub mod h5ad;
pub mod keys;
pub mod label;
pub mod pack;
pub mod slab;
pub mod store;
