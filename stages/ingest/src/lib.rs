//! From files to an atlas, with one module per step.
//!
//! The [`row_range`]s of a source ([`formats`]) are read as narrow records; [`keys`] decides which columns are
//! labels, [`filter`] which cells are selected; cells are [`annotate`]d with the codes of a [`label`]ler; a
//! [`tally`] sums the [`statistics`](mod@statistics) of each group; rows pass an [`external_shuffle`], are
//! cut into [`block_run`]s, [`pack`]ed into blocks and [`store`]d.
//!
//! ```
//! use formats::memory::CellsInMemory;
//! use ingest::keys::{RequestedKeys, resolve};
//!
//! let table = CellsInMemory::without_genes(&[("condition", vec!["A", "ctrl"]), ("cell_type", vec!["T", "T"])]);
//! let keys = resolve(&table, &RequestedKeys::default())?;
//! assert_eq!(keys.columns.perturbation.as_deref(), Some("condition"));
//! # Ok::<(), schemas::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod annotate;
pub mod block_run;
pub mod census;
pub mod external_shuffle;
pub mod filter;
pub mod group_sums;
pub mod keys;
pub mod label;
pub mod pack;
pub mod row_range;
pub mod statistics;
pub mod store;
pub mod tally;
