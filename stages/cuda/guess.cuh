// What is wrong about a classifier's logits, and how they should change. The formulas are those of `guess_loss`, `accuracy` and
// `macro_accuracy` of src/model/losses.rs.

#pragma once

#include "platform.h"

// Of each cell its part of the loss, its guess, and the loss's gradient by its logits. Blocks take the cells by turns.
//
// Cross-entropy is Σ w nll / Σ w over cells, the focal loss the mean over cells of (1 − p)² w nll, times `emphasis`.
template <typename T> struct GuessRows {
  // `[cells, classes]`: logits, which become the gradient.
  T *logits;
  // `[cells]`.
  const int64_t *classes;
  // What each class weighs, `[classes]`; null: all the same.
  const T *weights;
  // A scalar that the loss is multiplied by; null: 1.
  const T *emphasis;
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
    // The first of the largest logits is the guess.
    int64_t first = class_count;
    for (int64_t at = thread_index(); at < class_count; at += thread_count()) {
      sum += (double)exp(logit[at] - largest);
      if (logit[at] == largest && at < first)
        first = at;
    }
    sum = block_sum(sum);
    first = block_reduce(first, Smallest());
    int64_t right = classes[cell];
    T log_p = logit[right] - largest - (T)log(sum), p = exp(log_p), weight = weights ? weights[right] : (T)1;
    T missed = (T)1 - p;
    // The loss by log p: −1 for cross-entropy; −(1−p)² + 2 (1−p) p log p for −(1−p)² log p.
    T slope = is_focal ? (T)2 * missed * p * log_p - missed * missed : (T)-1;
    T loss = is_focal ? -missed * missed * log_p : -log_p;
    // Every thread has read logits before any is written over.
    sync_threads();
    for (int64_t at = thread_index(); at < class_count; at += thread_count()) {
      T share = exp(logit[at] - largest) / (T)sum;
      logit[at] = slope * weight * scale * ((at == right ? (T)1 : (T)0) - share);
    }
    if (thread_index() == 0) {
      losses[cell] = (double)(loss * weight * scale);
      guesses[cell] = first;
    }
  }

  struct Smallest {
    DEVICE int64_t operator()(int64_t a, int64_t b) const { return smaller(a, b); }
  };
};

// The loss of all cells and how many guesses are right: of all cells, or within each class and then over the classes that were there or
// were guessed. One block.
template <typename T> struct GuessSums {
  const double *losses;
  const int64_t *guesses, *classes;
  // `[3, classes]`: room to count in; null where classes are not told apart.
  unsigned *counts;
  // Take a scalar each.
  T *loss;
  float *accuracy;
  int64_t cells, class_count;

  DEVICE void run() const {
    double sum = 0, hits = 0;
    for (int64_t at = thread_index(); counts && at < 3 * class_count; at += thread_count())
      counts[at] = 0;
    sync_threads();
    for (int64_t cell = thread_index(); cell < cells; cell += thread_count()) {
      bool is_right = guesses[cell] == classes[cell];
      sum += losses[cell];
      hits += is_right ? 1.0 : 0.0;
      if (counts) {
        if (is_right)
          atomic_add(&counts[classes[cell]], 1u);
        atomic_add(&counts[class_count + classes[cell]], 1u);
        // A logit that is not a number is nobody's guess.
        if (guesses[cell] < class_count)
          atomic_add(&counts[2 * class_count + guesses[cell]], 1u);
      }
    }
    sum = block_sum(sum);
    hits = block_sum(hits);
    double share = hits / (double)cells;
    if (counts) {
      sync_threads();
      double of_classes = 0, counted = 0;
      for (int64_t at = thread_index(); at < class_count; at += thread_count()) {
        double right = counts[at], there = counts[class_count + at], guessed = counts[2 * class_count + at];
        if (0.0 < there + guessed) {
          of_classes += right / larger(there, 1.0);
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
