// The backward pass of a gradient penalty (down) and its adjoint (up) through a norm, ReLU and dropout. The formulas are those of
// src/kernels/penalty.rs.

#pragma once

#include "layer.cuh"
#include "platform.h"
#include "strip.cuh"

// The upward pass as a linear function of v, d and x̂, from means over the norm's dimension.
struct PenaltyLines {
  double d, d_normal, v, v_normal, v_d;

  // From sums over `count`.
  DEVICE PenaltyLines(const double (&sums)[5], int64_t count)
      : d(sums[0] / (double)count), d_normal(sums[1] / (double)count), v(sums[2] / (double)count), v_normal(sums[3] / (double)count),
        v_d(sums[4] / (double)count) {}

  DEVICE double core() const { return v_d - v * d - v_normal * d_normal; }

  // Coefficients of v, d, x̂ and 1 for the term added to the norm's input; then those of v and x̂ for the new v.
  struct Factors {
    double by_v, by_d, by_normal, shift, v_by_v, v_by_normal, v_shift;
  };

  DEVICE Factors factors(double slope, double inverse) const {
    double k = -slope * inverse;
    return {k * d_normal,
            k * v_normal,
            k * (core() - 2.0 * d_normal * v_normal),
            -k * (v * d_normal + d * v_normal),
            slope,
            -slope * v_normal,
            -slope * v};
  }
};

// The gradient that the downward pass starts from.
template <typename T> struct Above {
  // By the output, `[cells, width]`; with `rows_apart` 0, all cells share one row.
  const T *gradient;
  int64_t rows_apart;

  DEVICE T at(int64_t row, int64_t column) const { return gradient[row * rows_apart + column]; }
};

// The downward pass of batch norm. One block per strip of columns.
template <typename T> struct BatchNormDown {
  Passed<T> passed;
  const T *weight;
  Above<T> above;
  // Outputs: d and dx, `[cells, width]`.
  T *gradient, *by_input;

  DEVICE void run() const {
    Strip strip(passed.cells, passed.width);
    for (; strip.goes_on(); strip.next()) {
      int64_t column = strip.column;
      Norm<T> norm = passed.norm(strip);
      double sums[2];
      strip.sums_over_rows<T>(sums, [&](int64_t row, T *numbers) {
        int64_t at = row * passed.width + column;
        gradient[at] = passed.through(above.at(row, column), at);
        numbers[0] = gradient[at];
        numbers[1] = norm.of(passed.input[at]) * gradient[at];
      });
      T level = (T)(sums[0] / (double)passed.cells), tilt = (T)(sums[1] / (double)passed.cells);
      T slope = strip.is_there() ? weight[column] * norm.inverse : (T)0;
      strip.for_rows([&](int64_t row) {
        int64_t at = row * passed.width + column;
        by_input[at] = (gradient[at] - level - norm.of(passed.input[at]) * tilt) * slope;
      });
    }
  }
};

// Inputs and outputs of the upward pass.
template <typename T> struct Up {
  // d, from the downward pass.
  const T *gradient;
  // v, updated in place.
  T *adjoint;
  // Output: the term added to the norm's input.
  T *onto;

  // The five numbers that PenaltyLines averages, in its order.
  DEVICE void numbers(int64_t at, T normal, T *numbers) const {
    T d = gradient[at], v = adjoint[at];
    numbers[0] = d;
    numbers[1] = normal * d;
    numbers[2] = v;
    numbers[3] = normal * v;
    numbers[4] = v * d;
  }

  DEVICE void put(int64_t at, T normal, const PenaltyLines::Factors &by, const Passed<T> &passed) const {
    T v = adjoint[at];
    onto[at] = (T)by.by_v * v + (T)by.by_d * gradient[at] + (T)by.by_normal * normal + (T)by.shift;
    adjoint[at] = passed.through((T)by.v_by_v * v + (T)by.v_by_normal * normal + (T)by.v_shift, at);
  }
};

// The upward pass of batch norm. One block per strip of columns.
template <typename T> struct BatchNormUp {
  Passed<T> passed;
  const T *weight;
  Up<T> up;
  // Output: the gradient by the norm's weight.
  T *of_weight;

  DEVICE void run() const {
    Strip strip(passed.cells, passed.width);
    for (; strip.goes_on(); strip.next()) {
      int64_t column = strip.column;
      Norm<T> norm = passed.norm(strip);
      double sums[5];
      strip.sums_over_rows<T>(sums, [&](int64_t row, T *numbers) {
        int64_t at = row * passed.width + column;
        up.numbers(at, norm.of(passed.input[at]), numbers);
      });
      if (!strip.is_there())
        continue;
      PenaltyLines lines(sums, passed.cells);
      if (strip.is_first_lane())
        of_weight[column] = (T)((double)passed.cells * lines.core() * (double)norm.inverse);
      auto by = lines.factors((double)weight[column] * (double)norm.inverse, (double)norm.inverse);
      strip.for_rows([&](int64_t row) {
        int64_t at = row * passed.width + column;
        up.put(at, norm.of(passed.input[at]), by, passed);
      });
    }
  }
};

// The downward pass of layer norm, which has no weight. Blocks stride over the cells.
template <typename T> struct LayerNormDown {
  Passed<T> passed;
  Above<T> above;
  // As in BatchNormDown.
  T *gradient, *by_input;

  DEVICE void run() const {
    for (int64_t row = block_x(); row < passed.cells; row += blocks_x()) {
      int64_t start = row * passed.width, end = start + passed.width;
      Norm<T> norm = passed.norm(row);
      double level = 0, tilt = 0;
      for (int64_t at = start + thread_index(); at < end; at += thread_count()) {
        gradient[at] = passed.through(above.at(row, at - start), at);
        level += (double)gradient[at];
        tilt += (double)(gradient[at] * norm.of(passed.input[at]));
      }
      T mean_level = (T)(block_sum(level) / (double)passed.width), mean_tilt = (T)(block_sum(tilt) / (double)passed.width);
      for (int64_t at = start + thread_index(); at < end; at += thread_count())
        by_input[at] = (gradient[at] - mean_level - norm.of(passed.input[at]) * mean_tilt) * norm.inverse;
    }
  }
};

// The upward pass of layer norm. Blocks stride over the cells.
template <typename T> struct LayerNormUp {
  Passed<T> passed;
  Up<T> up;

  DEVICE void run() const {
    for (int64_t row = block_x(); row < passed.cells; row += blocks_x()) {
      int64_t start = row * passed.width, end = start + passed.width;
      Norm<T> norm = passed.norm(row);
      double sums[5] = {};
      for (int64_t at = start + thread_index(); at < end; at += thread_count()) {
        T numbers[5];
        up.numbers(at, norm.of(passed.input[at]), numbers);
        for (int n = 0; n < 5; n++)
          sums[n] += (double)numbers[n];
      }
      for (double &sum : sums)
        sum = block_sum(sum);
      PenaltyLines lines(sums, passed.width);
      auto by = lines.factors((double)norm.inverse, (double)norm.inverse);
      for (int64_t at = start + thread_index(); at < end; at += thread_count())
        up.put(at, norm.of(passed.input[at]), by, passed);
    }
  }
};

// Both passes without a norm: only the mask.
template <typename T> struct CutThrough {
  Passed<T> passed;
  Above<T> above;
  T *out;

  DEVICE void run() const {
    int64_t all = passed.cells * passed.width;
    for (int64_t at = (int64_t)block_x() * thread_count() + thread_index(); at < all; at += (int64_t)blocks_x() * thread_count())
      out[at] = passed.through(above.at(at / passed.width, at % passed.width), at);
  }
};

// The penalty, which is the mean of e² over cells and latent, as one partial sum per block; and the start of its adjoint,
// v = 2 weight e / numel.
template <typename T> struct PenaltyValue {
  const T *e;
  T *adjoint;
  // `[blocks]`: the partial sums.
  double *parts;
  int64_t numbers;
  double weight;

  DEVICE void run() const {
    T factor = (T)(2.0 * weight / (double)numbers);
    double sum = 0;
    for (int64_t at = (int64_t)block_x() * thread_count() + thread_index(); at < numbers; at += (int64_t)blocks_x() * thread_count()) {
      sum += (double)(e[at] * e[at]);
      adjoint[at] = e[at] * factor;
    }
    sum = block_sum(sum);
    if (thread_index() == 0)
      parts[block_x()] = sum / (double)numbers;
  }
};

// Adds a row to every row of a matrix `[rows, width]`.
template <typename T> struct AddRow {
  T *matrix;
  const T *row;
  int64_t rows, width;

  DEVICE void run() const {
    int64_t all = rows * width;
    for (int64_t at = (int64_t)block_x() * thread_count() + thread_index(); at < all; at += (int64_t)blocks_x() * thread_count())
      matrix[at] += row[at % width];
  }
};

// Sums partial sums to a scalar. One block.
template <typename T> struct SumOfParts {
  const double *parts;
  int64_t count;
  T *sum;

  DEVICE void run() const {
    double all = 0;
    for (int64_t at = thread_index(); at < count; at += thread_count())
      all += parts[at];
    all = block_sum(all);
    if (thread_index() == 0)
      *sum = (T)all;
  }
};
