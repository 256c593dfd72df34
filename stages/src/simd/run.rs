//! Plain code that is compiled for several sets of instructions, and run by the widest that the processor has.

/// Arithmetic over slices that is compiled once for each set of instructions.
///
/// `run` must be `#[inline(always)]`, and so must what it calls on the way to its loops: only what is inlined into the function
/// that has the instructions is compiled with them.
pub(crate) trait Kernel {
    /// What comes of it.
    type Out;

    /// Computes.
    fn run<W: Way>(self) -> Self::Out;
}

/// A set of instructions.
pub(crate) trait Way {
    /// Whether it multiplies and adds at once; without, doing so is a call of a function for each number.
    const FUSED: bool;
}

/// AVX-512, or AVX2 with FMA.
pub(crate) struct Wide;

/// What every processor has.
pub(crate) struct Portable;

impl Way for Wide {
    const FUSED: bool = true;
}

impl Way for Portable {
    const FUSED: bool = false;
}

/// Computes with the widest instructions there are.
pub(crate) fn widest<K: Kernel>(kernel: K) -> K::Out {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            // SAFETY: the processor was just asked whether it has these instructions.
            return unsafe { x86::run_avx512(kernel) };
        }
        if has_avx2() {
            // SAFETY: the processor was just asked whether it has these instructions.
            return unsafe { x86::run_avx2(kernel) };
        }
    }
    kernel.run::<Portable>()
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// The same by every set of instructions that this processor has, for tests: what each gives must be close to the others.
#[cfg(test)]
pub(crate) fn every_way<K: Kernel>(mut kernel: impl FnMut() -> K) -> Vec<K::Out> {
    let mut all = vec![kernel().run::<Portable>()];
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            // SAFETY: the processor has these instructions.
            all.push(unsafe { x86::run_avx512(kernel()) });
        }
        if has_avx2() {
            // SAFETY: the processor has these instructions.
            all.push(unsafe { x86::run_avx2(kernel()) });
        }
    }
    all
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernel, Wide};

    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
    pub(super) fn run_avx512<K: Kernel>(kernel: K) -> K::Out {
        kernel.run::<Wide>()
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn run_avx2<K: Kernel>(kernel: K) -> K::Out {
        kernel.run::<Wide>()
    }
}
