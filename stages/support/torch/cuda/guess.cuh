// A classifier's loss, accuracy and gradient by the logits. The formulas are those of `guess_loss`, `accuracy` and
// `macro_accuracy` of src/model/losses.rs.

#pragma once

#include "mixing.cuh"
#include "platform.h"

// Computes each cell's share of the loss, its predicted class, and the loss's gradient by its logits. Blocks stride over the cells.
//
// Cross-entropy is Σ w nll / Σ w over cells, the focal loss the mean over cells of (1 − p)² w nll, times `emphasis`.
template <typename T> struct GuessRows {
  // `[cells, classes]`: logits, overwritten by the gradient.
  T *logits;
  // `[cells]`.
  const int64_t *classes;
  // Class weights, `[classes]`; null: equal weights.
  const T *weights;
  // A scalar factor of the loss; null: 1.
  const T *emphasis;
  // For mixed cells, the loss includes both classes by their shares; only the first one if it `is_alone`.
  Mixing mixing;
  int64_t is_alone;
  // `[cells]`.
  double *losses;
  int64_t *guesses;
  int64_t cells, class_count, is_focal;

  DEVICE void run() const {
    double whole = (double)cells;
    if (weights && !is_focal) {
      double sum = 0;
      for (int64_t cell = thread_index(); cell < cells; cell += thread_count())
        sum += (double)weights[classes[cell]];
      whole = block_sum(sum);
    }
    T scale = (T)((emphasis ? (double)*emphasis : 1.0) / whole);
    for (int64_t cell = block_x(); cell < cells; cell += blocks_x())
      of_cell(cell, scale);
  }

  DEVICE void of_cell(int64_t cell, T scale) const {
    T *logit = logits + cell * class_count;
    T largest = -(T)INFINITY;
    for (int64_t at = thread_index(); at < class_count; at += thread_count())
      largest = larger(largest, logit[at]);
    largest = block_max(largest);
    double sum = 0;
    // The first of the largest logits is the prediction.
    int64_t first = class_count;
    for (int64_t at = thread_index(); at < class_count; at += thread_count()) {
      sum += (double)exp(logit[at] - largest);
      if (logit[at] == largest && at < first)
        first = at;
    }
    sum = block_sum(sum);
    first = block_reduce(first, Smallest());
    T log_sum = largest + (T)log(sum);
    bool has_other = mixing.is_on() && !is_alone;
    T own_share = mixing.is_on() ? mixing.keeps<T>() : (T)1, other_share = has_other ? mixing.takes<T>() : (T)0;
    int64_t right = classes[cell], other = has_other ? classes[mixing.partners[cell]] : right;
    Asked own = asked(right, logit[right] - log_sum, own_share * scale);
    Asked second = asked(other, logit[other] - log_sum, other_share * scale);
    // Every thread has read its logits before any is overwritten.
    sync_threads();
    for (int64_t at = thread_index(); at < class_count; at += thread_count()) {
      T share = exp(logit[at] - log_sum);
      logit[at] = own.slope * ((at == right ? (T)1 : (T)0) - share) + second.slope * ((at == other ? (T)1 : (T)0) - share);
    }
    if (thread_index() == 0) {
      losses[cell] = (double)(own.loss + second.loss);
      guesses[cell] = first;
    }
  }

  // The loss of a class's probability, and its derivative by the log probability.
  struct Asked {
    T loss, slope;
  };

  DEVICE Asked asked(int64_t of, T log_p, T scale) const {
    T p = exp(log_p), missed = (T)1 - p, weight = (weights ? weights[of] : (T)1) * scale;
    // −log p, or −(1−p)² log p.
    if (!is_focal)
      return {-log_p * weight, -weight};
    return {-missed * missed * log_p * weight, ((T)2 * missed * p * log_p - missed * missed) * weight};
  }

  struct Smallest {
    DEVICE int64_t operator()(int64_t a, int64_t b) const { return smaller(a, b); }
  };
};

// The loss of all cells and the accuracy: over all cells, or within each class and then averaged over the classes that are present or
// predicted. One block.
template <typename T> struct GuessSums {
  const double *losses;
  const int64_t *guesses, *classes;
  // `[4, classes]`: counters; null for the accuracy over all cells.
  unsigned *counts;
  // As in GuessRows.
  Mixing mixing;
  int64_t is_alone;
  // Outputs, a scalar each.
  T *loss;
  float *accuracy;
  int64_t cells, class_count;

  DEVICE void run() const {
    bool has_other = mixing.is_on() && !is_alone;
    double keeps = has_other ? *mixing.share : 1.0, sum = 0, hits = 0;
    for (int64_t at = thread_index(); counts && at < 4 * class_count; at += thread_count())
      counts[at] = 0;
    sync_threads();
    for (int64_t cell = thread_index(); cell < cells; cell += thread_count()) {
      int64_t guess = guesses[cell], right = classes[cell];
      // The partners' classes are those of all cells, in another order.
      int64_t other = has_other ? classes[mixing.partners[cell]] : right;
      sum += losses[cell];
      hits += (guess == right ? keeps : 0.0) + (guess == other ? 1.0 - keeps : 0.0);
      if (!counts)
        continue;
      if (guess == right)
        atomic_add(&counts[right], 1u);
      if (guess == other)
        atomic_add(&counts[class_count + other], 1u);
      atomic_add(&counts[2 * class_count + right], 1u);
      // A NaN logit is never predicted.
      if (guess < class_count)
        atomic_add(&counts[3 * class_count + guess], 1u);
    }
    sum = block_sum(sum);
    hits = block_sum(hits);
    double share = hits / (double)cells;
    if (counts) {
      sync_threads();
      double of_classes = 0, counted = 0;
      for (int64_t at = thread_index(); at < class_count; at += thread_count()) {
        double own = counts[at], other = counts[class_count + at];
        double there = counts[2 * class_count + at], guessed = counts[3 * class_count + at];
        if (0.0 < there + guessed) {
          of_classes += (keeps * own + (1.0 - keeps) * other) / larger(there, 1.0);
          counted += 1.0;
        }
      }
      of_classes = block_sum(of_classes);
      share = of_classes / block_sum(counted);
    }
    if (thread_index() == 0) {
      *loss = (T)sum;
      *accuracy = (float)share;
    }
  }
};
