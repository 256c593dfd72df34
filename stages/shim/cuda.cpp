// What needs libtorch_cuda.so: graphs of work that a device replays, and the names of devices. A library of its own, so that
// programs start where there is no CUDA; it is loaded once libtorch_cuda.so is. Compiled with CUDA's headers alone.

#include <ATen/cuda/CUDAGraph.h>
#include <cuda_runtime_api.h>

#include <cstring>

#include "guarded.h"

// <ATen/cuda/CUDAContext.h> declares it among much that wants the headers of cuSPARSE, cuBLAS and cuSOLVER.
namespace at::cuda {
TORCH_CUDA_CPP_API cudaDeviceProp *getDeviceProperties(c10::DeviceIndex device);
}

using at::cuda::CUDAGraph;

extern "C" {

const char *perturbine_cuda_error() { return last_error.c_str(); }

int perturbine_device_name(int index, char *out, size_t room) {
  return guarded([&] {
    auto name = at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(index))->name;
    std::strncpy(out, name, room - 1);
    out[room - 1] = 0;
  });
}

int perturbine_graph(CUDAGraph **out) {
  return guarded([&] { *out = new CUDAGraph(); });
}

// From now on, what this thread gives its current stream is noted and not run. `like` is a graph whose memory is shared, or
// null. Other threads may go on to use the device.
int perturbine_graph_begin(CUDAGraph *graph, CUDAGraph *like) {
  return guarded([&] {
    auto pool = like ? like->pool() : c10::MempoolId_t{0, 0};
    graph->capture_begin(pool, cudaStreamCaptureModeThreadLocal);
  });
}

int perturbine_graph_end(CUDAGraph *graph) {
  return guarded([&] { graph->capture_end(); });
}

int perturbine_graph_replay(CUDAGraph *graph) {
  return guarded([&] { graph->replay(); });
}

void perturbine_graph_free(CUDAGraph *graph) {
  guarded([&] { delete graph; });
}
}
