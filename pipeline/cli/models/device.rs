//! The device of the network.

use perturbine::{Result, devices::Wanted};
use tch::Device;

/// `auto` is a GPU if there is one.
pub(super) fn device(name: &str) -> Result<Device> {
    Wanted::parse(name)?.find()
}
