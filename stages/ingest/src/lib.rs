//! From files to an atlas, one file a step.
//!
//! The [`piece`]s of a source ([`formats`]) are read as narrow records; [`keys`] settles which columns are labels, [`filter`] which
//! cells are selected; cells are [`annotate`]d with the codes of a [`label`]ler; a [`tally`] sums the [`statistics`](mod@statistics) of
//! each group; rows are shuffled through a [`spill`], cut into [`slab`]s, [`pack`]ed into blocks and [`store`]d.
//!
//! ```
//! use formats::memory::Table;
//! use ingest::keys::{AskedKeys, resolve};
//!
//! let table = Table::without_genes(&[("condition", vec!["A", "ctrl"]), ("cell_type", vec!["T", "T"])]);
//! let keys = resolve(&table, &AskedKeys::default())?;
//! assert_eq!(keys.columns.perturbation.as_deref(), Some("condition"));
//! # Ok::<(), schemas::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod annotate;
pub mod census;
pub mod filter;
pub mod group_sums;
pub mod keys;
pub mod label;
pub mod pack;
pub mod piece;
pub mod slab;
pub mod spill;
pub mod statistics;
pub mod store;
pub mod tally;
