// Moves a batch from the slot where the host's copy put it to the place where the kernels of a step read it (src/model/transfer.rs).

#pragma once

#include "platform.h"

// Copied with one load and one store.
struct alignas(16) Sixteen {
  uint64_t low, high;
};

// The first kernel of a step. Blocks stride over the bytes.
struct TakeBatch {
  // `[2, count]`: the slots, which the host fills in turn.
  const Sixteen *slots;
  // `[count]`.
  Sixteen *place;
  // The number of batches taken so far, whose lowest bit is the slot; and the number of blocks that are done, zero between launches.
  unsigned *taken;
  int64_t count;

  DEVICE void run() const {
    const Sixteen *slot = slots + (taken[0] & 1) * count;
    int64_t step = (int64_t)blocks_x() * thread_count();
    for (int64_t at = (int64_t)block_x() * thread_count() + thread_index(); at < count; at += step)
      place[at] = slot[at];
    // The last block goes on to the next slot: by then, every thread has read which slot it is.
    sync_threads();
    if (thread_index() != 0)
      return;
    memory_fence();
    if (atomic_add(taken + 1, 1u) == blocks_x() - 1) {
      taken[0]++;
      taken[1] = 0;
    }
  }
};
