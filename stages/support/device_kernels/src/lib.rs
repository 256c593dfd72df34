//! The training step's arithmetic as custom kernels, on a GPU or, compiled from the same source, on the host.
//!
//! Each function checks the shapes of its tensors, allocates its results, and launches a kernel of `stages/support/torch/cuda`. All numbers
//! of a call have one type, float32 or float64, and are contiguous on one device; shapes are documented for each tensor. The kernels run
//! on the host only so that tests can compare them with libtorch's operations; work on a CPU uses [`kernels`].
//!
//! Like libtorch's operations, a function panics if a kernel can't be launched: wrong shapes are the caller's mistake,
//! and a lost device ends the run.
//!
//! ```no_run
//! use device_kernels::unpack::Narrow;
//!
//! assert_eq!(Narrow::U16.bytes(), 2);
//! ```
#![forbid(unsafe_code)]

pub mod adam;
pub mod expected;
pub mod guess;
pub mod latent;
pub mod layer;
pub mod losses;
pub mod mixing;
pub mod negative_binomial;
pub mod penalty;
pub mod slots;
pub mod unpack;

#[cfg(test)]
mod tests;

use tch::Tensor;
use torch::launch::{Arguments, launch, multiprocessors};

/// Columns per block of a kernel that sums over rows: `STRIP` in `cuda/strip.cuh`.
const STRIP: i64 = 8;
/// Maximum number of sums that such a kernel computes in one pass: `MOST_SUMS` in `cuda/strip.cuh`.
const MOST_SUMS: u32 = 5;
/// Threads of a block that sums over many rows.
const STRIP_THREADS: u32 = 512;
const MOST_STRIP_THREADS: u32 = 1024;
const MANY_ROWS: i64 = 2048;
/// Threads of a block that processes one row, or one element per thread.
const ROW_THREADS: u32 = 256;
/// Blocks per multiprocessor if blocks stride over rows or elements.
const BLOCKS_EACH: u32 = 8;

/// Launches a kernel with the type and on the device of a tensor.
fn run(arguments: &impl Arguments, like: &Tensor, blocks: u32, threads: u32, shared_bytes: u32) {
    launch(arguments, like.kind(), like.device(), [blocks, 1], threads, shared_bytes)
        .unwrap_or_else(|error| panic!("{error}"));
}

/// Launches a kernel whose blocks each sum over the rows of a matrix for a few of its columns.
fn run_strips(arguments: &impl Arguments, like: &Tensor, columns: i64) {
    let blocks = (columns + STRIP - 1) / STRIP;
    let threads = if like.size()[0] < MANY_ROWS { STRIP_THREADS } else { MOST_STRIP_THREADS };
    run(arguments, like, count(blocks), threads, MOST_SUMS * threads * 8);
}

/// Launches a kernel whose blocks stride over this many rows.
fn run_rows(arguments: &impl Arguments, like: &Tensor, rows: i64) {
    run(arguments, like, count(rows).min(BLOCKS_EACH * multiprocessors(like.device())), ROW_THREADS, 0);
}

/// Launches a kernel whose threads stride over this many elements.
fn run_numbers(arguments: &impl Arguments, like: &Tensor, numbers: i64) {
    let threads = i64::from(ROW_THREADS);
    run_rows(arguments, like, (numbers + threads - 1) / threads);
}

/// The number of blocks, at least one.
fn count(blocks: i64) -> u32 {
    u32::try_from(blocks.max(1)).expect("a grid has fewer than 2^32 blocks")
}

/// An uninitialised tensor of this shape, with the type and device of another one.
fn empty(like: &Tensor, shape: &[i64]) -> Tensor {
    Tensor::empty(shape, (like.kind(), like.device()))
}

/// The number of rows and columns of a matrix.
fn shape(matrix: &Tensor) -> [i64; 2] {
    match matrix.size()[..] {
        [rows, columns] => [rows, columns],
        ref other => panic!("a kernel was given a tensor of shape {other:?} for a matrix"),
    }
}
