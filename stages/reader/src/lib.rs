//! The atlas on disk, memory-mapped.
//!
//! [`atlas::Atlas`] opens one; a [`block`] is rows that are stored together, unpacked into the [`block_cache`] where it is
//! compressed, and brought in ahead of need by [`read_ahead`]. A [`split`] says which cells train; [`groups`] are cells that share
//! condition and covariates, [`members`] their cells, [`profiles`] and [`group_statistics`] their means. A [`gene_subset`] reduces rows
//! to the genes of a model.
//!
//! ```no_run
//! use reader::atlas::Atlas;
//! use schemas::ids::CellIndex;
//!
//! let atlas = Atlas::open("kang.atlas")?;
//! println!("{} cells, the first of condition {:?}", atlas.cells(), atlas.condition(CellIndex(0)));
//! # Ok::<(), schemas::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod atlas;
pub mod block;
pub mod block_cache;
pub mod codes;
pub mod gene_subset;
pub mod group_statistics;
pub mod groups;
pub mod members;
pub mod packed;
pub mod profiles;
pub mod read_ahead;
pub mod records;
pub mod row_layout;
pub mod split;
