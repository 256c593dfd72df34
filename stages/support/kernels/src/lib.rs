//! Arithmetic of the training step over slices: it reads the rows of a batch once where libtorch's operations
//! would read them many times.
//!
//! Each kernel is plain code, generic over the number type ([`real`]), and compiled for AVX-512, AVX2 and any
//! processor ([`simd::Kernel`]). In float32, functions are polynomials that stay in registers; in float64, only
//! the exponential function is, and the others, which only tests use, are those of the standard library. Long sums run in lanes over short blocks,
//! and in float64 over blocks, so that their error does not grow with their length. A kernel runs on the
//! calling thread.
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
pub mod dispersion;
pub mod expected;
pub mod layer;
pub mod log1p;
pub mod negative_binomial;
pub mod penalty;
pub mod real;
pub mod sparse;
pub mod sums;
