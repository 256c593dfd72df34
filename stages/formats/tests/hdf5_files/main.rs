//! Reads HDF5 files written by other programs.
#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]

mod h5ad_number_types;
mod h5ad_real_files;
mod h5ad_round_trip;
mod tenx_real_files;
