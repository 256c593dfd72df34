// Accumulates the measurements of steps on the device, so that the host reads them only occasionally.

#pragma once

#include "platform.h"

// Maximum number of measurements per step.
constexpr int MOST_LOSSES = 64;

// Adds the measurements of a step, scalars at separate addresses, to their sums, and records the first batch in which one was not finite.
// One block, one thread per number.
template <typename T> struct AddLosses {
  const T *losses[MOST_LOSSES];
  // Measurements in float32 if T is another type; otherwise null.
  const float *singles[MOST_LOSSES];
  // `[MOST_LOSSES + 2]`: sums, then the number of steps, and the first batch with a bad number.
  double *sums;
  // The number of this batch, a scalar.
  const int64_t *batch;
  int64_t count;

  DEVICE void run() const {
    double bad = 0;
    for (int64_t at = thread_index(); at < count; at += thread_count()) {
      double loss = losses[at] ? (double)*losses[at] : (double)*singles[at];
      sums[at] += loss;
      // A number is not finite if it differs from itself, or equals twice itself.
      bad += loss - loss == 0.0 ? 0.0 : 1.0;
    }
    bad = block_sum(bad);
    if (thread_index() == 0) {
      double &steps = sums[MOST_LOSSES], &first_bad = sums[MOST_LOSSES + 1];
      steps += 1.0;
      if (bad != 0.0 && (double)*batch < first_bad)
        first_bad = (double)*batch;
    }
  }
};
