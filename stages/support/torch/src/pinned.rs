//! Pinned memory, and copies from it that do not wait.
#![expect(unsafe_code, reason = "functions of C are called; each call says why it is sound")]

use schemas::Result;
use tch::Tensor;

use crate::shim::{done, out_pointer, perturbine_copy, perturbine_pinned};

/// Writable pinned memory, which devices read directly; ordinary memory without CUDA. One byte per element.
///
/// # Errors
/// Out of memory.
pub fn pinned(bytes: usize) -> Result<Tensor> {
    // SAFETY: a fresh tensor is returned, which the wrapper frees.
    unsafe { out_pointer(|out| perturbine_pinned(bytes, out)).map(|tensor| Tensor::from_ptr(tensor)) }
}

/// Copies on this thread's stream, asynchronously if the source is [`pinned`].
///
/// # Errors
/// Tensors of different sizes.
pub fn copy(to: &mut Tensor, from: &Tensor) -> Result<()> {
    // SAFETY: both tensors are valid for the call; the allocator records that the device reads pinned memory.
    done(unsafe { perturbine_copy(to.as_mut_ptr(), from.as_ptr()) })
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn pinned_memory_is_copied_from() {
        let from = pinned(3).expect("memory");
        from.shallow_clone().copy_(&Tensor::from_slice(&[1_u8, 2, 3]));
        let mut to = Tensor::zeros([3], (Kind::Uint8, Device::Cpu));
        copy(&mut to, &from).expect("of one size");
        assert_eq!(Vec::<u8>::try_from(&to).expect("numbers"), [1, 2, 3]);
    }
}
