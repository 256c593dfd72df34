// cuBLAS: the products that libtorch asks for.
#include <stdlib.h>

#include "stand_in.h"

enum { SUCCESS = 0, EXECUTION_FAILED = 13 };
// Of cublasComputeType_t, those whose factors are not float32.
enum { COMPUTE_64F = 70, COMPUTE_64F_PEDANTIC = 71 };

struct handle {
  cudaStream_t stream;
  int math_mode;
  int pointer_mode;
};

static int status_of(cudaError_t error) { return error ? EXECUTION_FAILED : SUCCESS; }

int cublasCreate_v2(struct handle **out) {
  if (standin_lost() || standin_forbidden_in_capture("cublasCreate"))
    return EXECUTION_FAILED;
  *out = calloc(1, sizeof **out);
  return SUCCESS;
}

int cublasDestroy_v2(struct handle *handle) {
  free(handle);
  return SUCCESS;
}

int cublasSetStream_v2(struct handle *handle, cudaStream_t stream) {
  handle->stream = stream;
  return SUCCESS;
}

int cublasSetWorkspace_v2(struct handle *handle, void *workspace, size_t bytes) { return SUCCESS; }

int cublasSetMathMode(struct handle *handle, int mode) {
  handle->math_mode = mode;
  return SUCCESS;
}

int cublasGetMathMode(struct handle *handle, int *mode) {
  *mode = handle->math_mode;
  return SUCCESS;
}

int cublasSetPointerMode_v2(struct handle *handle, int mode) {
  handle->pointer_mode = mode;
  return SUCCESS;
}

int cublasGetPointerMode_v2(struct handle *handle, int *mode) {
  *mode = handle->pointer_mode;
  return SUCCESS;
}

static int gemm(struct handle *handle, const char *name, int transpose_a, int transpose_b, int rows, int columns, int inner,
                double alpha, const void *a, int type_a, int lda, long long stride_a, const void *b, int type_b, int ldb,
                long long stride_b, double beta, void *c, int type_c, int ldc, long long stride_c, int count) {
  struct product product = {
      .types = {type_a, type_b, type_c},
      .is_transposed = {transpose_a != 0, transpose_b != 0},
      .rows = rows,
      .columns = columns,
      .inner = inner,
      .alpha = alpha,
      .beta = beta,
      .a = a,
      .b = b,
      .c = c,
      .leading = {lda, ldb, ldc},
      .strides = {stride_a, stride_b, stride_c},
      .count = count,
  };
  return status_of(standin_multiply(handle->stream, name, &product));
}

int cublasSgemm_v2(struct handle *handle, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda,
                   const float *b, int ldb, const float *beta, float *c, int ldc) {
  return gemm(handle, "cublasSgemm", ta, tb, m, n, k, *alpha, a, CUDA_R_32F, lda, 0, b, CUDA_R_32F, ldb, 0, *beta, c, CUDA_R_32F, ldc,
              0, 1);
}

int cublasDgemm_v2(struct handle *handle, int ta, int tb, int m, int n, int k, const double *alpha, const double *a, int lda,
                   const double *b, int ldb, const double *beta, double *c, int ldc) {
  return gemm(handle, "cublasDgemm", ta, tb, m, n, k, *alpha, a, CUDA_R_64F, lda, 0, b, CUDA_R_64F, ldb, 0, *beta, c, CUDA_R_64F, ldc,
              0, 1);
}

int cublasSgemmStridedBatched(struct handle *handle, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda,
                              long long sa, const float *b, int ldb, long long sb, const float *beta, float *c, int ldc, long long sc,
                              int count) {
  return gemm(handle, "cublasSgemmStridedBatched", ta, tb, m, n, k, *alpha, a, CUDA_R_32F, lda, sa, b, CUDA_R_32F, ldb, sb, *beta, c,
              CUDA_R_32F, ldc, sc, count);
}

int cublasDgemmStridedBatched(struct handle *handle, int ta, int tb, int m, int n, int k, const double *alpha, const double *a,
                              int lda, long long sa, const double *b, int ldb, long long sb, const double *beta, double *c, int ldc,
                              long long sc, int count) {
  return gemm(handle, "cublasDgemmStridedBatched", ta, tb, m, n, k, *alpha, a, CUDA_R_64F, lda, sa, b, CUDA_R_64F, ldb, sb, *beta, c,
              CUDA_R_64F, ldc, sc, count);
}

static double factor(const void *factor, int compute) {
  int is_wide = compute == COMPUTE_64F || compute == COMPUTE_64F_PEDANTIC;
  return is_wide ? *(const double *)factor : *(const float *)factor;
}

int cublasGemmEx(struct handle *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int type_a, int lda,
                 const void *b, int type_b, int ldb, const void *beta, void *c, int type_c, int ldc, int compute, int algorithm) {
  return gemm(handle, "cublasGemmEx", ta, tb, m, n, k, factor(alpha, compute), a, type_a, lda, 0, b, type_b, ldb, 0,
              factor(beta, compute), c, type_c, ldc, 0, 1);
}

int cublasGemmStridedBatchedEx(struct handle *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a,
                               int type_a, int lda, long long sa, const void *b, int type_b, int ldb, long long sb, const void *beta,
                               void *c, int type_c, int ldc, long long sc, int count, int compute, int algorithm) {
  return gemm(handle, "cublasGemmStridedBatchedEx", ta, tb, m, n, k, factor(alpha, compute), a, type_a, lda, sa, b, type_b, ldb, sb,
              factor(beta, compute), c, type_c, ldc, sc, count);
}

// A vector is a matrix of one column, each of whose numbers is a line.
static int gemv(struct handle *handle, const char *name, int type, int transpose, int m, int n, double alpha, const void *a, int lda,
                const void *x, int step_x, double beta, void *y, int step_y) {
  int rows = transpose ? n : m, inner = transpose ? m : n;
  // The result is computed as a row, so that its step is that from column to column: yᵀ = xᵀ · op(A)ᵀ.
  return gemm(handle, name, 0, !transpose, 1, rows, inner, alpha, x, type, step_x, 0, a, type, lda, 0, beta, y, type, step_y, 0, 1);
}

int cublasSgemv_v2(struct handle *handle, int transpose, int m, int n, const float *alpha, const float *a, int lda, const float *x,
                   int step_x, const float *beta, float *y, int step_y) {
  return gemv(handle, "cublasSgemv", CUDA_R_32F, transpose, m, n, *alpha, a, lda, x, step_x, *beta, y, step_y);
}

int cublasDgemv_v2(struct handle *handle, int transpose, int m, int n, const double *alpha, const double *a, int lda, const double *x,
                   int step_x, const double *beta, double *y, int step_y) {
  return gemv(handle, "cublasDgemv", CUDA_R_64F, transpose, m, n, *alpha, a, lda, x, step_x, *beta, y, step_y);
}

// The result is on the device: libtorch asks for that by the pointer mode.
static int dot(struct handle *handle, const char *name, int type, int count, const void *x, int step_x, const void *y, int step_y,
               void *out) {
  return gemm(handle, name, 0, 1, 1, 1, count, 1, x, type, step_x, 0, y, type, step_y, 0, 0, out, type, 1, 0, 1);
}

int cublasSdot_v2(struct handle *handle, int count, const float *x, int step_x, const float *y, int step_y, float *out) {
  return dot(handle, "cublasSdot", CUDA_R_32F, count, x, step_x, y, step_y, out);
}

int cublasDdot_v2(struct handle *handle, int count, const double *x, int step_x, const double *y, int step_y, double *out) {
  return dot(handle, "cublasDdot", CUDA_R_64F, count, x, step_x, y, step_y, out);
}

int cublasDotEx(struct handle *handle, int count, const void *x, int type_x, int step_x, const void *y, int type_y, int step_y,
                void *out, int type_out, int compute) {
  return dot(handle, "cublasDotEx", type_x, count, x, step_x, y, step_y, out);
}
