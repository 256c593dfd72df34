//! Tests that need the whole program.

mod archives;
mod genes;
mod hdf5_worker;
mod in_place;
mod ingest;
mod joined;
mod statistics;
mod tables;
mod zarr;
