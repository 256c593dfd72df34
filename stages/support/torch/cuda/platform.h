// The platform layer of kernels, so that one source compiles with NVRTC for a device and as C++17 for the host.
//
// A kernel is a struct of its arguments with a function `run`, which every thread of every block calls:
//
//     template <typename T> struct Scale {
//       T *numbers;
//       int64_t count;
//       double factor;
//       DEVICE void run() const;
//     };
//     KERNEL(scale, Scale)
//
// makes the kernels `scale_f32` and `scale_f64`; for a struct that is not a template, KERNEL_UNTYPED(scale, Scale) makes one kernel.
// The struct comes from Rust (stages/support/torch/src/launch.rs), byte for byte. It holds only pointers, 64-bit integers and doubles,
// so that its layout is the same for both types and on both sides.
//
// Blocks have one dimension, of 32, 64, .. 1024 threads on a device. On the host a block is one thread, so that loops over
// `thread_index()` in steps of `thread_count()` cover every element; tests also run a block on the host as several real threads.
// A kernel has to be correct for all of these. As on a device, blocks can't wait for each other.
//
// Both platforms define, next to DEVICE, KERNEL and KERNEL_UNTYPED:
//
//     unsigned thread_index(), thread_count();        // within the block
//     unsigned block_x(), block_y(), blocks_x(), blocks_y();
//     void sync_threads();                            // every thread of the block waits for all others
//     T *shared_memory<T>();                          // the block's dynamic shared memory, 16-byte aligned, uninitialised
//     T atomic_add(T *to, T value);                   // returns the old value; T: float, double or unsigned
//     void memory_fence();                            // orders writes before it ahead of writes after it, for other blocks
//     T block_reduce(T value, F f);                   // below, block_sum and block_max
//
// and exp, log, log1p, sqrt, fma, fabs, floor, isnan and the like for float and double, with float results for floats; and INFINITY, a float.

#pragma once

#ifdef __CUDACC_RTC__
#include "platform_device.h"
#else
#include "platform_host.h"
#endif

// The larger of two numbers; the second if one of them is NaN, which CUDA's `max` and the host's treat differently.
template <typename T> DEVICE T larger(T a, T b) { return b < a ? a : b; }
template <typename T> DEVICE T smaller(T a, T b) { return a < b ? a : b; }

struct Sum {
  template <typename T> DEVICE T operator()(T a, T b) const { return a + b; }
};

struct Largest {
  template <typename T> DEVICE T operator()(T a, T b) const { return larger(a, b); }
};

// Reductions over the block; every thread gets the result. All threads of the block have to call these; no
// sync_threads() is needed between calls. The order of summation is always the same.
template <typename T> DEVICE T block_sum(T value) { return block_reduce(value, Sum()); }
template <typename T> DEVICE T block_max(T value) { return block_reduce(value, Largest()); }
