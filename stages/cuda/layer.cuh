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
  const T *input, *output, *weight, *mean, *inverse;
  // `[cells, width]` and `[width]`, or null.
  const T *onto, *onto_weight;
  // The gradient by the output, overwritten by that of the input.
  T *gradient;
  // Outputs: the gradients by weight, bias and the linear layer's bias, `[width]`.
  T *of_weight, *of_bias, *of_linear_bias;
  int64_t cells, width;
  Dropout dropout;

  // dx = w/s (e − Σe/n − x̂ Σ(e x̂)/n), which is linear in e and x for each feature.
  DEVICE void run() const {
    Strip strip(cells, width);
    for (; strip.goes_on(); strip.next()) {
      int64_t column = strip.column;
      T centre = strip.is_there() ? mean[column] : (T)0, one_over = strip.is_there() ? inverse[column] : (T)0;
      auto through = [&](int64_t row) { return dropout.through(gradient[row * width + column], output[row * width + column]); };
      double level = strip.sum_over_rows<T>(through);
      double product =
          strip.sum_over_rows<T>([&](int64_t row) { return (input[row * width + column] - centre) * (through(row) * one_over); });
      T scale = strip.is_there() ? weight[column] * one_over : (T)0;
      T tilt = (T)((double)one_over * product / (double)cells), shift = (T)(level / (double)cells);
      strip.for_rows([&](int64_t row) {
        int64_t at = row * width + column;
        T slope = through(row);
        gradient[at] = (slope - shift - (input[at] - centre) * tilt) * scale + (onto ? onto[at] : (T)0);
      });
      double of_linear = strip.sum_over_rows<T>([&](int64_t row) { return gradient[row * width + column]; });
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
  const T *input, *output, *mean, *inverse;
  // `[cells, width]`, or null.
  const T *onto;
  // The gradient by the output, overwritten by that of the input.
  T *gradient;
  int64_t cells, width;
  Dropout dropout;

  DEVICE void run() const {
    for (int64_t row = block_x(); row < cells; row += blocks_x()) {
      const T *x = input + row * width, *out = output + row * width;
      T *e = gradient + row * width;
      T centre = mean[row], one_over = inverse[row];
      double level = 0, product = 0;
      for (int64_t at = thread_index(); at < width; at += thread_count()) {
        e[at] = dropout.through(e[at], out[at]);
        level += (double)e[at];
        product += (double)(e[at] * (x[at] - centre) * one_over);
      }
      T shift = (T)(block_sum(level) / (double)width);
      T tilt = (T)(block_sum(product) / (double)width * (double)one_over);
      for (int64_t at = thread_index(); at < width; at += thread_count())
        e[at] = (e[at] - shift - (x[at] - centre) * tilt) * one_over + (onto ? onto[row * width + at] : (T)0);
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

// The backward pass of CutForward, with `onto` as in BatchNormBackward, or null.
template <typename T> struct CutBackward {
  const T *output, *onto;
  T *gradient;
  int64_t cells, width;
  Dropout dropout;

  DEVICE void run() const {
    int64_t all = cells * width;
    for (int64_t at = (int64_t)block_x() * thread_count() + thread_index(); at < all; at += (int64_t)blocks_x() * thread_count())
      gradient[at] = dropout.through(gradient[at], output[at]) + (onto ? onto[at] : (T)0);
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
