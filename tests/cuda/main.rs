//! A GPU's work, observed on a machine without one: torch's own `libtorch_cuda.so` runs on a stand-in for CUDA.
//!
//! Allocator, generator, graphs and autograd are the real ones; kernels do nothing and are counted. So these tests show that every path
//! runs through, what is launched, waited for and allocated, what is forbidden in a capture, and what is said when a GPU fails. They
//! can't show what kernels compute (`tests/network/gpu.rs` does, on a GPU), missing waits between streams, or time.

#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

mod engine;
mod failures;
mod gpu;
mod memory;
mod program_paths;
mod rules;
#[path = "../support/small_network.rs"]
mod small_network;
mod stand_in;
mod step_costs;
mod streams;
#[path = "../support/mod.rs"]
mod support;
