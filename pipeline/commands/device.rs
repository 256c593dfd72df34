//! The device of the network.

use tch::Device;

use perturbine::{Result, devices::DeviceChoice};

/// `auto` is a GPU if there is one.
pub(super) fn device(name: &str) -> Result<Device> {
    DeviceChoice::parse(name)?.find()
}
