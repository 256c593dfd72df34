//! Reads HDF5 files written by other programs.

mod h5ad_number_types;
mod h5ad_real_files;
mod h5ad_round_trip;
mod tenx_real_files;
