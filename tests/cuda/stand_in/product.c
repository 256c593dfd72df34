// Matrix products on the host, for cuBLAS and cuBLASLt.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stand_in.h"

double standin_load(const void *numbers, int type, long long at) {
  switch (type) {
  case CUDA_R_32F:
    return ((const float *)numbers)[at];
  case CUDA_R_64F:
    return ((const double *)numbers)[at];
  case CUDA_R_16BF: {
    uint32_t bits = (uint32_t)((const uint16_t *)numbers)[at] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }
  default:
    fprintf(stderr, "stand-in for CUDA: products of the data type %d are not computed\n", type);
    abort();
  }
}

void standin_store(void *numbers, int type, long long at, double value) {
  float narrow = (float)value;
  uint32_t bits;
  switch (type) {
  case CUDA_R_32F:
    ((float *)numbers)[at] = narrow;
    break;
  case CUDA_R_64F:
    ((double *)numbers)[at] = value;
    break;
  case CUDA_R_16BF:
    // To the nearest, to even where two are as near.
    memcpy(&bits, &narrow, sizeof bits);
    ((uint16_t *)numbers)[at] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    break;
  default:
    fprintf(stderr, "stand-in for CUDA: products of the data type %d are not computed\n", type);
    abort();
  }
}

// A matrix in float64 whose lines, of `inner` numbers each, lie one after another.
static double *lines_of(const void *numbers, int type, long long lines, long long inner, long long step_of_line,
                        long long step_within) {
  double *out = malloc((size_t)(lines * inner + 1) * sizeof *out);
  for (long long line = 0; line < lines; line++)
    for (long long at = 0; at < inner; at++)
      out[line * inner + at] = standin_load(numbers, type, line * step_of_line + at * step_within);
  return out;
}

static const void *element(const void *numbers, int type, long long at) {
  size_t bytes = type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2;
  return (const char *)numbers + (size_t)at * bytes;
}

static void multiply_one(const struct product *p, const void *a, const void *b, void *c) {
  long long lda = p->leading[0], ldb = p->leading[1], ldc = p->leading[2];
  double *rows = p->is_transposed[0] ? lines_of(a, p->types[0], p->rows, p->inner, lda, 1)
                                     : lines_of(a, p->types[0], p->rows, p->inner, 1, lda);
  double *columns = p->is_transposed[1] ? lines_of(b, p->types[1], p->columns, p->inner, 1, ldb)
                                        : lines_of(b, p->types[1], p->columns, p->inner, ldb, 1);
  for (long long column = 0; column < p->columns; column++)
    for (long long row = 0; row < p->rows; row++) {
      double sum = 0;
      for (long long at = 0; at < p->inner; at++)
        sum += rows[row * p->inner + at] * columns[column * p->inner + at];
      double value = p->alpha * sum;
      // C is not read where nothing of it stays: it may hold no number.
      if (p->beta != 0)
        value += p->beta * standin_load(c, p->types[2], row + column * ldc);
      if (p->bias)
        value += standin_load(p->bias, p->bias_type, row);
      if (p->has_relu && value < 0)
        value = 0;
      standin_store(c, p->types[2], row + column * ldc, value);
    }
  free(rows);
  free(columns);
}

static void run_product(void *arguments) {
  const struct product *p = arguments;
  for (long long at = 0; at < p->count; at++)
    multiply_one(p, element(p->a, p->types[0], at * p->strides[0]), element(p->b, p->types[1], at * p->strides[1]),
                 (void *)element(p->c, p->types[2], at * p->strides[2]));
}

cudaError_t standin_multiply(cudaStream_t stream, const char *name, const struct product *product) {
  cudaError_t error = standin_lost();
  if (error)
    return error;
  standin_trace("launch s%d %s", standin_stream(stream)->id, name);
  struct work work = {.kind = KERNEL, .kernel = standin_named_kernel(name)};
  if (standin_has_values() && product) {
    work.run = run_product;
    work.arguments = standin_copy_of(product, sizeof *product);
    work.arguments_bytes = sizeof *product;
  }
  return standin_submit(stream, work);
}
