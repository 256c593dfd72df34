// Softmax, negative binomial log-likelihood and its gradients by logits and dispersion. The formulas are those of
// src/kernels/negative_binomial.rs; a block processes one row of logits at a time, reading and writing it once.

#pragma once

#include "gamma.cuh"
#include "platform.h"
#include "sparse.cuh"
#include "strip.cuh"

// Keeps logarithms finite, as in the original.
constexpr double NB_EPSILON = 1e-8;

// Per-gene terms of the dispersion, the same for all cells, in float64 before rounding: lnΓ(x+θ) − lnΓ(θ) and ψ(x+θ) − ψ(θ) are small
// differences of large numbers. One thread per gene.
template <typename T> struct NegativeBinomialGenes {
  // Logarithm of the inverse dispersion, `[genes]`.
  const T *dispersion;
  // `[4, genes]`: θ, 1 / (θ + ε), lnΓ(θ), ψ(θ).
  T *terms;
  int64_t genes;

  DEVICE void run() const {
    for (int64_t gene = (int64_t)block_x() * thread_count() + thread_index(); gene < genes; gene += (int64_t)blocks_x() * thread_count()) {
      double theta = (double)(T)exp((double)dispersion[gene]);
      auto gamma = log_gamma_and_slope(theta);
      terms[gene] = (T)theta;
      terms[genes + gene] = (T)(1.0 / (theta + NB_EPSILON));
      terms[2 * genes + gene] = (T)gamma.value;
      terms[3 * genes + gene] = (T)gamma.slope;
    }
  }
};

// Loss and gradients of a block's cells: −ln P, averaged over cells.
template <typename T> struct NegativeBinomialRows {
  // Logits of each gene's share of the library, without bias and offset, `[cells, genes]`; overwritten by the loss's
  // gradient.
  T *logits;
  const T *bias;
  // Offsets added to the logits: a table `[rows, genes]` and each cell's row, `[cells]`; or null.
  const T *offset;
  const int64_t *offset_rows;
  SparseRows cells;
  // Counts of mixed cells, `[cells, genes]`, instead of those in the rows; null without mixup.
  const T *counts;
  Mixing mixing;
  // Library sizes, `[cells]`.
  const T *library;
  // The output of NegativeBinomialGenes.
  const T *terms;
  // A buffer for a row of means, `[blocks, genes]`, if it does not fit into shared memory; otherwise null.
  T *room;
  // Outputs: each block's contribution to the loss, `[blocks]`, and to the gradient by θ, `[blocks, genes]`.
  double *losses;
  T *by_theta;
  int64_t count, genes;

  DEVICE void run() const {
    T *mean = room ? room + (int64_t)block_x() * genes : shared_memory<T>();
    T *slopes_of_theta = by_theta + (int64_t)block_x() * genes;
    for (int64_t gene = thread_index(); gene < genes; gene += thread_count())
      slopes_of_theta[gene] = (T)0;
    double loss = 0;
    for (int64_t row = block_x(); row < count; row += blocks_x())
      loss += of_row(row, mean, slopes_of_theta);
    loss = block_sum(loss);
    if (thread_index() == 0)
      losses[block_x()] = -loss / (double)count;
  }

  // Calls `f` with gene and count for this thread's part of a row, each gene at most once; may include zeros.
  template <typename F> DEVICE void for_counts(int64_t row, F f) const {
    if (counts) {
      for (int64_t gene = thread_index(); gene < genes; gene += thread_count())
        if (counts[row * genes + gene] != (T)0)
          f(gene, counts[row * genes + gene]);
      return;
    }
    int64_t end = cells.end(row);
    for (int64_t at = cells.start(row) + thread_index(); at < end; at += thread_count()) {
      T x = cells.value<T>(at);
      if (x != (T)0)
        f(cells.gene(at), x);
    }
  }

  // This thread's part of a row's log-likelihood.
  DEVICE double of_row(int64_t row, T *mean, T *slopes_of_theta) const {
    const T *theta = terms, *inverse = terms + genes, *log_gamma = terms + 2 * genes, *digamma = terms + 3 * genes;
    T *logit = logits + row * genes;
    T largest = -(T)INFINITY;
    for (int64_t gene = thread_index(); gene < genes; gene += thread_count()) {
      T whole = logit[gene] + bias[gene];
      if (offset)
        whole += mixing.mixed<T>(row, [&](int64_t cell) { return offset[offset_rows[cell] * genes + gene]; });
      mean[gene] = whole;
      largest = largest < whole ? whole : largest;
    }
    largest = block_max(largest);
    double sum = 0;
    for (int64_t gene = thread_index(); gene < genes; gene += thread_count()) {
      T power = exp(mean[gene] - largest);
      mean[gene] = power;
      sum += (double)power;
    }
    sum = block_sum(sum);
    T total = library[row], scale = (T)((double)total / sum), epsilon = (T)NB_EPSILON;
    double loss = 0, along = 0;
    // The terms without x.
    for (int64_t gene = thread_index(); gene < genes; gene += thread_count()) {
      T mu = mean[gene] * scale;
      mean[gene] = mu;
      T ratio = mu * inverse[gene], log_ratio = log1p(ratio), inverse_sum = inverse[gene] / ((T)1 + ratio);
      T pull = theta[gene] * mu * inverse_sum;
      loss -= (double)(theta[gene] * log_ratio);
      along -= (double)pull;
      slopes_of_theta[gene] += pull * inverse[gene] - log_ratio;
    }
    sync_threads();
    // The terms with x.
    for_counts(row, [&](int64_t gene, T x) {
      T mu = mean[gene], inverse_sum = inverse[gene] / ((T)1 + mu * inverse[gene]), guarded = mu + epsilon;
      auto of_sum = log_gamma_and_slope(x + theta[gene]);
      auto of_count = log_gamma_and_slope(x + (T)1);
      loss += (double)(x * log(guarded * inverse_sum) + (of_sum.value - log_gamma[gene] - of_count.value));
      along += (double)(mu * x * ((T)1 / guarded - inverse_sum));
      slopes_of_theta[gene] += of_sum.slope - digamma[gene] - x * inverse_sum;
    });
    along = block_sum(along);
    // The means of an empty cell are all 0, so it has no gradient.
    T share = total == (T)0 ? (T)0 : (T)(along / (double)total), outer = (T)(-1.0 / (double)count);
    for (int64_t gene = thread_index(); gene < genes; gene += thread_count()) {
      T mu = mean[gene];
      T pull = theta[gene] * mu * (inverse[gene] / ((T)1 + mu * inverse[gene]));
      logit[gene] = (-pull - mu * share) * outer;
    }
    sync_threads();
    for_counts(row, [&](int64_t gene, T x) {
      T mu = mean[gene], inverse_sum = inverse[gene] / ((T)1 + mu * inverse[gene]);
      logit[gene] += mu * x * ((T)1 / (mu + epsilon) - inverse_sum) * outer;
    });
    // The next row's means overwrite these.
    sync_threads();
    return loss;
  }
};

// Sums the results of all blocks: the loss, a scalar, and its gradient by the logarithm of θ, `[genes]`. One block per strip of columns.
template <typename T> struct NegativeBinomialSums {
  const double *losses;
  const T *by_theta, *terms;
  T *loss, *by_dispersion;
  int64_t blocks, count, genes;

  DEVICE void run() const {
    Strip strip(blocks, genes);
    for (; strip.goes_on(); strip.next()) {
      int64_t gene = strip.column;
      double sum = strip.sum_over_rows<T>([&](int64_t block) { return by_theta[block * genes + gene]; });
      if (strip.is_there() && strip.is_first_lane())
        by_dispersion[gene] = (T)(-sum * (double)terms[gene] / (double)count);
    }
    if (block_x() == 0) {
      double all = 0;
      for (int64_t at = thread_index(); at < blocks; at += thread_count())
        all += losses[at];
      all = block_sum(all);
      if (thread_index() == 0)
        *loss = (T)all;
    }
  }
};
