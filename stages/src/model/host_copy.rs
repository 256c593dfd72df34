//! Tensors of a device are copied to the host as one run of bytes, for which the host waits once.

use schemas::{Result, numbers::to_i64};
use tch::{Device, Tensor};

use super::gradients::lying;
use crate::libtorch::{self, Stream};

/// Copies begin at multiples of this, as any number may.
const ALIGNMENT: usize = 64;

/// Copies of tensors in memory of the host, each in one piece, in the order of its dimensions.
///
/// # Errors
/// No pinned memory is left, or a device that is gone.
pub(crate) fn to_host(tensors: &[&Tensor]) -> Result<Vec<Tensor>> {
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
    let (memory, mut from, mut copies) = (libtorch::pinned(bytes)?, 0, Vec::with_capacity(tensors.len()));
    for tensor in tensors {
        // Weights that lie by input are one piece when turned: so no piece is made on the device first.
        let is_turned = !tensor.is_contiguous() && tensor.dim() == 2;
        let source = lying(tensor, is_turned);
        let place = memory.narrow(0, to_i64(from), to_i64(bytes_of(tensor)));
        let mut copy = place.view_dtype(tensor.kind()).view(source.size().as_slice());
        libtorch::copy(&mut copy, &source)?;
        copies.push((copy, is_turned));
        from += bytes_of(tensor).next_multiple_of(ALIGNMENT);
    }
    Stream::current(device)?.event()?.wait()?;
    // Pinned memory is scarce, and goes back at once.
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
