// Functions that need libtorch_cuda.so: CUDA graphs, custom kernels, and device properties. A separate library, so that programs
// start without CUDA; it is loaded after libtorch_cuda.so. Compiling it needs only CUDA's headers.

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <cstring>

#include "guarded.h"

// <ATen/cuda/CUDAContext.h> declares it, but also needs the headers of cuSPARSE, cuBLAS and cuSOLVER.
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

// From now on, this thread's work on its current stream is captured instead of run. `like` is a graph whose memory is shared, or
// null. Other threads may continue to use the device.
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

// Compute capability (two numbers) and number of multiprocessors.
int perturbine_device_properties(int index, int *out) {
  return guarded([&] {
    auto properties = at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(index));
    out[0] = properties->major;
    out[1] = properties->minor;
    out[2] = properties->multiProcessorCount;
  });
}

// Permanently loads compiled kernels: a cubin, or PTX that ends with a zero.
int perturbine_kernels(int index, const void *code, cudaLibrary_t *out) {
  return guarded([&] {
    c10::cuda::CUDAGuard device(static_cast<c10::DeviceIndex>(index));
    C10_CUDA_CHECK(cudaLibraryLoadData(out, code, nullptr, nullptr, 0, nullptr, nullptr, 0));
  });
}

// Querying a kernel's attributes loads it; otherwise it is loaded at its first launch, which may be within a capture.
int perturbine_kernel(cudaLibrary_t kernels, const char *name, cudaKernel_t *out) {
  return guarded([&] {
    cudaFuncAttributes attributes;
    C10_CUDA_CHECK(cudaLibraryGetKernel(out, kernels, name));
    C10_CUDA_CHECK(cudaFuncGetAttributes(&attributes, static_cast<const void *>(*out)));
  });
}

// Allows a kernel's blocks this much dynamic shared memory; the default limit is 48 KiB.
int perturbine_kernel_shared(cudaKernel_t kernel, int index, int bytes) {
  return guarded([&] {
    C10_CUDA_CHECK(cudaKernelSetAttributeForDevice(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes, index));
  });
}

// Launches the kernel on this thread's current stream of the device. The argument is copied.
int perturbine_kernel_launch(cudaKernel_t kernel, int index, unsigned grid_x, unsigned grid_y, unsigned threads,
                             unsigned shared_bytes, const void *argument) {
  return guarded([&] {
    auto at = static_cast<c10::DeviceIndex>(index);
    c10::cuda::CUDAGuard device(at);
    void *arguments[] = {const_cast<void *>(argument)};
    C10_CUDA_CHECK(cudaLaunchKernel(reinterpret_cast<const void *>(kernel), dim3(grid_x, grid_y), dim3(threads), arguments,
                                    shared_bytes, c10::cuda::getCurrentCUDAStream(at).stream()));
  });
}
}
