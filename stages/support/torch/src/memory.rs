//! Access to the memory of tensors, for kernels.
#![expect(
    unsafe_code,
    reason = "libtorch hands out its memory as an address; what it holds is asked before it is used"
)]

use bytemuck::NoUninit;
use kernels::real::Real;
use schemas::numbers::to_i64;
use tch::{Device, Tensor, kind::Element};

/// Number types that both kernels and libtorch have.
pub trait TensorNumber: Real + Element + Send + Sync + 'static {}

impl TensorNumber for f32 {}
impl TensorNumber for f64 {}

/// The numbers of a tensor on the CPU, in the order of its dimensions.
///
/// # Panics
/// If it has another type, is on another device, or is not contiguous.
pub fn numbers<T: Element>(tensor: &Tensor) -> &[T] {
    let count = checked::<T>(tensor);
    if count == 0 {
        return &[];
    }
    // SAFETY: a contiguous tensor on the CPU has this many initialised numbers of its type from its address on, and keeps them alive
    // while it is borrowed. Nobody writes to them meanwhile: a step runs on one thread, and borrows for writing
    // (below) only what it created or exclusively trains.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast_const().cast(), count) }
}

/// The same numbers, mutable.
///
/// Tensors can share their memory without showing it in their types: callers pass a tensor that they created,
/// or that nothing else borrows from.
///
/// # Panics
/// Like [`numbers`].
pub fn numbers_mut<T: Element>(tensor: &mut Tensor) -> &mut [T] {
    let count = checked::<T>(tensor);
    if count == 0 {
        return &mut [];
    }
    // SAFETY: as above; callers ensure that no other slice of this memory is in use.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), count) }
}

/// Copies numbers to a device, as `[numbers]`; to a GPU through pinned memory, so that the host does not
/// wait.
///
/// # Panics
/// If no memory is left, like libtorch's operations.
pub fn on_device<T: Element + NoUninit>(numbers: &[T], device: Device) -> Tensor {
    if device == Device::Cpu || numbers.is_empty() {
        return Tensor::from_slice(numbers).to_device(device);
    }
    let mut bytes = crate::pinned(size_of_val(numbers)).unwrap_or_else(|error| panic!("{error}"));
    numbers_mut::<u8>(&mut bytes).copy_from_slice(bytemuck::cast_slice(numbers));
    let mut place = Tensor::empty([to_i64(numbers.len())], (T::KIND, device));
    crate::copy(&mut place, &bytes.view_dtype(T::KIND)).unwrap_or_else(|error| panic!("{error}"));
    place
}

fn checked<T: Element>(tensor: &Tensor) -> usize {
    assert!(
        tensor.kind() == T::KIND && tensor.device() == Device::Cpu && tensor.is_contiguous(),
        "a kernel got a tensor of {:?} on {:?}, with strides {:?}",
        tensor.kind(),
        tensor.device(),
        tensor.stride()
    );
    tensor.numel()
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn a_tensors_numbers_are_read_and_written_in_place() {
        let mut tensor = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0]).view([2, 2]);
        numbers_mut::<f32>(&mut tensor)[2] = 7.0;
        assert_eq!(numbers::<f32>(&tensor), [1.0, 2.0, 7.0, 4.0]);
        assert_eq!(tensor.double_value(&[1, 0]), 7.0);
        assert!(numbers::<f64>(&Tensor::zeros([0, 3], (Kind::Double, Device::Cpu))).is_empty());
    }

    #[test]
    #[should_panic(expected = "strides [1, 2]")]
    fn a_tensor_that_lies_otherwise_is_refused() {
        numbers::<f32>(&Tensor::zeros([2, 2], (Kind::Float, Device::Cpu)).tr());
    }
}
