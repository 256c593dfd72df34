//! Reads what others wrote, one file a format; every reader yields the same chunks of rows.

#[cfg(feature = "hdf5")]
pub mod h5ad;
