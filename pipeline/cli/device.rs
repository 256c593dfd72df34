//! Where the network computes.

use perturbine::{Error, Result};
use tch::Device;

/// `auto` is a GPU where libtorch sees one.
pub(super) fn device(name: &str) -> Result<Device> {
    let cuda = |index: usize| match tch::Cuda::is_available() {
        true => Ok(Device::Cuda(index)),
        false => Err(Error::usage(
            "this machine has no CUDA device that libtorch can use",
            "use --device cpu, or run `make setup CUDA=1` first",
        )),
    };
    match name.split_once(':') {
        None if name == "auto" => Ok(Device::cuda_if_available()),
        None if name == "cpu" => Ok(Device::Cpu),
        None if name == "cuda" => cuda(0),
        Some(("cuda", index)) => cuda(
            index.parse().map_err(|_| Error::usage(format!("`{name}` names no device"), "use auto, cpu or cuda:0"))?,
        ),
        _ => Err(Error::usage(format!("`{name}` names no device"), "use auto, cpu or cuda:0")),
    }
}
