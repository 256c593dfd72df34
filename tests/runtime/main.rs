//! The promises that the runtime makes, one module each.

#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

mod budget;
mod end;
mod failure;
mod nest;
mod order;
mod report;
mod stop;
mod support;
