//! Copies tensors from a device to the host in one transfer, with a single wait.

use schemas::{Result, numbers::to_i64};
use tch::{Device, Tensor};

use crate::CudaStream;

/// Alignment of the copies, enough for any number type.
const ALIGNMENT: usize = 64;

/// A matrix, or its transpose.
pub fn transposed_if(matrix: &Tensor, is_turned: bool) -> Tensor {
    if is_turned { matrix.tr() } else { matrix.shallow_clone() }
}

/// Contiguous copies of tensors in host memory, in the order of their dimensions.
///
/// # Errors
/// Out of pinned memory, or a lost device.
pub fn to_host(tensors: &[&Tensor]) -> Result<Vec<Tensor>> {
    let _no_grad = tch::no_grad_guard();
    let bytes_of = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
    let device = tensors.iter().find_map(|tensor| match tensor.device() {
        Device::Cuda(device) => Some(device),
        _ => None,
    });
    let Some(device) = device else {
        return Ok(tensors.iter().map(|tensor| tensor.contiguous().copy()).collect());
    };
    let bytes = tensors.iter().map(|tensor| bytes_of(tensor).next_multiple_of(ALIGNMENT)).sum();
    let (memory, mut from, mut copies) = (crate::pinned(bytes)?, 0, Vec::with_capacity(tensors.len()));
    for tensor in tensors {
        // Weights stored by input are contiguous when transposed, so they need no copy on the device first.
        let is_turned = !tensor.is_contiguous() && tensor.dim() == 2;
        let source = transposed_if(tensor, is_turned);
        let place = memory.narrow(0, to_i64(from), to_i64(bytes_of(tensor)));
        let mut copy = place.view_dtype(tensor.kind()).view(source.size().as_slice());
        crate::copy(&mut copy, &source)?;
        copies.push((copy, is_turned));
        from += bytes_of(tensor).next_multiple_of(ALIGNMENT);
    }
    CudaStream::current(device)?.event()?.wait()?;
    // Pinned memory is scarce, so it is returned at once.
    let kept = |(copy, is_turned): (Tensor, bool)| if is_turned { copy.tr().contiguous() } else { copy.copy() };
    Ok(copies.into_iter().map(kept).collect())
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn copies_are_detached_and_in_one_piece() {
        let learned = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]).tr().set_requires_grad(true);
        let copies = to_host(&[&learned]).expect("memory");
        let _ = tch::no_grad(|| learned.shallow_clone().zero_());
        assert!(copies[0].is_contiguous() && !copies[0].requires_grad());
        assert_eq!(Vec::<f32>::try_from(copies[0].view([-1])).expect("numbers"), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    }
}
