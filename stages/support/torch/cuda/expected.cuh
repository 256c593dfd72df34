// Expected counts of a decoder, summed over cells, from which the predicted mean of a condition is computed.

#pragma once

#include "platform.h"
#include "strip.cuh"

// Logits of cells decoded for several targets, `[targets, cells, genes]`, without the bias and offset of each target,
// `[targets, genes]`.
template <typename T> struct TargetLogits {
  const T *logits, *added;
  int64_t targets, cells, genes;

  DEVICE T whole(int64_t row, int64_t gene) const { return logits[row * genes + gene] + added[row / cells * genes + gene]; }
};

// The largest logit of each row, and the factor that turns exp(logit − largest) into an expected count: the library size over the sum of
// these powers. Blocks stride over the rows.
template <typename T> struct SoftmaxRows {
  TargetLogits<T> of;
  // `[cells]`.
  const T *library;
  // `[targets · cells]` each.
  T *largest, *scale;

  DEVICE void run() const {
    for (int64_t row = block_x(); row < of.targets * of.cells; row += blocks_x()) {
      T most = -(T)INFINITY;
      for (int64_t gene = thread_index(); gene < of.genes; gene += thread_count())
        most = larger(most, of.whole(row, gene));
      most = block_max(most);
      double sum = 0;
      for (int64_t gene = thread_index(); gene < of.genes; gene += thread_count())
        sum += (double)exp(of.whole(row, gene) - most);
      sum = block_sum(sum);
      if (thread_index() == 0) {
        largest[row] = most;
        scale[row] = (T)((double)library[row % of.cells] / sum);
      }
    }
  }
};

// Adds expected counts and their squares to sums over cells, `[targets, genes]` in float64. A block handles a strip of genes of one target.
template <typename T> struct ExpectedSums {
  TargetLogits<T> of;
  const T *largest, *scale;
  double *first, *second;

  DEVICE void run() const {
    Strip strip(of.cells, of.genes);
    int64_t start = (int64_t)block_y() * of.cells;
    for (; strip.goes_on(); strip.next()) {
      int64_t gene = strip.column;
      double sums[2];
      strip.sums_over_rows<T>(sums, [&](int64_t cell, T *numbers) {
        int64_t row = start + cell;
        T mean = exp(of.whole(row, gene) - largest[row]) * scale[row];
        numbers[0] = mean;
        numbers[1] = mean * mean;
      });
      if (strip.is_there() && strip.is_first_lane()) {
        first[(int64_t)block_y() * of.genes + gene] += sums[0];
        second[(int64_t)block_y() * of.genes + gene] += sums[1];
      }
    }
  }
};
