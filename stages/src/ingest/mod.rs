//! From files to an atlas, one file a step.
//!
//! A format (one file a format: `h5ad` and `zarr`, which hold [`anndata`], `tenx`, `mtx`, `table`) is a [`source::Source`], whose [`piece`]s are read as narrow [`records`];
//! [`keys`] settles which columns are labels, [`filter`] which cells are selected; files are [`join`]ed, and distinguished by their [`file_names`]; annotations are compared as [`text`]; cells are
//! [`annotate`]d with the codes of a [`label`]ler; a [`tally`] sums the [`statistics`] of each group; rows are shuffled
//! through a [`spill`], cut into [`slab`]s, [`pack`]ed into blocks and [`store`]d.

pub mod anndata;
pub mod annotate;
pub mod census;
pub mod file_names;
pub mod filter;
pub mod format;
pub mod group_sums;
#[cfg(feature = "hdf5")]
pub mod h5ad;
#[cfg(feature = "hdf5")]
mod hdf5;
pub mod join;
pub mod keys;
pub mod label;
pub mod memory;
pub mod mtx;
pub mod pack;
pub mod piece;
pub mod slab;
pub mod source;
pub mod spill;
pub mod statistics;
pub mod store;
pub mod table;
pub mod tally;
#[cfg(feature = "hdf5")]
pub mod tenx;
pub mod transpose;
pub mod version;
#[cfg(feature = "hdf5")]
pub mod worker;
pub mod zarr;
