//! Atlases: what is read into them, from which formats, and how cells come out again.

#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

#[cfg(all(feature = "torch", feature = "hdf5"))]
mod all_features;
mod batches;
mod data_plane;
mod kept_formats;
mod loader_order;
#[path = "../support/mod.rs"]
mod support;
