// Every kernel of Perturbine's own: compiled by NVRTC into code for devices, and as C++ for the host (platform.h says more).

#include "platform.h"

// numbers[row, column] *= factor / Σ numbers[row, ·], one block a row. An example, which tests run.
template <typename T> struct ScaleRows {
  T *numbers;
  int64_t columns;
  double factor;

  DEVICE void run() const {
    T *row = numbers + static_cast<int64_t>(block_x()) * columns;
    double sum = 0;
    for (int64_t at = thread_index(); at < columns; at += thread_count())
      sum += static_cast<double>(row[at]);
    T scale = static_cast<T>(factor / block_sum(sum));
    for (int64_t at = thread_index(); at < columns; at += thread_count())
      row[at] *= scale;
  }
};
KERNEL(scale_rows, ScaleRows)
