//! A device's name, the memory that it uses, and settings of its work.
#![expect(unsafe_code, reason = "functions of C are called; each call says why it is sound")]

use std::ffi::{CStr, c_char};

use schemas::Result;
use tch::{Device, Kind, Tensor};

use crate::{
    cuda_library::CudaFunctions,
    shim::{
        done, error_of, int, perturbine_allow_tf32, perturbine_empty_cache, perturbine_memory, perturbine_reset_peak,
        perturbine_synchronise,
    },
};

/// A device's name, if it is known.
#[must_use]
pub fn device_name(device: usize) -> Option<String> {
    let graphs = CudaFunctions::get().ok()?;
    let mut name = [0 as c_char; 256];
    // SAFETY: at most as many characters are written as there is room for, and the last one is a zero.
    graphs.done(unsafe { (graphs.device_name)(int(device), name.as_mut_ptr(), name.len()) }).ok()?;
    // SAFETY: as above.
    Some(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}

/// Initialises a device: before its first use, libtorch does not know its memory, and can't report that it is
/// exhausted.
///
/// # Errors
/// A device that can't be used.
pub fn initialise(device: usize) -> Result<()> {
    let tensor = Tensor::f_empty([1], (Kind::Uint8, Device::Cuda(device)));
    tensor.map(drop).map_err(|error| error_of(&error.to_string()))
}

/// Memory of a device, as reported by libtorch's allocator, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Used by tensors now.
    pub tensors: u64,
    /// Used by tensors at most since the last reset.
    pub tensors_peak: u64,
    /// Reserved on the device now: used by tensors, or cached for later ones.
    pub kept: u64,
    /// Reserved on the device at most since the last reset.
    pub kept_peak: u64,
    /// Free memory of the device.
    pub free: u64,
    /// Total memory of the device.
    pub total: u64,
}

/// The memory use of a device that was [initialised](initialise).
///
/// # Errors
/// No such device.
pub fn device_memory(device: usize) -> Result<DeviceMemory> {
    let mut counts = [0_u64; 6];
    // SAFETY: six numbers are written, and there is room for six.
    done(unsafe { perturbine_memory(int(device), counts.as_mut_ptr()) })?;
    let [tensors, tensors_peak, kept, kept_peak, free, total] = counts;
    Ok(DeviceMemory { tensors, tensors_peak, kept, kept_peak, free, total })
}

/// Resets a device's peaks.
///
/// # Errors
/// No such device.
pub fn reset_peak(device: usize) -> Result<()> {
    // SAFETY: only a number is passed; likewise in the next two.
    done(unsafe { perturbine_reset_peak(int(device)) })
}

/// Frees memory cached for later tensors.
///
/// # Errors
/// There is no device.
pub fn empty_cache() -> Result<()> {
    // SAFETY: as above.
    done(unsafe { perturbine_empty_cache() })
}

/// Whether float32 matrix products on a GPU may round their operands to 10 bits of mantissa (TensorFloat-32), process-wide.
pub fn allow_tf32(allowed: bool) {
    // SAFETY: only a boolean is passed.
    unsafe { perturbine_allow_tf32(allowed) }
}

/// Waits until a device has finished all its work.
///
/// # Errors
/// A failure of the device's work.
pub fn synchronise(device: usize) -> Result<()> {
    // SAFETY: as above.
    done(unsafe { perturbine_synchronise(int(device)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CudaStream, lacks_graphs};

    #[test]
    fn without_a_device_its_functions_say_so() {
        if tch::Cuda::is_available() {
            return;
        }
        assert!(initialise(0).is_err() && CudaStream::of_pool(0).is_err() && device_memory(0).is_err());
        assert!(lacks_graphs().is_some());
    }
}
