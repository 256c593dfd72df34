//! Commands on a model, from training on.

#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

mod commands;
mod crossval;
mod crossval_shards;
mod offsets;
mod options;
#[path = "../support/mod.rs"]
mod support;
