// cuBLASLt: products with what comes after them.
#include <stdlib.h>
#include <string.h>

#include "stand_in.h"

enum { SUCCESS = 0, EXECUTION_FAILED = 13 };
// Attributes of a product, of cublasLtMatmulDescAttributes_t.
enum { TRANSPOSE_A = 3, TRANSPOSE_B = 4, EPILOGUE = 7, BIAS_POINTER = 8 };
// What comes after it, of cublasLtEpilogue_t: these may be combined.
enum { EPILOGUE_NONE = 1, EPILOGUE_RELU = 2, EPILOGUE_BIAS = 4 };
// Attributes of a matrix, of cublasLtMatrixLayoutAttribute_t.
enum { BATCH_COUNT = 5, BATCH_STRIDE = 6 };

struct description {
  int scale_type;
  int transpose_a, transpose_b, epilogue;
  const void *bias;
};

struct layout {
  int type, batch_count;
  unsigned long long rows, columns;
  long long leading, batch_stride;
};

// As long as the real one, of which libtorch holds some by value.
struct heuristic {
  unsigned long long algorithm[8];
  size_t workspace_bytes;
  int status;
  float waves;
  int reserved[4];
};

size_t cublasLtGetVersion(void) { return 130000; }

int cublasLtCreate(void **out) {
  *out = calloc(1, 8);
  return SUCCESS;
}

int cublasLtMatmulDescCreate(struct description **out, int compute, int scale_type) {
  *out = calloc(1, sizeof **out);
  (*out)->scale_type = scale_type;
  (*out)->epilogue = EPILOGUE_NONE;
  return SUCCESS;
}

int cublasLtMatmulDescDestroy(struct description *description) {
  free(description);
  return SUCCESS;
}

int cublasLtMatmulDescSetAttribute(struct description *description, int attribute, const void *value, size_t bytes) {
  if (attribute == TRANSPOSE_A)
    memcpy(&description->transpose_a, value, sizeof(int));
  else if (attribute == TRANSPOSE_B)
    memcpy(&description->transpose_b, value, sizeof(int));
  else if (attribute == EPILOGUE)
    memcpy(&description->epilogue, value, sizeof(int));
  else if (attribute == BIAS_POINTER)
    memcpy(&description->bias, value, sizeof(void *));
  return SUCCESS;
}

int cublasLtMatrixLayoutCreate(struct layout **out, int type, unsigned long long rows, unsigned long long columns, long long leading) {
  *out = calloc(1, sizeof **out);
  **out = (struct layout){type, 1, rows, columns, leading, 0};
  return SUCCESS;
}

int cublasLtMatrixLayoutDestroy(struct layout *layout) {
  free(layout);
  return SUCCESS;
}

int cublasLtMatrixLayoutSetAttribute(struct layout *layout, int attribute, const void *value, size_t bytes) {
  if (attribute == BATCH_COUNT)
    memcpy(&layout->batch_count, value, sizeof(int));
  else if (attribute == BATCH_STRIDE)
    memcpy(&layout->batch_stride, value, sizeof(long long));
  return SUCCESS;
}

int cublasLtMatmulPreferenceCreate(void **out) {
  *out = calloc(1, 8);
  return SUCCESS;
}

int cublasLtMatmulPreferenceDestroy(void *preference) {
  free(preference);
  return SUCCESS;
}

int cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value, size_t bytes) { return SUCCESS; }

int cublasLtMatmulAlgoGetHeuristic(void *handle, struct description *description, struct layout *a, struct layout *b,
                                   struct layout *c, struct layout *d, void *preference, int wanted, struct heuristic *found,
                                   int *count) {
  memset(found, 0, sizeof *found);
  *count = 1;
  return SUCCESS;
}

int cublasLtMatmul(void *handle, struct description *description, const void *alpha, const void *a, struct layout *of_a, const void *b,
                   struct layout *of_b, const void *beta, const void *c, struct layout *of_c, void *d, struct layout *of_d,
                   const void *algorithm, void *workspace, size_t bytes, cudaStream_t stream) {
  int epilogue = description->epilogue & ~EPILOGUE_NONE;
  if (standin_has_values() && (epilogue & ~(EPILOGUE_RELU | EPILOGUE_BIAS))) {
    standin_missing("an epilogue of cublasLtMatmul");
    return EXECUTION_FAILED;
  }
  int is_wide = description->scale_type == CUDA_R_64F;
  struct product product = {
      .types = {of_a->type, of_b->type, of_d->type},
      .is_transposed = {description->transpose_a != 0, description->transpose_b != 0},
      .rows = (long long)of_d->rows,
      .columns = (long long)of_d->columns,
      .inner = (long long)(description->transpose_a ? of_a->rows : of_a->columns),
      .alpha = is_wide ? *(const double *)alpha : *(const float *)alpha,
      .beta = is_wide ? *(const double *)beta : *(const float *)beta,
      .a = a,
      .b = b,
      .c = d,
      .leading = {of_a->leading, of_b->leading, of_d->leading},
      .strides = {of_a->batch_stride, of_b->batch_stride, of_d->batch_stride},
      .count = of_d->batch_count,
      .bias = epilogue & EPILOGUE_BIAS ? description->bias : 0,
      .bias_type = of_d->type,
      .has_relu = (epilogue & EPILOGUE_RELU) != 0,
  };
  // libtorch gives the same matrix for C and D, or none of C stays.
  if (c != d && product.beta != 0 && standin_has_values()) {
    standin_missing("cublasLtMatmul into another matrix than C");
    return EXECUTION_FAILED;
  }
  return standin_multiply(stream, "cublasLtMatmul", &product) ? EXECUTION_FAILED : SUCCESS;
}
