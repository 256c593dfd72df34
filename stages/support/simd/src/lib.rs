//! Processor features beyond plain code: wide arithmetic, non-temporal writes, and prefetching.
//!
//! A dense batch is many times larger than a cache, and nobody reads it before it is complete: ordinary
//! writes would first read each line from memory, and evict useful data from the caches. The instructions are
//! detected at run time; without them, plain code does the same.
//!
//! ```
//! use simd::{InstructionSet, Kernel, widest};
//!
//! /// The sum of numbers.
//! struct Sum<'a>(&'a [f32]);
//!
//! impl Kernel for Sum<'_> {
//!     type Out = f32;
//!
//!     #[inline(always)]
//!     fn run<W: InstructionSet>(self) -> f32 {
//!         self.0.iter().sum()
//!     }
//! }
//!
//! assert_eq!(widest(Sum(&[1.0, 2.0, 3.0])), 6.0);
//! ```
#![expect(unsafe_code, reason = "the processor's own instructions are unsafe by nature; slices bound what they touch")]

use schemas::batch::CacheLine;

pub use self::run::{InstructionSet, Kernel, Portable, every_instruction_set, widest};

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// Moves lines past the caches, and leaves zeros behind. Other threads see them once [`fence`] was called.
///
/// # Panics
/// If the two have different lengths.
pub fn stream(from: &mut [CacheLine], to: &mut [CacheLine]) {
    assert_eq!(from.len(), to.len(), "lines are moved one for one");
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor was just checked for these instructions.
            return unsafe { x86::stream_avx512(from, to) };
        }
        if is_x86_feature_detected!("avx") {
            // SAFETY: the processor was just checked for these instructions.
            return unsafe { x86::stream_avx(from, to) };
        }
    }
    to.copy_from_slice(from);
    from.fill(CacheLine::default());
}

/// Makes what was streamed visible before anything that is written later.
pub fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a fence reads and writes nothing, and every x86-64 processor has it.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Number of consecutive cache lines to prefetch; after these, the hardware prefetcher takes over.
const LINES_ASKED_FOR: usize = 8;

/// Prefetches bytes that will soon be read, or the first of many.
pub fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(LINE_BYTES).take(LINES_ASKED_FOR) {
        // SAFETY: this is a hint to the processor: no address, not even an invalid one, makes it fail, and this one
        // is in a slice.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm256_load_ps, _mm256_setzero_ps, _mm256_store_ps, _mm256_stream_ps, _mm512_load_ps, _mm512_setzero_ps,
        _mm512_store_ps, _mm512_stream_ps,
    };

    use super::CacheLine;

    #[target_feature(enable = "avx512f")]
    pub(super) fn stream_avx512(from: &mut [CacheLine], to: &mut [CacheLine]) {
        for (from, to) in from.iter_mut().zip(to) {
            // SAFETY: a line is 16 floats that start at a multiple of 64 bytes, which is what the instructions access
            // and require.
            unsafe {
                _mm512_stream_ps(to.0.as_mut_ptr(), _mm512_load_ps(from.0.as_ptr()));
                _mm512_store_ps(from.0.as_mut_ptr(), _mm512_setzero_ps());
            }
        }
    }

    #[target_feature(enable = "avx")]
    pub(super) fn stream_avx(from: &mut [CacheLine], to: &mut [CacheLine]) {
        for (from, to) in from.iter_mut().zip(to) {
            for half in [0, 8] {
                // SAFETY: either half of a line is 8 floats that start at a multiple of 32 bytes, as the instructions
                // require.
                unsafe {
                    _mm256_stream_ps(to.0[half..].as_mut_ptr(), _mm256_load_ps(from.0[half..].as_ptr()));
                    _mm256_store_ps(from.0[half..].as_mut_ptr(), _mm256_setzero_ps());
                }
            }
        }
    }
}

mod run {
    //! Plain code that is compiled for several instruction sets and runs with the widest one that the processor
    //! has.

    /// Arithmetic over slices that is compiled once for each instruction set.
    ///
    /// `run` must be `#[inline(always)]`, and so must everything that it calls on the way to its loops: only code
    /// that is inlined into the function with the instructions is compiled with them.
    pub trait Kernel {
        /// The result.
        type Out;

        /// Computes.
        fn run<W: InstructionSet>(self) -> Self::Out;
    }

    /// An instruction set.
    pub trait InstructionSet {
        /// Whether it has fused multiply-add; without, each one would be a function call.
        const FUSED: bool;
    }

    /// AVX-512, or AVX2 with FMA.
    pub(crate) struct Wide;

    /// The instructions of every processor.
    pub struct Portable;

    impl InstructionSet for Wide {
        const FUSED: bool = true;
    }

    impl InstructionSet for Portable {
        const FUSED: bool = false;
    }

    /// Runs a kernel with the widest instruction set that the processor has.
    pub fn widest<K: Kernel>(kernel: K) -> K::Out {
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                // SAFETY: the processor was just checked for these instructions.
                return unsafe { x86::run_avx512(kernel) };
            }
            if has_avx2() {
                // SAFETY: the processor was just checked for these instructions.
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

    /// Runs a kernel with every instruction set that this processor has, for tests: the results must be close to
    /// each other.
    pub fn every_instruction_set<K: Kernel>(mut kernel: impl FnMut() -> K) -> Vec<K::Out> {
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Move = fn(&mut [CacheLine], &mut [CacheLine]);

    fn ways() -> Vec<Move> {
        let mut ways: Vec<Move> = vec![stream];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has these instructions.
                ways.push(|from, to| unsafe { x86::stream_avx512(from, to) });
            }
            if is_x86_feature_detected!("avx") {
                // SAFETY: the processor has these instructions.
                ways.push(|from, to| unsafe { x86::stream_avx(from, to) });
            }
        }
        ways
    }

    proptest! {
        #[test]
        fn streaming_is_moving(
            values in prop::collection::vec(prop::array::uniform16(-1e6_f32..1e6), 0..40),
            before in 0_usize..3,
        ) {
            let from: Vec<CacheLine> = values.into_iter().map(CacheLine).collect();
            for way in ways() {
                let mut to = vec![CacheLine([7.0; 16]); from.len() + 2 * before];
                let mut moved = from.clone();
                way(&mut moved, &mut to[before..before + from.len()]);
                prop_assert!(moved.iter().all(|line| *line == CacheLine::default()));
                fence();
                prop_assert_eq!(&to[before..before + from.len()], &from[..]);
                prop_assert!(to[..before].iter().chain(&to[before + from.len()..]).all(|line| *line == CacheLine([7.0; 16])));
            }
        }
    }

    #[test]
    fn to_ask_for_memory_changes_nothing() {
        let bytes = [1_u8, 2, 3];
        prefetch(&bytes);
        prefetch(&bytes[..0]);
        assert_eq!(bytes, [1, 2, 3]);
    }
}
