//! Files of every format that needs no HDF5 and that other programs write, and what is found in them.

mod matrix_market;
mod tables;
