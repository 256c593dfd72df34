// Mixup: every cell is mixed with another one (Zhang et al. 2018).

#pragma once

#include "platform.h"

struct Mixing {
  // The partner of each cell, and the cell whose partner it is, `[cells]`; null without mixup.
  const int64_t *partners, *partner_of;
  // A cell's own share, a scalar.
  const double *share;

  DEVICE bool is_on() const { return partners != 0; }

  template <typename T> DEVICE T keeps() const { return (T)*share; }

  template <typename T> DEVICE T takes() const { return (T)(1.0 - *share); }

  // `of` for a cell, mixed with `of` for its partner.
  template <typename T, typename F> DEVICE T mixed(int64_t cell, F of) const {
    return is_on() ? keeps<T>() * of(cell) + takes<T>() * of(partners[cell]) : of(cell);
  }
};
