//! Arithmetic of the training step over slices: rows of a batch that are read once where libtorch's operations would read
//! them many times.
//!
//! Each kernel is plain code over numbers of one kind ([`real`]), compiled for AVX-512, AVX2 and any processor
//! ([`crate::simd::Kernel`]). In float32 functions are polynomials that stay in the registers; in float64, which tests alone
//! compute in, they are the standard library's. Sums over many numbers run in lanes over short blocks, and over blocks in
//! float64, so that their error does not grow with their length. A kernel runs on the thread that calls it.

pub(crate) mod adam;
pub(crate) mod expected;
pub(crate) mod layer;
pub(crate) mod log1p;
pub(crate) mod negative_binomial;
pub(crate) mod penalty;
pub(crate) mod real;
pub(crate) mod sparse;
pub(crate) mod sums;
