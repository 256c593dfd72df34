//! Arithmetic of the training step over slices: rows of a batch that are read once where libtorch's operations would read
//! them many times.
//!
//! Each kernel is plain code over numbers of one kind ([`real`]), compiled for AVX-512, AVX2 and any processor
//! ([`simd::Kernel`]). In float32 functions are polynomials that stay in the registers; in float64, which tests alone
//! compute in, they are the standard library's. Sums over many numbers run in lanes over short blocks, and over blocks in
//! float64, so that their error does not grow with their length. A kernel runs on the thread that calls it.
//!
//! ```
//! use kernels::log1p::Log1p;
//! use simd::widest;
//!
//! let mut logs = [0.0; 2];
//! widest(Log1p { numbers: &[0.0_f64, 1.0], out: &mut logs });
//! assert_eq!(logs, [0.0, 2.0_f64.ln()]);
//! ```
#![forbid(unsafe_code)]

pub mod adam;
pub mod expected;
pub mod layer;
pub mod log1p;
pub mod negative_binomial;
pub mod penalty;
pub mod real;
pub mod sparse;
pub mod sums;
