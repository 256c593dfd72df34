// Adam over all parameters of an optimiser: one kernel for the norm of the gradients, one for the step. The formulas are those of
// src/kernels/adam.rs and of AdamW (Loshchilov and Hutter 2019).

#pragma once

#include "platform.h"

// Maximum number of tensors per kernel launch.
constexpr int MOST_TENSORS = 48;
// Elements per block.
constexpr int64_t CHUNK = 16384;

// A parameter with its gradient and moments, each of `count` elements in the same layout.
template <typename T> struct Slot {
  T *parameter;
  const T *gradient;
  T *first, *second;
  // Number of steps taken, a scalar.
  float *steps;
  // A copy of the parameter rounded to bfloat16, or null.
  uint16_t *rounded;
  int64_t count;
};

// The nearest bfloat16, ties to even.
DEVICE uint16_t to_bfloat16(float number) {
  union {
    float number;
    uint32_t bits;
  } as = {number};
  bool is_nan = number != number;
  return is_nan ? 0x7fc0 : (uint16_t)((as.bits + 0x7fff + ((as.bits >> 16) & 1)) >> 16);
}

// The slots of a kernel and their division into blocks: blocks_before[slot] is the number of blocks of all earlier slots.
template <typename T> struct Slots {
  Slot<T> slots[MOST_TENSORS];
  int64_t blocks_before[MOST_TENSORS + 1];
  int64_t count;

  DEVICE int of_block(int64_t block) const {
    int slot = 0;
    while (slot + 1 < (int)count && blocks_before[slot + 1] <= block)
      slot++;
    return slot;
  }
};

// Sums the squares of gradients, one sum per block, and increments each step count.
template <typename T> struct SquareSums {
  Slots<T> slots;
  // `[blocks]`, of these slots.
  double *sums;

  DEVICE void run() const {
    int64_t block = block_x();
    int slot = slots.of_block(block);
    const Slot<T> &of = slots.slots[slot];
    int64_t start = (block - slots.blocks_before[slot]) * CHUNK, end = smaller(start + CHUNK, of.count);
    double sum = 0;
    for (int64_t at = start + thread_index(); at < end; at += thread_count())
      sum += (double)of.gradient[at] * (double)of.gradient[at];
    sum = block_sum(sum);
    if (thread_index() == 0) {
      sums[block] = sum;
      if (start == 0)
        *of.steps += 1.0f;
    }
  }
};

// The step. If `clip` is not 0, gradients are scaled so that their overall norm is at most `clip`.
template <typename T> struct AdamStep {
  Slots<T> slots;
  // Sums of squares of all gradients of the optimiser, `[all_blocks]`.
  const double *sums;
  // Output: the norm before clipping, a scalar.
  T *norm;
  // The learning rate, a scalar.
  const double *rate;
  int64_t all_blocks, is_decoupled;
  double beta_1, beta_2, weight_decay, epsilon, clip;

  DEVICE void run() const {
    double all = 0;
    for (int64_t at = thread_index(); at < all_blocks; at += thread_count())
      all += sums[at];
    double whole = sqrt(block_sum(all));
    if (block_x() == 0 && thread_index() == 0)
      *norm = (T)whole;
    double shrunk = clip == 0.0 ? 1.0 : clip / (whole + 1e-6);
    // A NaN norm has to reach the weights, as in libtorch.
    T scale = (T)(1.0 < shrunk ? 1.0 : shrunk);
    int slot = slots.of_block(block_x());
    const Slot<T> &of = slots.slots[slot];
    int64_t start = ((int64_t)block_x() - slots.blocks_before[slot]) * CHUNK, end = smaller(start + CHUNK, of.count);
    double steps = (double)*of.steps;
    T step = (T)(*rate / (1.0 - pow(beta_1, steps))), second_scale = (T)(1.0 / sqrt(1.0 - pow(beta_2, steps)));
    T share_1 = (T)(1.0 - beta_1), share_2 = (T)(1.0 - beta_2), small = (T)epsilon;
    T coupled = is_decoupled ? (T)0 : (T)weight_decay, kept = is_decoupled ? (T)(1.0 - *rate * weight_decay) : (T)1;
    for (int64_t at = start + thread_index(); at < end; at += thread_count()) {
      T parameter = of.parameter[at] * kept;
      T slope = of.gradient[at] * scale + parameter * coupled;
      T first = of.first[at], second = of.second[at];
      first += (slope - first) * share_1;
      second += (slope * slope - second) * share_2;
      of.first[at] = first;
      of.second[at] = second;
      parameter -= first * step / (sqrt(second) * second_scale + small);
      of.parameter[at] = parameter;
      if (of.rounded)
        of.rounded[at] = to_bfloat16((float)parameter);
    }
  }
};
