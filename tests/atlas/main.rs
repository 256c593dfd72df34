//! Atlases: what is read into them, from which formats, and how cells come out again.

#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

#[cfg(feature = "hdf5")]
mod archives;
mod batches;
mod data_plane;
#[cfg(all(feature = "torch", feature = "hdf5"))]
mod genes;
#[cfg(all(feature = "torch", feature = "hdf5"))]
mod hdf5_worker;
#[cfg(all(feature = "torch", feature = "hdf5"))]
mod in_place;
#[cfg(all(feature = "torch", feature = "hdf5"))]
mod ingest;
#[cfg(all(feature = "torch", feature = "hdf5"))]
mod joined;
mod kept_formats;
#[cfg(all(feature = "torch", feature = "hdf5"))]
mod statistics;
#[path = "../support/mod.rs"]
mod support;
#[cfg(all(feature = "torch", feature = "hdf5"))]
mod tables;
#[cfg(all(feature = "torch", feature = "hdf5"))]
mod zarr;
