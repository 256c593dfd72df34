//! The device of the network.

use perturbine::{Result, devices::DeviceChoice};
use tch::Device;

/// `auto` is a GPU if there is one.
pub(super) fn device(name: &str) -> Result<Device> {
    DeviceChoice::parse(name)?.find()
}
