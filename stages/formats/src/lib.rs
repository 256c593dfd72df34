//! Input formats as streams of rows, with one module per format.
//!
//! Every format is a [`source::Source`]: annotations of cells and genes, and rows that many threads can read in any range.
//! [`format::open`] detects the format of a path: `h5ad` and [`zarr`] (which hold [`anndata`]), `tenx`,
//! [`mtx`], [`table`]. [`join`] combines several files into one source; [`memory`] is a source for data that
//! a program already holds. If possible, HDF5 files are read in a separate process (`worker`).
//!
//! ```no_run
//! use formats::{format::{Choice, open}, source::chunks};
//!
//! let source = open("pbmc.h5ad".as_ref(), &Choice::default())?;
//! for chunk in chunks(source) {
//!     println!("{} cells", chunk?.expression.rows());
//! }
//! # Ok::<(), schemas::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod anndata;
mod choice;
pub mod file_names;
pub mod format;
#[cfg(feature = "hdf5")]
pub mod h5ad;
mod hdf5_signature;
#[cfg_attr(not(feature = "hdf5"), path = "no_hdf5.rs")]
mod in_hdf5;
pub mod join;
pub mod memory;
pub mod mtx;
pub mod source;
pub mod table;
#[cfg(feature = "hdf5")]
pub mod tenx;
pub mod transpose;
pub mod version;
#[cfg(feature = "hdf5")]
pub mod worker;
pub mod zarr;
