// Sums over the rows of a matrix, column by column.

#pragma once

#include "platform.h"

// Neighbouring columns that a block works on. Thread t has column t % STRIP and every lanes-th row from t / STRIP on, so that the
// threads of a warp read whole sectors of memory and narrow layers still fill many blocks.
constexpr int STRIP = 8;

// Sums that a kernel takes in one pass at most. Mirrors MOST_SUMS of src/device_kernels/mod.rs.
constexpr int MOST_SUMS = 5;

// The part of a `[rows, width]` matrix that a thread of a block works on. A block has a power of two of threads, STRIP at least; on the
// host its only thread takes the columns by turns. All threads of a block go through the same steps, also where a column is beyond the
// last one (`is_there` is false then).
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

  // Calls `f` with each row that is this thread's; not at all beyond the last column.
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

  // Sums over all rows, for every thread of the column, of the N numbers that `f(row, numbers)` sets. A thread adds up 32 of its rows as T;
  // these sums, and those of other lanes, are added in float64, so that the error does not grow with the number of rows.
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

  // Adds up what each thread of a column has. Shared memory holds MOST_SUMS numbers of each thread.
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
