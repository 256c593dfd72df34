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
  // `[count]`.
  double *sums;
  // How many steps were added up, and the first batch with a bad number; scalars.
  int64_t *steps, *first_bad;
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
      *steps += 1;
      if (bad != 0.0 && *batch < *first_bad)
        *first_bad = *batch;
    }
  }
};
