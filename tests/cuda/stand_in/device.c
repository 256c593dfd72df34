// The device: one, which calls itself a Hopper; its errors, and how it is lost.
//
//   PERTURBINE_STANDIN_MEMORY=bytes       the device's memory
//   PERTURBINE_STANDIN_LOSE_AFTER=n       after this many launches every call fails
//   PERTURBINE_STANDIN_LOSE_WITH=error    with which error; 719 (unspecified launch failure) by default
#include "device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "stand_in.h"

static __thread cudaError_t last_error;

size_t standin_device_memory(void) { return (size_t)standin_setting("PERTURBINE_STANDIN_MEMORY", (int64_t)80 << 30); }

cudaError_t standin_fail(cudaError_t error) {
  // What asks again is not an error.
  if (error && error != cudaErrorNotReady)
    last_error = error;
  return error;
}

cudaError_t standin_lost(void) {
  static int64_t after = -2;
  if (after == -2)
    after = standin_setting("PERTURBINE_STANDIN_LOSE_AFTER", -1);
  if (after < 0 || (int64_t)(standin_counter(LAUNCHES) + standin_counter(GRAPH_LAUNCHES)) < after)
    return cudaSuccess;
  return standin_fail((cudaError_t)standin_setting("PERTURBINE_STANDIN_LOSE_WITH", cudaErrorLaunchFailure));
}

cudaError_t cudaGetLastError(void) {
  cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError(void) { return last_error; }

// The texts of the real runtime, as far as the program's own messages depend on them.
const char *cudaGetErrorString(cudaError_t error) {
  switch ((int)error) {
  case cudaSuccess:
    return "no error";
  case cudaErrorInvalidValue:
    return "invalid argument";
  case cudaErrorMemoryAllocation:
    return "out of memory";
  case cudaErrorDevicesUnavailable:
    return "CUDA-capable device(s) is/are busy or unavailable";
  case cudaErrorECCUncorrectable:
    return "uncorrectable ECC error encountered";
  case cudaErrorIllegalAddress:
    return "an illegal memory access was encountered";
  case cudaErrorLaunchFailure:
    return "unspecified launch failure";
  case cudaErrorStreamCaptureUnsupported:
    return "operation not permitted when stream is capturing";
  case cudaErrorStreamCaptureInvalidated:
    return "operation failed due to a previous error during capture";
  case cudaErrorStreamCaptureIsolation:
    return "dependency created on uncaptured work in another stream";
  case cudaErrorStreamCaptureImplicit:
    return "operation would make the legacy stream depend on a capturing blocking stream";
  case cudaErrorCapturedEvent:
    return "operation not permitted on an event last recorded in a capturing stream";
  case cudaErrorStreamCaptureWrongThread:
    return "attempt to terminate a thread-local capture sequence from another thread";
  case cudaErrorNotSupported:
    return "operation not supported";
  default:
    return "an error of the stand-in";
  }
}

const char *cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }

cudaError_t cudaGetDeviceCount(int *count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  return device ? standin_fail(cudaErrorInvalidDevice) : standin_lost();
}

cudaError_t cudaDriverGetVersion(int *version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
  if (device)
    return standin_fail(cudaErrorInvalidDevice);
  *properties = (struct cudaDeviceProp){
      .name = STANDIN_NAME,
      .uuid = {{1}},
      .major = 9,
      .totalGlobalMem = standin_device_memory(),
      .multiProcessorCount = 132,
      .warpSize = 32,
      .maxThreadsPerBlock = 1024,
      .maxThreadsDim = {1024, 1024, 64},
      .maxGridSize = {2147483647, 65535, 65535},
      .maxThreadsPerMultiProcessor = 2048,
      .maxBlocksPerMultiProcessor = 32,
      .regsPerBlock = 65536,
      .regsPerMultiprocessor = 65536,
      .sharedMemPerBlock = 49152,
      .sharedMemPerBlockOptin = 232448,
      .sharedMemPerMultiprocessor = 233472,
      .l2CacheSize = 50 << 20,
      .totalConstMem = 65536,
      .memPitch = 2147483647,
      .textureAlignment = 512,
      .memoryBusWidth = 5120,
      .asyncEngineCount = 3,
      .unifiedAddressing = 1,
      .managedMemory = 1,
      .canMapHostMemory = 1,
      .concurrentKernels = 1,
      .cooperativeLaunch = 1,
      .memoryPoolsSupported = 1,
      .streamPrioritiesSupported = 1,
  };
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
  struct cudaDeviceProp properties;
  cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error)
    return error;
  switch (attribute) {
  case cudaDevAttrMaxThreadsPerBlock:
  case cudaDevAttrMaxBlockDimX:
  case cudaDevAttrMaxBlockDimY:
    *value = properties.maxThreadsPerBlock;
    break;
  case cudaDevAttrMaxBlockDimZ:
    *value = properties.maxThreadsDim[2];
    break;
  case cudaDevAttrMaxGridDimX:
    *value = properties.maxGridSize[0];
    break;
  case cudaDevAttrMaxGridDimY:
  case cudaDevAttrMaxGridDimZ:
    *value = properties.maxGridSize[1];
    break;
  case cudaDevAttrMultiProcessorCount:
    *value = properties.multiProcessorCount;
    break;
  case cudaDevAttrComputeCapabilityMajor:
    *value = properties.major;
    break;
  case cudaDevAttrMaxSharedMemoryPerBlock:
    *value = (int)properties.sharedMemPerBlock;
    break;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin:
    *value = (int)properties.sharedMemPerBlockOptin;
    break;
  case cudaDevAttrMaxRegistersPerBlock:
    *value = properties.regsPerBlock;
    break;
  case cudaDevAttrMaxThreadsPerMultiProcessor:
    *value = properties.maxThreadsPerMultiProcessor;
    break;
  case cudaDevAttrMaxBlocksPerMultiprocessor:
    *value = properties.maxBlocksPerMultiProcessor;
    break;
  case cudaDevAttrL2CacheSize:
    *value = properties.l2CacheSize;
    break;
  case cudaDevAttrWarpSize:
    *value = properties.warpSize;
    break;
  case cudaDevAttrComputeCapabilityMinor:
  case cudaDevAttrComputeMode:
    *value = 0;
    break;
  default:
    *value = 1;
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  if (least)
    *least = 0;
  if (greatest)
    *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) {
  *can = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device) {
  snprintf(id, (size_t)length, "0000:01:00.0");
  return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device) {
  static char the_pool;
  *pool = (cudaMemPool_t)&the_pool;
  return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version, unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *found) {
  void *driver = dlopen("libcuda.so.1", RTLD_NOW);
  *function = driver ? dlsym(driver, symbol) : 0;
  if (!*function && driver) {
    standin_missing(symbol);
    *function = dlsym(driver, "standin_unsupported");
  }
  if (found)
    *found = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
