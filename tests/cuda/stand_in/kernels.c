// Kernels: those that the program's libraries registered are counted and do nothing, but for fills (fills.c). A kernel of a module that the program loaded
// itself runs on the host, if there is a function for it:
//
//   PERTURBINE_STANDIN_KERNELS=path   a shared library. For a kernel NAME it has
//       void NAME_host(unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned shared_bytes, void **arguments);
//       const unsigned NAME_sizes[];    the size of each argument in bytes, then 0
//
// Arguments are copied when the kernel is launched or captured, as CUDA does.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "summary.h"

#define BUCKETS (1 << 17)

// Kernels that were registered, by the function that stands for each on the host, and others by name.
static struct kernel *registered[BUCKETS], *named;

static size_t bucket_of(const void *host) { return ((uintptr_t)host * 0x9E3779B97F4A7C15ull) >> 47; }

// A kernel is launched by the function that stands for it, or by a handle, which is the kernel itself.
static struct kernel *kernel_of(const void *launched) {
  for (struct kernel *kernel = registered[bucket_of(launched)]; kernel; kernel = kernel->next)
    if (kernel->host == launched)
      return kernel;
  for (struct kernel *kernel = named; kernel; kernel = kernel->next)
    if (kernel == launched)
      return kernel;
  return standin_named_kernel("a kernel that was not registered");
}

struct kernel *standin_named_kernel(const char *name) {
  standin_lock();
  struct kernel *kernel = named;
  while (kernel && strcmp(kernel->name, name) != 0)
    kernel = kernel->next;
  if (!kernel) {
    kernel = calloc(1, sizeof *kernel);
    kernel->name = strdup(name);
    kernel->next = named;
    named = kernel;
  }
  standin_unlock();
  return kernel;
}

struct kernel *standin_module_kernel(const char *name) {
  struct kernel *kernel = standin_named_kernel(name);
  const char *path = getenv("PERTURBINE_STANDIN_KERNELS");
  void *library = path ? dlopen(path, RTLD_NOW) : 0;
  if (path && !library) {
    fprintf(stderr, "stand-in for CUDA: %s\n", dlerror());
    abort();
  }
  char symbol[512];
  snprintf(symbol, sizeof symbol, "%s_host", name);
  void *function = library ? dlsym(library, symbol) : 0;
  snprintf(symbol, sizeof symbol, "%s_sizes", name);
  const unsigned *sizes = library ? dlsym(library, symbol) : 0;
  if (!function != !sizes) {
    fprintf(stderr, "stand-in for CUDA: %s has only one of %s_host and %s_sizes\n", path, name, name);
    abort();
  }
  memcpy(&kernel->on_host, &function, sizeof function);
  kernel->sizes = sizes;
  return kernel;
}

// A launch of a kernel that runs on the host: what it was given follows, its arguments one after another, each aligned for any type.
struct launch {
  const struct kernel *kernel;
  unsigned grid_x, grid_y, block_x, shared_bytes;
  _Alignas(16) char arguments[];
};

#define MOST_ARGUMENTS 64

static size_t aligned(size_t bytes) { return (bytes + 15) / 16 * 16; }

static void run_on_host(void *arguments) {
  struct launch *launch = arguments;
  void *pointers[MOST_ARGUMENTS];
  char *at = launch->arguments;
  for (size_t index = 0; launch->kernel->sizes[index]; index++) {
    pointers[index] = at;
    at += aligned(launch->kernel->sizes[index]);
  }
  launch->kernel->on_host(launch->grid_x, launch->grid_y, launch->block_x, launch->shared_bytes, pointers);
}

cudaError_t standin_launch(struct kernel *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, void **arguments) {
  cudaError_t error = standin_lost();
  if (error)
    return error;
  standin_trace("launch s%d %.150s", standin_stream(stream)->id, kernel->name);
  if (!kernel->was_looked_up && standin_has_values())
    standin_find_fill(kernel);
  kernel->was_looked_up = 1;
  struct work work = {.kind = KERNEL, .kernel = kernel};
  if (kernel->on_host) {
    size_t bytes = sizeof(struct launch), count = 0;
    for (; kernel->sizes[count]; count++)
      bytes += aligned(kernel->sizes[count]);
    if (MOST_ARGUMENTS < count) {
      fprintf(stderr, "stand-in for CUDA: %s has more than %d arguments\n", kernel->name, MOST_ARGUMENTS);
      abort();
    }
    struct launch *launch = aligned_alloc(16, aligned(bytes));
    *launch = (struct launch){kernel, grid.x, grid.y, block.x, (unsigned)shared};
    char *at = launch->arguments;
    for (size_t index = 0; index < count; index++) {
      memcpy(at, arguments[index], kernel->sizes[index]);
      at += aligned(kernel->sizes[index]);
    }
    work.run = run_on_host;
    work.arguments = launch;
    work.arguments_bytes = bytes;
  }
  return standin_submit(stream, work);
}

// What nvcc's code calls when a library is loaded.

void **__cudaRegisterFatBinary(void *binary) { return calloc(1, sizeof(void *)); }

void __cudaRegisterFatBinaryEnd(void **handle) {}

void __cudaUnregisterFatBinary(void **handle) {}

char __cudaInitModule(void **handle) { return 1; }

void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name, int limit, void *thread, void *block,
                            void *block_size, void *grid_size, int *warp) {
  struct kernel *kernel = calloc(1, sizeof *kernel);
  kernel->host = host;
  kernel->name = name;
  kernel->next = registered[bucket_of(host)];
  registered[bucket_of(host)] = kernel;
}

// Variables of the device.
static struct variable {
  const void *host;
  void *device;
  struct variable *next;
} *variables;

void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int external, size_t bytes, int constant,
                       int global) {
  struct variable *variable = calloc(1, sizeof *variable);
  *variable = (struct variable){host, calloc(1, bytes + 16), variables};
  variables = variable;
}

cudaError_t cudaGetSymbolAddress(void **out, const void *symbol) {
  for (const struct variable *variable = variables; variable; variable = variable->next)
    if (variable->host == symbol) {
      *out = variable->device;
      return cudaSuccess;
    }
  return standin_fail(cudaErrorInvalidSymbol);
}

// Launches

static __thread struct configuration {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
} configurations[16];
static __thread int configured;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *stream) {
  configurations[configured++] = (struct configuration){grid, block, shared, stream};
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
  struct configuration *last = &configurations[--configured];
  *grid = last->grid;
  *block = last->block;
  *shared = last->shared;
  *(cudaStream_t *)stream = last->stream;
  return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t *out, const void *host) {
  *out = (cudaKernel_t)kernel_of(host);
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) {
  return standin_launch((struct kernel *)kernel, grid, block, shared, stream, arguments);
}

cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) {
  return standin_launch(kernel_of(function), grid, block, shared, stream, arguments);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *launch, const void *function, void **arguments) {
  return standin_launch(kernel_of(function), launch->gridDim, launch->blockDim, launch->dynamicSmemBytes, launch->stream, arguments);
}

static void run_call(void *arguments) {
  void **call = arguments;
  cudaHostFn_t function;
  memcpy(&function, &call[0], sizeof function);
  function(call[1]);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
  void *call[2] = {0, data};
  memcpy(&call[0], &function, sizeof function);
  void *arguments = standin_copy_of(call, sizeof call);
  return standin_submit(stream, (struct work){.kind = CALL, .run = run_call, .arguments = arguments, .arguments_bytes = sizeof call});
}

// Modules that the program loads itself

cudaError_t cudaLibraryLoadData(cudaLibrary_t *out, const void *code, enum cudaJitOption *jit, void **jit_values, unsigned jit_count,
                                enum cudaLibraryOption *options, void **values, unsigned count) {
  cudaError_t error = standin_lost();
  if (error || (error = standin_forbidden_in_capture("cudaLibraryLoadData")))
    return error;
  *out = (cudaLibrary_t)code;
  return cudaSuccess;
}

cudaError_t cudaLibraryUnload(cudaLibrary_t library) { return cudaSuccess; }

cudaError_t cudaLibraryGetKernel(cudaKernel_t *out, cudaLibrary_t library, const char *name) {
  *out = (cudaKernel_t)standin_module_kernel(name);
  return cudaSuccess;
}

cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t kernel, enum cudaFuncAttribute attribute, int value, int device) {
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *function) {
  *attributes = (struct cudaFuncAttributes){
      .maxThreadsPerBlock = 1024, .numRegs = 32, .ptxVersion = 90, .binaryVersion = 90, .maxDynamicSharedSizeBytes = 49152};
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value) { return cudaSuccess; }

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function, int threads, size_t shared,
                                                                   unsigned flags) {
  *blocks = threads ? 2048 / threads : 2;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int threads, size_t shared) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared, 0);
}

void summarise_kernels(FILE *out) {
  int any = 0;
  for (size_t at = 0; at <= BUCKETS; at++)
    for (const struct kernel *kernel = at < BUCKETS ? registered[at] : named; kernel; kernel = kernel->next)
      if (kernel->launched + kernel->captured + kernel->replayed) {
        fprintf(out, "%s\n  {\"name\": \"%s\", \"launched\": %llu, \"captured\": %llu, \"replayed\": %llu}", any ? "," : "",
                kernel->name, (unsigned long long)kernel->launched, (unsigned long long)kernel->captured,
                (unsigned long long)kernel->replayed);
        any = 1;
      }
}
