//! Statistics, independent of files and networks.
//!
//! [`moments`] of a stream of cells; [`differential`] tests of one group against another by moments, and against the
//! [`rest`] of a context; the [`mann_whitney`] test by cells ([`cell_rows`]) of every gene of many groups ([`gene_tests`]), [`false_discovery`] rates of many tests, and scores of a
//! [`differential_table`]; [`metrics`] of one vector against another, [`ranks`], [`products`] of many pairs, the [`dependence`] between genes; [`bootstrap`] intervals, for cells over [`blocks`] of them; controls [`matched`] to batches; [`axes`] of a space with few dimensions, the [`principal`] components of a sample, and the distances of [`point_sets`] in it; [`solve`]:
//! least squares by Cholesky's method; [`loess`]: local regression; [`scale`]: what the numbers of a profile are.
//!
//! ```
//! use statistics::metrics::pearson;
//!
//! assert_eq!(pearson(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]), Some(1.0));
//! assert_eq!(pearson(&[1.0, 1.0, 1.0], &[2.0, 4.0, 6.0]), None, "a constant has no correlation");
//! ```
#![forbid(unsafe_code)]

pub mod axes;
pub mod blocks;
pub mod bootstrap;
pub mod cell_rows;
pub mod compared;
pub mod counted_log;
pub mod dependence;
pub mod differential;
pub mod differential_table;
mod eigen;
pub mod false_discovery;
pub mod gene_tests;
pub mod loess;
pub mod mann_whitney;
pub mod matched;
pub mod metrics;
pub mod moments;
pub mod point_sets;
pub mod principal;
pub mod products;
pub mod ranks;
pub mod rest;
pub mod scale;
pub mod solve;
