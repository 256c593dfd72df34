// The platform (platform.h) for NVRTC, which has no standard headers.

#pragma once

using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned;
using int64_t = long long;
using uint64_t = unsigned long long;

#define INFINITY __int_as_float(0x7f800000)

#define DEVICE __device__ inline

// `__grid_constant__`: threads read the arguments in place, without a copy.
#define KERNEL_OF(symbol, ...)                                                                                              \
  extern "C" __global__ void __launch_bounds__(1024) symbol(const __grid_constant__ __VA_ARGS__ arguments) {               \
    arguments.run();                                                                                                         \
  }
#define KERNEL(name, Struct) KERNEL_OF(name##_f32, Struct<float>) KERNEL_OF(name##_f64, Struct<double>)
#define KERNEL_UNTYPED(name, Struct) KERNEL_OF(name, Struct)

DEVICE unsigned thread_index() { return threadIdx.x; }
DEVICE unsigned thread_count() { return blockDim.x; }
DEVICE unsigned block_x() { return blockIdx.x; }
DEVICE unsigned block_y() { return blockIdx.y; }
DEVICE unsigned blocks_x() { return gridDim.x; }
DEVICE unsigned blocks_y() { return gridDim.y; }
DEVICE void sync_threads() { __syncthreads(); }
DEVICE void memory_fence() { __threadfence(); }

template <typename T> DEVICE T atomic_add(T *to, T value) { return atomicAdd(to, value); }

template <typename T> DEVICE T *shared_memory() {
  extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];
  return reinterpret_cast<T *>(dynamic_shared_memory);
}

// Within warps through registers, then across warps through shared memory: every warp reads the results of all warps.
template <typename T, typename F> DEVICE T block_reduce(T value, F f) {
  __shared__ T of_warps[32];
  for (unsigned lanes = 16; lanes != 0; lanes /= 2)
    value = f(value, __shfl_xor_sync(0xffffffffu, value, lanes));
  unsigned warps = thread_count() / 32;
  if (thread_index() % 32 == 0)
    of_warps[thread_index() / 32] = value;
  __syncthreads();
  value = of_warps[0];
  for (unsigned warp = 1; warp < warps; warp++)
    value = f(value, of_warps[warp]);
  // The next call writes only after all have read.
  __syncthreads();
  return value;
}
