// Adds up what steps measure, so that the host looks at it now and then.

#pragma once

#include "platform.h"

// How many numbers a step measures at most.
constexpr int MOST_LOSSES = 64;

// Adds the numbers of a step, scalars in different places, to their sums, and remembers the first batch in which one was not finite.
// One block, a thread a number.
template <typename T> struct AddLosses {
  const T *losses[MOST_LOSSES];
  // Those of float32, where T is another type; null elsewhere.
  const float *singles[MOST_LOSSES];
  // `[MOST_LOSSES + 2]`: sums, then how many steps were added up, and the first batch with a bad number.
  double *sums;
  // Which batch this is, a scalar.
  const int64_t *batch;
  int64_t count;

  DEVICE void run() const {
    double bad = 0;
    for (int64_t at = thread_index(); at < count; at += thread_count()) {
      double loss = losses[at] ? (double)*losses[at] : (double)*singles[at];
      sums[at] += loss;
      // A number that is not finite is not equal to itself, or is itself times two.
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
