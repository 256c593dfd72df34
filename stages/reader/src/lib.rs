//! The atlas on disk, memory-mapped.
//!
//! [`atlas::Atlas`] opens one. A [`block`] is rows that are stored together, each a [`row`]; compressed blocks are decompressed
//! into the [`block_cache`], and [`read_ahead`] prefetches blocks. A [`split`] assigns cells to training,
//! validation and evaluation; [`groups`] are cells that share condition and covariates, a [`selector`]
//! chooses some by name, [`members`] lists their cells, [`profiles`] and [`group_statistics`] have their means. A [`gene_subset`] restricts rows to
//! the genes of a model.
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
pub mod compressed;
pub mod control_roles;
pub mod gene_subset;
pub mod group_statistics;
pub mod groups;
pub mod members;
pub mod profiles;
pub mod read_ahead;
pub mod records;
pub mod row;
pub mod row_layout;
pub mod selector;
pub mod split;
mod verify;
