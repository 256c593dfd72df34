//! Reads files written by other programs, in every format that does not need HDF5.
#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]

mod matrix_market;
mod tables;
