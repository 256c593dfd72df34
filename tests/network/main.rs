//! Steps of the network, by each engine and on each device.

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
