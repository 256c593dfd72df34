//! From files to an atlas, one file a step.
//!
//! A format (one file a format: `h5ad`, `mtx`, `table`) is a [`source::Source`], whose [`piece`]s are read as narrow [`records`]; [`keys`]
//! settles which columns are labels; cells are [`annotate`]d with the codes of a [`label`]ler; rows are shuffled by way of a
//! [`spill`], cut into [`slab`]s, [`pack`]ed into blocks and [`store`]d.

pub mod annotate;
pub mod census;
pub mod format;
#[cfg(feature = "hdf5")]
pub mod h5ad;
pub mod keys;
pub mod label;
pub mod memory;
pub mod mtx;
pub mod pack;
pub mod piece;
pub mod records;
pub mod slab;
pub mod source;
pub mod spill;
pub mod store;
pub mod table;
pub mod transpose;
