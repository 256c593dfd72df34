//! Predictions: what is asked, what is written, who reads it, and how it is judged.

#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

#[cfg(all(feature = "torch", feature = "hdf5"))]
mod commands;
mod golden_metrics;
#[cfg(all(feature = "torch", feature = "hdf5"))]
mod judging;
#[cfg(all(feature = "torch", feature = "hdf5"))]
mod publishing;
#[cfg(all(feature = "torch", feature = "hdf5"))]
mod pytorch;
#[cfg(all(feature = "torch", feature = "hdf5"))]
mod readers;
#[cfg(feature = "torch")]
mod row_groups;
#[path = "../support/mod.rs"]
mod support;
#[cfg(all(feature = "torch", feature = "hdf5"))]
mod terms;
