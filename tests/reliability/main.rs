//! Nothing is lost: faults, interruptions, damage and hostile files.

#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

mod damage;
mod faults;
mod interrupted;
mod mutated;
#[path = "../support/mod.rs"]
mod support;
