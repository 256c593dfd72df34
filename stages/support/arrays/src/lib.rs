//! Arrays of numbers in files, read by rows: the code shared by reading an atlas in place and reading the
//! formats.
//!
//! A [`place::ObjectPlace`] names an array in errors. [`stored_numbers`] reads arrays whose bytes are at known
//! addresses of a file, and undoes the chunks' filters itself; [`numbers::Numbers`] is any array that can be
//! read by rows, and [`rows`] turns such arrays into matrices of cells by genes.
//!
//! ```
//! use arrays::place::ObjectPlace;
//!
//! let place = ObjectPlace::root("a.h5ad".as_ref()).child("X");
//! assert!(place.error("is empty", "write it again").to_string().contains("a.h5ad"));
//! ```
#![forbid(unsafe_code)]

pub mod chunk_cache;
pub mod chunks;
pub mod exact;
mod filters;
mod lzf;
pub mod number;
pub mod numbers;
pub mod place;
pub mod rows;
pub mod sparse;
pub mod stored_numbers;
pub mod text;
