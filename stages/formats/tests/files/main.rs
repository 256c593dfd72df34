//! Reads files written by other programs, in every format that does not need HDF5.

mod matrix_market;
mod tables;
