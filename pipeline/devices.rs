//! Devices of networks, found at run time, so that the same binary works on machines with and without a GPU.

use std::fmt;

use schemas::{Error, Result, numbers::bounded};
use stages::torch::{self, DeviceMemory};
use tch::{Cuda, Device};

/// The requested device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if there is one, otherwise the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, numbered from 0.
    Cuda(usize),
}

impl DeviceChoice {
    /// Parses `auto`, `cpu`, `cuda` or `cuda:N`.
    ///
    /// # Errors
    /// Any other name.
    pub fn parse(name: &str) -> Result<Self> {
        let unknown = || Error::usage(format!("`{name}` is not a device"), "use auto, cpu or cuda:0");
        match name.split_once(':') {
            None if name == "auto" => Ok(Self::Auto),
            None if name == "cpu" => Ok(Self::Cpu),
            None if name == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) => index.parse().map(Self::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }

    /// Loads libtorch's CUDA library if it may be needed. A program that uses libtorch before it finds its device
    /// has to call this first, because libtorch looks for devices only once.
    pub fn prepare(self) {
        if self != Self::Cpu {
            // `find` reports the result.
            let _ = torch::load_cuda();
        }
    }

    /// Finds the device.
    ///
    /// # Errors
    /// A missing GPU; the message lists what was tried.
    pub fn find(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => match missing(0) {
                None => Ok(Device::Cuda(0)),
                Some((why, _)) => {
                    tracing::info!("computing on the CPU: {why}");
                    Ok(Device::Cpu)
                }
            },
            Self::Cuda(index) => match missing(index) {
                None => Ok(Device::Cuda(index)),
                Some((why, hint)) => Err(Error::usage(format!("{self} is not available: {why}"), hint)),
            },
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// Why there is no such GPU, and a hint; `None` if there is one.
fn missing(index: usize) -> Option<(String, String)> {
    if let Err(why) = torch::load_cuda() {
        let hint = match why.contains("driver") {
            true => "use --device cpu, or a machine with an NVIDIA GPU and its driver".to_owned(),
            false => format!(
                "run `make setup CUDA=1`, or point {} or LD_LIBRARY_PATH to the folder of torch 2.11's libraries",
                torch::FOLDER_VARIABLE
            ),
        };
        return Some((why, hint));
    }
    if !Cuda::is_available() {
        let why = "libtorch's CUDA libraries were loaded but found no usable GPU";
        return Some((why.to_owned(), "check `nvidia-smi`, or use --device cpu".to_owned()));
    }
    let count = bounded::<usize>(Cuda::device_count());
    (count <= index).then(|| {
        let last = DeviceChoice::Cuda(count.saturating_sub(1));
        (format!("this machine's last GPU is {last}"), format!("use --device {last}"))
    })
}

/// A device's name in reports: `cpu`, or `cuda:0 (NVIDIA H200)`.
#[must_use]
pub fn name_of(device: Device) -> String {
    match device {
        Device::Cuda(index) => match torch::device_name(index) {
            Some(name) => format!("cuda:{index} ({name})"),
            None => format!("cuda:{index}"),
        },
        _ => "cpu".to_owned(),
    }
}

/// Maximum bytes that libtorch reserved on a GPU; `None` for the CPU, or a GPU that does not exist.
///
/// # Errors
/// A GPU that can't be used.
pub fn peak_bytes(device: Device) -> Result<Option<u64>> {
    Ok(memory_of(device)?.map(|memory| memory.kept_peak))
}

/// Free bytes of a GPU; `None` for the CPU, or a GPU that does not exist.
///
/// # Errors
/// A GPU that can't be used.
pub fn free_bytes(device: Device) -> Result<Option<u64>> {
    Ok(memory_of(device)?.map(|memory| memory.free))
}

fn memory_of(device: Device) -> Result<Option<DeviceMemory>> {
    let Device::Cuda(index) = device else { return Ok(None) };
    if missing(index).is_some() {
        return Ok(None);
    }
    torch::initialise(index)?;
    torch::device_memory(index).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names_and_others_are_refused() {
        assert_eq!(DeviceChoice::parse("cuda").expect("a name"), DeviceChoice::Cuda(0));
        assert_eq!(DeviceChoice::parse("cuda:3").expect("a name"), DeviceChoice::Cuda(3));
        for name in ["cuda:", "cuda:x", "gpu", "cpu:0", ""] {
            let error = DeviceChoice::parse(name).expect_err("no name");
            assert!(error.to_string().contains(&format!("`{name}`")) && error.hint().is_some());
        }
    }

    #[test]
    fn a_gpu_that_is_not_there_is_refused_with_what_was_tried() {
        // No machine has this many GPUs.
        let error = DeviceChoice::Cuda(4096).find().expect_err("there is no such device");
        assert!(error.to_string().starts_with("cuda:4096 is not available: "), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("--device") || hint.contains("CUDA=1")));
        assert_eq!(DeviceChoice::Cpu.find().expect("it is there"), Device::Cpu);
    }
}
