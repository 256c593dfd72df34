// The platform (platform.h) on the host, and the list of kernels that Rust calls there.

#pragma once

#include <math.h> // not <cmath>: `exp` and the others are needed for float, outside of std

#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#define DEVICE inline

namespace host {

// A barrier for the threads of a block.
class Barrier {
public:
  explicit Barrier(unsigned threads) : threads(threads) {}

  void wait() {
    if (threads == 1)
      return;
    std::unique_lock<std::mutex> lock(mutex);
    auto mine = round;
    if (++waiting < threads) {
      all_came.wait(lock, [&] { return round != mine; });
    } else {
      waiting = 0;
      round++;
      all_came.notify_all();
    }
  }

private:
  std::mutex mutex;
  std::condition_variable all_came;
  unsigned threads, waiting = 0;
  uint64_t round = 0;
};

// State shared by the threads of a block.
struct Block {
  Block(unsigned threads, unsigned shared_bytes)
      : barrier(threads), exchanged(threads), shared(shared_bytes / sizeof(Aligned) + 1) {}

  struct alignas(16) Aligned {
    unsigned char bytes[16];
  };
  Barrier barrier;
  // One value of each thread, for exchange.
  std::vector<Aligned> exchanged;
  std::vector<Aligned> shared;
};

// The current thread and block.
struct Place {
  Block *block;
  unsigned thread, threads, block_x, block_y, blocks_x, blocks_y;
};

inline thread_local Place place;

// A kernel as exposed to Rust.
struct Kernel {
  const char *name;
  // The argument is the kernel's struct.
  void (*run)(unsigned grid_x, unsigned grid_y, unsigned threads, unsigned shared_bytes, const void *argument);
  size_t argument_bytes;
};

inline std::vector<Kernel> &kernels() {
  static std::vector<Kernel> all;
  return all;
}

// Runs one block after another, each with `threads` threads. Shared memory initially holds NaNs.
template <typename Struct>
void run(unsigned grid_x, unsigned grid_y, unsigned threads, unsigned shared_bytes, const void *argument) {
  Block block(threads, shared_bytes);
  auto run_thread = [&](unsigned thread) {
    for (unsigned y = 0; y < grid_y; y++) {
      for (unsigned x = 0; x < grid_x; x++) {
        place = Place{&block, thread, threads, x, y, grid_x, grid_y};
        if (thread == 0)
          memset(static_cast<void *>(block.shared.data()), 0xff, block.shared.size() * sizeof(Block::Aligned));
        block.barrier.wait();
        static_cast<const Struct *>(argument)->run();
        block.barrier.wait();
      }
    }
  };
  std::vector<std::thread> others;
  for (unsigned thread = 1; thread < threads; thread++)
    others.emplace_back(run_thread, thread);
  run_thread(0);
  for (auto &other : others)
    other.join();
}

template <typename Struct> bool add_kernel(const char *name) {
  kernels().push_back(Kernel{name, run<Struct>, sizeof(Struct)});
  return true;
}

} // namespace host

#define KERNEL_OF(symbol, ...) static const bool has_##symbol = host::add_kernel<__VA_ARGS__>(#symbol);
#define KERNEL(name, Struct) KERNEL_OF(name##_f32, Struct<float>) KERNEL_OF(name##_f64, Struct<double>)
#define KERNEL_UNTYPED(name, Struct) KERNEL_OF(name, Struct)

// The kernels of this library; `count` receives their number.
extern "C" const host::Kernel *perturbine_host_kernels(size_t *count) {
  *count = host::kernels().size();
  return host::kernels().data();
}

DEVICE unsigned thread_index() { return host::place.thread; }
DEVICE unsigned thread_count() { return host::place.threads; }
DEVICE unsigned block_x() { return host::place.block_x; }
DEVICE unsigned block_y() { return host::place.block_y; }
DEVICE unsigned blocks_x() { return host::place.blocks_x; }
DEVICE unsigned blocks_y() { return host::place.blocks_y; }
DEVICE void sync_threads() { host::place.block->barrier.wait(); }
DEVICE void memory_fence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

template <typename T> DEVICE T atomic_add(T *to, T value) {
  T before, after;
  __atomic_load(to, &before, __ATOMIC_SEQ_CST);
  do
    after = before + value;
  while (!__atomic_compare_exchange(to, &before, &after, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
  return before;
}

template <typename T> DEVICE T *shared_memory() { return reinterpret_cast<T *>(host::place.block->shared.data()); }

template <typename T, typename F> DEVICE T block_reduce(T value, F f) {
  static_assert(sizeof(T) <= sizeof(host::Block::Aligned), "values of 16 bytes at most are exchanged");
  auto &all = host::place.block->exchanged;
  auto of = [&](unsigned thread) { return *reinterpret_cast<T *>(all[thread].bytes); };
  memcpy(all[thread_index()].bytes, &value, sizeof(T));
  sync_threads();
  value = of(0);
  for (unsigned thread = 1; thread < thread_count(); thread++)
    value = f(value, of(thread));
  // The next call writes only after all have read.
  sync_threads();
  return value;
}
