// The rest of a hidden layer after its linear part, forward and backward: a norm over cells or features, ReLU and dropout, of activations
// `[cells, width]`. The formulas are those of src/kernels/layer.rs.
//
// An activation is 0 if ReLU or dropout cut it and positive otherwise, so the output itself is the mask for the backward pass.

#pragma once

#include "platform.h"
#include "strip.cuh"

// Dropout as a function of seed, row and column. Mirrors `Dropout` in src/kernels/layer.rs, bit by bit.
struct Dropout {
  // The step's seed, on the device; the layer's seed is seed * multiplier + increment.
  const int64_t *seed;
  int64_t multiplier, increment;
  // Activations with a draw below this are dropped.
  int64_t threshold;
  // Factor of the remaining activations.
  double scale;

  // Every output bit depends on every input bit (multipliers from C. Wellons' search, `lowbias32`).
  DEVICE static uint32_t mixed(uint32_t bits) {
    bits = (bits ^ (bits >> 16)) * 0x7feb352du;
    bits = (bits ^ (bits >> 15)) * 0x846ca68bu;
    return bits ^ (bits >> 16);
  }

  DEVICE uint32_t of_row(int64_t row) const {
    if (threshold == 0)
      return 0;
    uint32_t of_layer = (uint32_t)*seed * (uint32_t)multiplier + (uint32_t)increment;
    return mixed(of_layer ^ mixed((uint32_t)row));
  }

  // ReLU and dropout of an activation; `start` belongs to its row.
  template <typename T> DEVICE T cut(T activation, uint32_t start, int64_t column) const {
    bool kept = (T)0 < activation && (threshold == 0 || (uint32_t)threshold <= mixed(start + (uint32_t)column * 0x9e3779b9u));
    return kept ? activation * (T)scale : (T)0;
  }

  // The gradient by the input of ReLU and dropout, from that by the output.
  template <typename T> DEVICE T through(T gradient, T output) const { return (T)0 < output ? gradient * (T)scale : (T)0; }
};

// The mean and the inverse deviation of a norm, for one feature or one cell.
template <typename T> struct Norm {
  T mean, inverse;

  DEVICE T of(T x) const { return (x - mean) * inverse; }
};

// A layer after its forward pass.
template <typename T> struct Passed {
  // The input of the norm, and the output after ReLU and dropout, `[cells, width]`. Without a norm, only the output is used.
  const T *input, *output;
  // One per feature with batch norm, one per cell with layer norm.
  const T *mean, *inverse;
  int64_t cells, width;
  Dropout dropout;

  DEVICE Norm<T> norm(int64_t at) const { return {mean[at], inverse[at]}; }

  // The norm of the strip's column.
  DEVICE Norm<T> norm(const Strip &strip) const { return strip.is_there() ? norm(strip.column) : Norm<T>{(T)0, (T)0}; }

  // The gradient by the input of ReLU and dropout, from the gradient by the output.
  DEVICE T through(T gradient, int64_t at) const { return dropout.through(gradient, output[at]); }
};

// Batch norm, ReLU and dropout, and the update of the running statistics. One block per strip of columns.
//
// The linear layer's bias is the same for every cell, so it only affects the running mean.
template <typename T> struct BatchNormForward {
  const T *input, *weight, *bias, *linear_bias;
  T *running_mean, *running_variance, *output;
  // Outputs: mean and inverse standard deviation of each feature, `[width]`.
  T *mean, *inverse;
  int64_t cells, width;
  double epsilon, momentum;
  Dropout dropout;

  DEVICE void run() const {
    Strip strip(cells, width);
    for (; strip.goes_on(); strip.next()) {
      int64_t column = strip.column;
      double sum = strip.sum_over_rows<T>([&](int64_t row) { return input[row * width + column]; });
      T centre = (T)(sum / (double)cells);
      double squares = strip.sum_over_rows<T>([&](int64_t row) {
        T off = input[row * width + column] - centre;
        return off * off;
      });
      double variance = squares / (double)cells;
      T one_over = (T)(1.0 / sqrt(variance + epsilon));
      if (!strip.is_there())
        continue;
      if (strip.is_first_lane()) {
        mean[column] = centre;
        inverse[column] = one_over;
        T share = (T)momentum, unbiased = (T)(variance * ((double)cells / ((double)cells - 1.0)));
        running_mean[column] += share * (centre + linear_bias[column] - running_mean[column]);
        running_variance[column] += share * (unbiased - running_variance[column]);
      }
      T slope = weight[column] * one_over, shift = bias[column];
      strip.for_rows([&](int64_t row) {
        T normal = (input[row * width + column] - centre) * slope + shift;
        output[row * width + column] = dropout.cut(normal, dropout.of_row(row), column);
      });
    }
  }
};

// The backward pass of BatchNormForward; `onto` and `onto_weight`, unless null, are added to the gradients by the linear
// layer's output and by the weight.
template <typename T> struct BatchNormBackward {
  Passed<T> passed;
  const T *weight;
  // `[cells, width]` and `[width]`, or null.
  const T *onto, *onto_weight;
  // The gradient by the output, overwritten by that of the input.
  T *gradient;
  // Outputs: the gradients by weight, bias and the linear layer's bias, `[width]`.
  T *of_weight, *of_bias, *of_linear_bias;

  // dx = w/s (e − Σe/n − x̂ Σ(e x̂)/n), which is linear in e and x for each feature.
  DEVICE void run() const {
    Strip strip(passed.cells, passed.width);
    for (; strip.goes_on(); strip.next()) {
      int64_t column = strip.column;
      Norm<T> norm = passed.norm(strip);
      double sums[2];
      strip.sums_over_rows<T>(sums, [&](int64_t row, T *numbers) {
        int64_t at = row * passed.width + column;
        T slope = passed.through(gradient[at], at);
        numbers[0] = slope;
        numbers[1] = slope * norm.of(passed.input[at]);
      });
      auto [level, product] = sums;
      T scale = strip.is_there() ? weight[column] * norm.inverse : (T)0;
      T shift = (T)(level / (double)passed.cells), tilt = (T)(product / (double)passed.cells);
      double of_linear = strip.sum_over_rows<T>([&](int64_t row) {
        int64_t at = row * passed.width + column;
        T slope = passed.through(gradient[at], at);
        return gradient[at] = (slope - shift - norm.of(passed.input[at]) * tilt) * scale + (onto ? onto[at] : (T)0);
      });
      if (strip.is_there() && strip.is_first_lane()) {
        of_weight[column] = (T)product + (onto_weight ? onto_weight[column] : (T)0);
        of_bias[column] = (T)level;
        of_linear_bias[column] = (T)of_linear;
      }
    }
  }
};

// The linear layer's bias, layer norm without weights, ReLU and dropout. Blocks stride over the cells.
template <typename T> struct LayerNormForward {
  // The bias is added to it.
  T *input;
  const T *linear_bias;
  T *output;
  // Outputs: mean and inverse standard deviation of each cell, `[cells]`.
  T *mean, *inverse;
  int64_t cells, width;
  double epsilon;
  Dropout dropout;

  DEVICE void run() const {
    for (int64_t row = block_x(); row < cells; row += blocks_x()) {
      T *x = input + row * width;
      double sum = 0;
      for (int64_t at = thread_index(); at < width; at += thread_count()) {
        x[at] += linear_bias[at];
        sum += (double)x[at];
      }
      T centre = (T)(block_sum(sum) / (double)width);
      double squares = 0;
      for (int64_t at = thread_index(); at < width; at += thread_count()) {
        T off = x[at] - centre;
        squares += (double)(off * off);
      }
      T one_over = (T)(1.0 / sqrt(block_sum(squares) / (double)width + epsilon));
      uint32_t start = dropout.of_row(row);
      for (int64_t at = thread_index(); at < width; at += thread_count())
        output[row * width + at] = dropout.cut((x[at] - centre) * one_over, start, at);
      if (thread_index() == 0) {
        mean[row] = centre;
        inverse[row] = one_over;
      }
    }
  }
};

// The backward pass of LayerNormForward, with `onto` as in BatchNormBackward.
template <typename T> struct LayerNormBackward {
  Passed<T> passed;
  // `[cells, width]`, or null.
  const T *onto;
  // The gradient by the output, overwritten by that of the input.
  T *gradient;

  DEVICE void run() const {
    for (int64_t row = block_x(); row < passed.cells; row += blocks_x()) {
      int64_t start = row * passed.width, end = start + passed.width;
      Norm<T> norm = passed.norm(row);
      double level = 0, product = 0;
      for (int64_t at = start + thread_index(); at < end; at += thread_count()) {
        gradient[at] = passed.through(gradient[at], at);
        level += (double)gradient[at];
        product += (double)(gradient[at] * norm.of(passed.input[at]));
      }
      T shift = (T)(block_sum(level) / (double)passed.width), tilt = (T)(block_sum(product) / (double)passed.width);
      for (int64_t at = start + thread_index(); at < end; at += thread_count())
        gradient[at] = (gradient[at] - shift - norm.of(passed.input[at]) * tilt) * norm.inverse + (onto ? onto[at] : (T)0);
    }
  }
};

// The linear layer's bias, ReLU and dropout, in place. Blocks stride over the cells.
template <typename T> struct CutForward {
  T *activations;
  const T *linear_bias;
  int64_t cells, width;
  Dropout dropout;

  DEVICE void run() const {
    for (int64_t row = block_x(); row < cells; row += blocks_x()) {
      uint32_t start = dropout.of_row(row);
      T *x = activations + row * width;
      for (int64_t at = thread_index(); at < width; at += thread_count())
        x[at] = dropout.cut(x[at] + linear_bias[at], start, at);
    }
  }
};

// The way back through CutForward, with `onto` as in BatchNormBackward.
template <typename T> struct CutBackward {
  Passed<T> passed;
  const T *onto;
  T *gradient;

  DEVICE void run() const {
    int64_t all = passed.cells * passed.width;
    for (int64_t at = (int64_t)block_x() * thread_count() + thread_index(); at < all; at += (int64_t)blocks_x() * thread_count())
      gradient[at] = passed.through(gradient[at], at) + (onto ? onto[at] : (T)0);
  }
};

// Sums over cells, `[width]`: the gradient by a bias. One block per strip of columns.
template <typename T> struct ColumnSums {
  const T *input;
  T *sums;
  int64_t cells, width;

  DEVICE void run() const {
    Strip strip(cells, width);
    for (; strip.goes_on(); strip.next()) {
      int64_t column = strip.column;
      double sum = strip.sum_over_rows<T>([&](int64_t row) { return input[row * width + column]; });
      if (strip.is_there() && strip.is_first_lane())
        sums[column] = (T)sum;
    }
  }
};
