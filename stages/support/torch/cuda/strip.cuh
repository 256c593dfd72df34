// Sums over the rows of a matrix, column by column.

#pragma once

#include "platform.h"

// Number of adjacent columns per block. Thread t has column t % STRIP and every lanes-th row from t / STRIP on, so that the
// threads of a warp read whole memory sectors and narrow layers still fill many blocks.
constexpr int STRIP = 8;

// The most sums that a kernel computes in one pass. Mirrors MOST_SUMS of src/device_kernels/mod.rs.
constexpr int MOST_SUMS = 5;

// The part of a `[rows, width]` matrix that belongs to one thread of a block. The number of threads is a power of two, at least STRIP; on
// the host, the only thread loops over the columns. All threads of a block run the same steps, even for a column beyond the last one
// (then `is_there` is false).
struct Strip {
  int64_t rows, width, column, lane, lanes;
  int at, step;

  DEVICE Strip(int64_t rows, int64_t width) : rows(rows), width(width) {
    int threads = (int)thread_count();
    at = (int)thread_index() % STRIP;
    step = threads < STRIP ? threads : STRIP;
    lane = (int)thread_index() / STRIP;
    lanes = threads < STRIP ? 1 : threads / STRIP;
    column = (int64_t)block_x() * STRIP + at;
  }

  DEVICE bool goes_on() const { return at < STRIP; }

  DEVICE void next() {
    at += step;
    column += step;
  }

  DEVICE bool is_there() const { return column < width; }

  DEVICE bool is_first_lane() const { return lane == 0; }

  // Calls `f` for each of this thread's rows; never beyond the last column.
  template <typename F> DEVICE void for_rows(F f) const {
    if (is_there())
      for (int64_t row = lane; row < rows; row += lanes)
        f(row);
  }

  // The sum of `f(row)` over all rows, for every thread of the column.
  template <typename T, typename F> DEVICE double sum_over_rows(F f) const {
    double sum[1];
    sums_over_rows<T>(sum, [&](int64_t row, T *number) { *number = f(row); });
    return sum[0];
  }

  // Sums over all rows, for every thread of the column, of the N numbers that `f(row, numbers)` sets. A thread sums 32 rows at a time
  // in T; these sums, and those of the lanes, are summed in float64, so that the error does not grow with the number of rows.
  template <typename T, int N, typename F> DEVICE void sums_over_rows(double (&sums)[N], F f) const {
    T parts[N] = {};
    int count = 0;
    auto add = [&] {
      for (int n = 0; n < N; n++) {
        sums[n] += (double)parts[n];
        parts[n] = (T)0;
      }
      count = 0;
    };
    for (int n = 0; n < N; n++)
      sums[n] = 0;
    for_rows([&](int64_t row) {
      T numbers[N];
      f(row, numbers);
      for (int n = 0; n < N; n++)
        parts[n] += numbers[n];
      if (++count == 32)
        add();
    });
    add();
    over_lanes(sums);
  }

  // Sums over the threads of a column. Shared memory has room for MOST_SUMS numbers per thread.
  template <int N> DEVICE void over_lanes(double (&sums)[N]) const {
    static_assert(N <= MOST_SUMS, "shared memory has no room for more sums");
    int threads = (int)thread_count();
    if (threads == 1)
      return;
    double *values = shared_memory<double>();
    int index = (int)thread_index();
    sync_threads();
    for (int n = 0; n < N; n++)
      values[n * threads + index] = sums[n];
    sync_threads();
    for (int half = threads / 2; STRIP <= half; half /= 2) {
      if (index < half)
        for (int n = 0; n < N; n++)
          values[n * threads + index] += values[n * threads + index + half];
      sync_threads();
    }
    for (int n = 0; n < N; n++)
      sums[n] = values[n * threads + index % STRIP];
  }
};
