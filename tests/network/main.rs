//! Steps of the network, by each engine and on each device.

#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

mod engines;
mod frugal_steps;
mod gpu;
mod replayed;
#[path = "../support"]
mod support {
    pub mod small_network;
    pub mod steps;
}
