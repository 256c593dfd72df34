//! Files of every format that other programs write, and what is found in them.

#[cfg(feature = "hdf5")]
mod h5ad_number_types;
#[cfg(feature = "hdf5")]
mod h5ad_real_files;
#[cfg(feature = "hdf5")]
mod h5ad_round_trip;
mod matrix_market;
mod tables;
#[cfg(feature = "hdf5")]
mod tenx_real_files;
