//! From a query to predictions, as Arrow batches.
//!
//! A [`query`] says which cells to start from and which conditions to predict; it is resolved into jobs, each
//! with source cells and targets. [`predict`] encodes a job's cells once and decodes them under every target;
//! [`controls`] adds the real cells for comparison.
//!
//! ```
//! use predictor::query::Request;
//!
//! assert!(Request::parse("condition=A+B,dose=1+0.5").is_ok());
//! assert!(Request::parse("ood").is_ok(), "every held-out condition");
//! ```
#![forbid(unsafe_code)]

pub mod controls;
pub mod predict;
pub mod query;
