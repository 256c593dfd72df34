//! Where networks compute: devices are found while the program runs, so that one binary serves machines with and without a GPU.

use std::fmt;

use schemas::{Error, Result, numbers::bounded};
use stages::libtorch::{self, DeviceMemory};
use tch::{Cuda, Device};

/// What a user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first GPU where there is one, else the processor.
    Auto,
    /// The processor.
    Cpu,
    /// A GPU, from 0.
    Cuda(usize),
}

impl Wanted {
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    ///
    /// # Errors
    /// Another name.
    pub fn parse(name: &str) -> Result<Self> {
        let unknown = || Error::usage(format!("`{name}` names no device"), "use auto, cpu or cuda:0");
        match name.split_once(':') {
            None if name == "auto" => Ok(Self::Auto),
            None if name == "cpu" => Ok(Self::Cpu),
            None if name == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) => index.parse().map(Self::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }

    /// Loads CUDA's part of libtorch if it may be wanted. This has to come before anything else is asked of libtorch, which
    /// looks for devices once: call it first where a program does other things with libtorch before it finds its device.
    pub fn prepare(self) {
        if self != Self::Cpu {
            // What came of it is asked again by `find`.
            let _ = libtorch::load_cuda();
        }
    }

    /// The device.
    ///
    /// # Errors
    /// A GPU that is not there; the message tells what was tried.
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
                Some((why, hint)) => Err(Error::usage(format!("there is no {self}: {why}"), hint)),
            },
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// Why there is no such GPU, and what would mend it.
fn missing(index: usize) -> Option<(String, String)> {
    if let Err(why) = libtorch::load_cuda() {
        let hint = match why.contains("driver") {
            true => "use --device cpu, or a machine with an NVIDIA GPU and its driver".to_owned(),
            false => format!(
                "run `make setup CUDA=1`, or name the folder of torch 2.11's libraries with {} or LD_LIBRARY_PATH",
                libtorch::FOLDER_VARIABLE
            ),
        };
        return Some((why, hint));
    }
    if !Cuda::is_available() {
        let why = "CUDA's part of libtorch was loaded, and finds no GPU that it can use";
        return Some((why.to_owned(), "look at what `nvidia-smi` says, or use --device cpu".to_owned()));
    }
    let count = bounded::<usize>(Cuda::device_count());
    (count <= index).then(|| {
        let last = Wanted::Cuda(count.saturating_sub(1));
        (format!("this machine's last GPU is {last}"), format!("use --device {last}"))
    })
}

/// A device as reports name it: `cpu`, or `cuda:0 (NVIDIA H200)`.
#[must_use]
pub fn name_of(device: Device) -> String {
    match device {
        Device::Cuda(index) => match libtorch::device_name(index) {
            Some(name) => format!("cuda:{index} ({name})"),
            None => format!("cuda:{index}"),
        },
        _ => "cpu".to_owned(),
    }
}

/// Bytes that libtorch has kept from a GPU at most; none of the processor, or of a GPU that is not here.
///
/// # Errors
/// A GPU that can't be used.
pub fn peak_bytes(device: Device) -> Result<Option<u64>> {
    Ok(memory_of(device)?.map(|memory| memory.kept_peak))
}

/// Bytes that a GPU has room for still; none of the processor, or of a GPU that is not here.
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
    libtorch::initialise(index)?;
    libtorch::device_memory(index).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names_and_others_are_refused() {
        assert_eq!(Wanted::parse("cuda").expect("a name"), Wanted::Cuda(0));
        assert_eq!(Wanted::parse("cuda:3").expect("a name"), Wanted::Cuda(3));
        for name in ["cuda:", "cuda:x", "gpu", "cpu:0", ""] {
            let error = Wanted::parse(name).expect_err("no name");
            assert!(error.to_string().contains(&format!("`{name}`")) && error.hint().is_some());
        }
    }

    #[test]
    fn a_gpu_that_is_not_there_is_refused_with_what_was_tried() {
        // No machine has so many.
        let error = Wanted::Cuda(4096).find().expect_err("there is no such device");
        assert!(error.to_string().starts_with("there is no cuda:4096: "), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("--device") || hint.contains("CUDA=1")));
        assert_eq!(Wanted::Cpu.find().expect("it is there"), Device::Cpu);
    }
}
