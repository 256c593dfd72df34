// The backward pass of a gradient penalty (down) and its adjoint (up) through a norm, ReLU and dropout. The formulas are those of
// src/kernels/penalty.rs.

#pragma once

#include "layer.cuh"
#include "platform.h"
#include "strip.cuh"

// The upward pass as a linear function of v, d and x̂, from means over the norm's dimension.
struct PenaltyLines {
  double d, d_normal, v, v_normal, v_d;

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

// Down through batch norm. One block per strip of columns.
template <typename T> struct BatchNormDown {
  const T *input, *output, *mean, *inverse, *weight;
  // The gradient from above, `[cells, width]`; with `rows_apart` 0, all cells share one row.
  const T *above;
  int64_t rows_apart;
  // Outputs: d and dx, `[cells, width]`.
  T *gradient, *by_input;
  int64_t cells, width;
  Dropout dropout;

  DEVICE void run() const {
    Strip strip(cells, width);
    for (; strip.goes_on(); strip.next()) {
      int64_t column = strip.column;
      T centre = strip.is_there() ? mean[column] : (T)0, one_over = strip.is_there() ? inverse[column] : (T)0;
      auto normal = [&](int64_t row) { return (input[row * width + column] - centre) * one_over; };
      strip.for_rows([&](int64_t row) {
        int64_t at = row * width + column;
        gradient[at] = dropout.through(above[row * rows_apart + column], output[at]);
      });
      double level = strip.sum_over_rows<T>([&](int64_t row) { return gradient[row * width + column]; });
      double tilt = strip.sum_over_rows<T>([&](int64_t row) { return normal(row) * gradient[row * width + column]; });
      T mean_level = (T)(level / (double)cells), mean_tilt = (T)(tilt / (double)cells);
      T slope = strip.is_there() ? weight[column] * one_over : (T)0;
      strip.for_rows([&](int64_t row) {
        int64_t at = row * width + column;
        by_input[at] = (gradient[at] - mean_level - normal(row) * mean_tilt) * slope;
      });
    }
  }
};

// The upward pass. One block per strip of columns.
template <typename T> struct BatchNormUp {
  const T *input, *output, *mean, *inverse, *weight;
  // d from the downward pass.
  const T *gradient;
  // v, before and after.
  T *adjoint;
  // Output: the term added to the norm's input.
  T *onto;
  // Output: the gradient by the norm's weight.
  T *of_weight;
  int64_t cells, width;
  Dropout dropout;

  DEVICE void run() const {
    Strip strip(cells, width);
    for (; strip.goes_on(); strip.next()) {
      int64_t column = strip.column;
      T centre = strip.is_there() ? mean[column] : (T)0, one_over = strip.is_there() ? inverse[column] : (T)0;
      auto normal = [&](int64_t row) { return (input[row * width + column] - centre) * one_over; };
      auto d = [&](int64_t row) { return gradient[row * width + column]; };
      auto v = [&](int64_t row) { return adjoint[row * width + column]; };
      double all = (double)cells;
      PenaltyLines lines;
      lines.d = strip.sum_over_rows<T>(d) / all;
      lines.d_normal = strip.sum_over_rows<T>([&](int64_t row) { return normal(row) * d(row); }) / all;
      lines.v = strip.sum_over_rows<T>(v) / all;
      lines.v_normal = strip.sum_over_rows<T>([&](int64_t row) { return normal(row) * v(row); }) / all;
      lines.v_d = strip.sum_over_rows<T>([&](int64_t row) { return v(row) * d(row); }) / all;
      if (!strip.is_there())
        continue;
      if (strip.is_first_lane())
        of_weight[column] = (T)(all * lines.core() * (double)one_over);
      auto by = lines.factors((double)weight[column] * (double)one_over, (double)one_over);
      strip.for_rows([&](int64_t row) {
        int64_t at = row * width + column;
        T x = normal(row), adjoint_here = v(row);
        onto[at] = (T)by.by_v * adjoint_here + (T)by.by_d * d(row) + (T)by.by_normal * x + (T)by.shift;
        adjoint[at] =
            dropout.through((T)by.v_by_v * adjoint_here + (T)by.v_by_normal * x + (T)by.v_shift, output[at]);
      });
    }
  }
};

// Down through layer norm, which has no weight. Blocks stride over the cells.
template <typename T> struct LayerNormDown {
  const T *input, *output, *mean, *inverse;
  // As in BatchNormDown.
  const T *above;
  int64_t rows_apart;
  T *gradient, *by_input;
  int64_t cells, width;
  Dropout dropout;

  DEVICE void run() const {
    for (int64_t row = block_x(); row < cells; row += blocks_x()) {
      int64_t start = row * width;
      T centre = mean[row], one_over = inverse[row];
      double level = 0, tilt = 0;
      for (int64_t at = thread_index(); at < width; at += thread_count()) {
        T d = dropout.through(above[row * rows_apart + at], output[start + at]);
        gradient[start + at] = d;
        level += (double)d;
        tilt += (double)(d * ((input[start + at] - centre) * one_over));
      }
      T mean_level = (T)(block_sum(level) / (double)width), mean_tilt = (T)(block_sum(tilt) / (double)width);
      for (int64_t at = thread_index(); at < width; at += thread_count()) {
        T normal = (input[start + at] - centre) * one_over;
        by_input[start + at] = (gradient[start + at] - mean_level - normal * mean_tilt) * one_over;
      }
    }
  }
};

// The upward pass. Blocks stride over the cells.
template <typename T> struct LayerNormUp {
  const T *input, *output, *mean, *inverse;
  // As in BatchNormUp.
  const T *gradient;
  T *adjoint, *onto;
  int64_t cells, width;
  Dropout dropout;

  DEVICE void run() const {
    for (int64_t row = block_x(); row < cells; row += blocks_x()) {
      int64_t start = row * width;
      T centre = mean[row], one_over = inverse[row];
      double d = 0, d_normal = 0, v = 0, v_normal = 0, v_d = 0;
      for (int64_t at = start + thread_index(); at < start + width; at += thread_count()) {
        T normal = (input[at] - centre) * one_over;
        d += (double)gradient[at];
        d_normal += (double)(normal * gradient[at]);
        v += (double)adjoint[at];
        v_normal += (double)(normal * adjoint[at]);
        v_d += (double)(adjoint[at] * gradient[at]);
      }
      double all = (double)width;
      PenaltyLines lines;
      lines.d = block_sum(d) / all;
      lines.d_normal = block_sum(d_normal) / all;
      lines.v = block_sum(v) / all;
      lines.v_normal = block_sum(v_normal) / all;
      lines.v_d = block_sum(v_d) / all;
      auto by = lines.factors((double)one_over, (double)one_over);
      for (int64_t at = start + thread_index(); at < start + width; at += thread_count()) {
        T normal = (input[at] - centre) * one_over, adjoint_here = adjoint[at];
        onto[at] = (T)by.by_v * adjoint_here + (T)by.by_d * gradient[at] + (T)by.by_normal * normal + (T)by.shift;
        adjoint[at] =
            dropout.through((T)by.v_by_v * adjoint_here + (T)by.v_by_normal * normal + (T)by.v_shift, output[at]);
      }
    }
  }
};

// Down and up without a norm: only the mask. With `rows_apart` 0, all cells share one row from above.
template <typename T> struct CutThrough {
  const T *output, *above;
  int64_t rows_apart;
  T *out;
  int64_t cells, width;
  Dropout dropout;

  DEVICE void run() const {
    int64_t all = cells * width;
    for (int64_t at = (int64_t)block_x() * thread_count() + thread_index(); at < all; at += (int64_t)blocks_x() * thread_count())
      out[at] = dropout.through(above[at / width * rows_apart + at % width], output[at]);
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
