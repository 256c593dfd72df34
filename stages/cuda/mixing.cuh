// Mixup: every cell is mixed with another one (Zhang et al. 2018).

#pragma once

#include "platform.h"

struct Mixing {
  // The other cell of each, and the cell whose other one each is, `[cells]`; null where cells stay themselves.
  const int64_t *partners, *partner_of;
  // The share that a cell keeps of itself, a scalar.
  const double *share;

  DEVICE bool is_on() const { return partners != 0; }

  template <typename T> DEVICE T keeps() const { return (T)*share; }

  template <typename T> DEVICE T takes() const { return (T)(1.0 - *share); }

  // What `of` gives for a cell, mixed with what it gives for the other one.
  template <typename T, typename F> DEVICE T mixed(int64_t cell, F of) const {
    return is_on() ? keeps<T>() * of(cell) + takes<T>() * of(partners[cell]) : of(cell);
  }
};
