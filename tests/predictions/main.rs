//! Predictions: what is asked, what is written, who reads it, and how it is judged.

#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

#[cfg(all(feature = "torch", feature = "hdf5"))]
mod all_features;
mod golden_metrics;
#[path = "../support/mod.rs"]
mod support;
