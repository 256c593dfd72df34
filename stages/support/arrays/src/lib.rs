//! Arrays of numbers in files, read by rows: what reading an atlas in place shares with reading the formats.
//!
//! A [`place::ObjectPlace`] names an array in errors. [`stored_numbers`] reads arrays whose bytes lie in a file at known addresses, with
//! the chunks' filters undone here; [`numbers::Numbers`] is any array that can be read by rows, and [`rows`] makes cells by genes of them.
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
