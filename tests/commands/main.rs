//! The command line: what it says, of what, and what it refuses.

#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

mod bad_input;
mod bad_output;
mod beside_data;
mod command_line;
mod devices;
mod gpu_check;
mod idle_threads;
mod inspecting;
mod libtorch_program;
mod memory;
mod messages;
mod notes;
mod odd_columns;
mod outputs;
mod page_in_browser;
mod profile;
mod rebuilt_atlas;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod tables;
mod verifying;
