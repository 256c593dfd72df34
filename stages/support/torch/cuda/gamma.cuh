// lnΓ and its derivative ψ of a positive number.

#pragma once

#include "platform.h"

template <typename T> struct GammaTerms {
  T value, slope;
};

// Γ(z) = Γ(z + n) / (z (z+1) ... (z+n−1)), and for ψ the sum of reciprocals is subtracted. From z + n on,
// the asymptotic series are accurate to the last bits (Abramowitz and Stegun 6.1.41, 6.3.18), with n = 6 for float32 and 12 for float64.
DEVICE GammaTerms<float> log_gamma_and_slope(float x) {
  constexpr float LARGE = 6.0f, HALF_LOG_TWO_PI = 0.9189385f;
  float product = 1.0f, derivative = 0.0f, z = x;
  if (x < LARGE) {
    product = x;
    derivative = 1.0f;
    for (int step = 1; step < 6; step++) {
      float factor = x + (float)step;
      derivative = derivative * factor + product;
      product *= factor;
    }
    z = x + LARGE;
  }
  float inverse = 1.0f / z, square = inverse * inverse, log_z = log(z);
  float series = (1.0f / 12.0f + square * (-1.0f / 360.0f + square * (1.0f / 1260.0f))) * inverse;
  float tail = square * (-1.0f / 12.0f + square * (1.0f / 120.0f + square * (-1.0f / 252.0f)));
  return {(z - 0.5f) * log_z + (HALF_LOG_TWO_PI - z) + series - log(product),
          log_z - 0.5f * inverse + tail - derivative / product};
}

DEVICE GammaTerms<double> log_gamma_and_slope(double x) {
  constexpr double LARGE = 12.0, HALF_LOG_TWO_PI = 0.91893853320467274178;
  double product = 1.0, derivative = 0.0, z = x;
  if (x < LARGE) {
    product = x;
    derivative = 1.0;
    for (int step = 1; step < 12; step++) {
      double factor = x + (double)step;
      derivative = derivative * factor + product;
      product *= factor;
    }
    z = x + LARGE;
  }
  double inverse = 1.0 / z, square = inverse * inverse, log_z = log(z);
  double series =
      (1.0 / 12.0 +
       square * (-1.0 / 360.0 +
                 square * (1.0 / 1260.0 +
                           square * (-1.0 / 1680.0 + square * (1.0 / 1188.0 + square * (-691.0 / 360360.0)))))) *
      inverse;
  double tail =
      square *
      (-1.0 / 12.0 +
       square * (1.0 / 120.0 +
                 square * (-1.0 / 252.0 +
                           square * (1.0 / 240.0 + square * (-1.0 / 132.0 + square * (691.0 / 32760.0))))));
  return {(z - 0.5) * log_z + (HALF_LOG_TWO_PI - z) + series - log(product),
          log_z - 0.5 * inverse + tail - derivative / product};
}
