// Sparse rows of expression in the narrow types of their transfer (src/model/packed_batch.rs), and the encoder's dense input.

#pragma once

#include "mixing.cuh"
#include "platform.h"

// Transfer types, numbered like `Narrow` in src/device_kernels/unpack.rs.
enum NarrowType : int64_t { NARROW_U8, NARROW_U16, NARROW_U32, NARROW_I32, NARROW_I64, NARROW_F32, NARROW_F64 };

struct SparseRows {
  // Row pointers, `[rows + 1]`.
  const int32_t *pointers;
  // Number of non-zeros, a scalar: the padding after them is counted to the last row.
  const int32_t *entries;
  // Gene and value of each non-zero, in these types. A row has each gene at most once.
  const void *genes, *values;
  int64_t gene_type, value_type;

  DEVICE int64_t start(int64_t row) const { return pointers[row]; }

  DEVICE int64_t end(int64_t row) const { return smaller(pointers[row + 1], *entries); }

  DEVICE int64_t gene(int64_t at) const { return gene_type == NARROW_U16 ? ((const uint16_t *)genes)[at] : ((const uint32_t *)genes)[at]; }

  template <typename T> DEVICE T value(int64_t at) const {
    switch (value_type) {
    case NARROW_U8:
      return (T)((const uint8_t *)values)[at];
    case NARROW_U16:
      return (T)((const uint16_t *)values)[at];
    case NARROW_U32:
      return (T)((const uint32_t *)values)[at];
    default:
      return (T)((const float *)values)[at];
    }
  }
};

// Unpacks a batch: the encoder's dense input, and labels in the types that steps use. Blocks stride over the cells.
template <typename T> struct Unpack {
  SparseRows cells;
  // `[cells, genes]`: log(1 + value) or the value.
  T *dense;
  // `[cells, genes]`: the values, for mixed cells; null without mixup.
  T *counts;
  int64_t is_logarithm;
  Mixing mixing;
  // The packed labels: library `[cells]`, codes and doses `[cells, parts]`, covariates `[covariates, cells]`, combinations
  // `[cells]`.
  const double *library;
  const int32_t *codes;
  const float *doses;
  const int32_t *covariates, *combinations;
  // The same in the types that steps use.
  T *library_out;
  int64_t *codes_out;
  T *doses_out;
  int64_t *covariates_out, *combinations_out;
  int64_t count, genes, parts, covariate_count;

  DEVICE void run() const {
    for (int64_t row = block_x(); row < count; row += blocks_x()) {
      if (mixing.is_on())
        mix(row, counts + row * genes, dense + row * genes);
      else
        scatter(row, dense + row * genes);
      labels(row);
    }
  }

  // Calls `f` with gene and value of each non-zero of a row; may include zeros.
  template <typename F> DEVICE void for_values(int64_t row, F f) const {
    int64_t end = cells.end(row);
    for (int64_t at = cells.start(row) + thread_index(); at < end; at += thread_count()) {
      T value = cells.value<T>(at);
      if (value != (T)0)
        f(cells.gene(at), value);
    }
  }

  DEVICE void clear(T *out) const {
    for (int64_t gene = thread_index(); gene < genes; gene += thread_count())
      out[gene] = (T)0;
    sync_threads();
  }

  DEVICE void scatter(int64_t row, T *out) const {
    clear(out);
    for_values(row, [&](int64_t gene, T value) { out[gene] = is_logarithm ? log1p(value) : value; });
  }

  DEVICE void mix(int64_t row, T *values, T *out) const {
    clear(values);
    for_values(row, [&](int64_t gene, T value) { values[gene] = mixing.keeps<T>() * value; });
    sync_threads();
    for_values(mixing.partners[row], [&](int64_t gene, T value) { values[gene] += mixing.takes<T>() * value; });
    sync_threads();
    for (int64_t gene = thread_index(); gene < genes; gene += thread_count())
      out[gene] = is_logarithm ? log1p(values[gene]) : values[gene];
  }

  DEVICE void labels(int64_t row) const {
    for (int64_t at = thread_index(); at < parts; at += thread_count()) {
      codes_out[row * parts + at] = codes[row * parts + at];
      doses_out[row * parts + at] = (T)doses[row * parts + at];
    }
    for (int64_t at = thread_index(); at < covariate_count; at += thread_count())
      covariates_out[at * count + row] = covariates[at * count + row];
    if (thread_index() == 0) {
      library_out[row] = mixing.mixed<T>(row, [&](int64_t cell) { return (T)library[cell]; });
      combinations_out[row] = combinations[row];
    }
  }
};
