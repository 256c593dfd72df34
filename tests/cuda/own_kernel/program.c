// Launches a kernel of a module, by itself and in a graph, and looks at what came of it. Arguments are those of the launch: what the
// program does with its variables afterwards changes nothing.

#include <cuda_runtime_api.h>
#include <stdio.h>

#define COUNT 100

static void check(cudaError_t error, const char *call) {
  if (error != cudaSuccess) {
    printf("%s: %s\n", call, cudaGetErrorString(error));
    fflush(stdout);
    __builtin_trap();
  }
}

#define CHECK(call) check(call, #call)

static cudaKernel_t kernel;
static cudaStream_t stream;
static float *x, *y;

static void launch(float factor) {
  int count = COUNT;
  void *arguments[] = {&y, &x, &factor, &count};
  dim3 grid = {4, 1, 1}, block = {32, 1, 1};
  CHECK(cudaLaunchKernel((const void *)kernel, grid, block, arguments, 0, stream));
  factor = 1000;
  count = 1;
}

static int is_everywhere(float wanted) {
  float found[COUNT];
  CHECK(cudaStreamSynchronize(stream));
  CHECK(cudaMemcpy(found, y, sizeof found, cudaMemcpyDefault));
  for (int at = 0; at < COUNT; at++)
    if (found[at] != wanted) {
      printf("%g is not %g\n", found[at], wanted);
      return 0;
    }
  return 1;
}

int main(void) {
  static const char code[] = "compiled code";
  float ones[COUNT];
  for (int at = 0; at < COUNT; at++)
    ones[at] = 1;
  cudaLibrary_t library;
  CHECK(cudaLibraryLoadData(&library, code, 0, 0, 0, 0, 0, 0));
  CHECK(cudaLibraryGetKernel(&kernel, library, "scale_add"));
  CHECK(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, 0));
  CHECK(cudaMalloc((void **)&x, sizeof ones));
  CHECK(cudaMalloc((void **)&y, sizeof ones));
  CHECK(cudaMemcpy(x, ones, sizeof ones, cudaMemcpyDefault));
  CHECK(cudaMemsetAsync(y, 0, sizeof ones, stream));
  launch(2);
  if (!is_everywhere(2))
    return 1;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  launch(3);
  CHECK(cudaStreamEndCapture(stream, &graph));
  CHECK(cudaGraphInstantiateWithFlags(&executable, graph, 0));
  CHECK(cudaGraphDestroy(graph));
  if (!is_everywhere(2))
    return 2;
  CHECK(cudaGraphLaunch(executable, stream));
  CHECK(cudaGraphLaunch(executable, stream));
  return is_everywhere(8) ? 0 : 3;
}
