// Memory: the host's, in place of the device's. Copies and fills are done on the host.
//
// What the host reads from the device is zero unless PERTURBINE_STANDIN_VALUES=1: most kernels do nothing, so that what lies there
// means nothing, and zeros are good numbers, counts and indices everywhere.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "device.h"
#include "stand_in.h"

#define PAGE 4096

struct block {
  char *address;
  size_t bytes;
  int is_pinned;
};

static struct block *blocks;
static size_t blocks_count, blocks_room;

static struct block *block_of(const void *address) {
  for (size_t at = 0; at < blocks_count; at++) {
    const char *from = blocks[at].address;
    if (from <= (const char *)address && (const char *)address < from + blocks[at].bytes)
      return &blocks[at];
  }
  return 0;
}

static cudaError_t allocate(void **out, size_t bytes, int is_pinned) {
  *out = 0;
  if (!bytes)
    return cudaSuccess;
  size_t whole = (bytes + PAGE - 1) / PAGE * PAGE;
  standin_lock();
  cudaError_t error = cudaSuccess;
  enum counter now = is_pinned ? PINNED_BYTES : DEVICE_BYTES, peak = is_pinned ? PINNED_PEAK : DEVICE_PEAK;
  if (!is_pinned && standin_device_memory() < standin_counter(DEVICE_BYTES) + whole) {
    error = cudaErrorMemoryAllocation;
  } else {
    // Pages that nobody writes to take no room, so that a large batch can be tried on a small machine.
    void *address = mmap(0, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) {
      error = cudaErrorMemoryAllocation;
    } else {
      if (blocks_count == blocks_room) {
        blocks_room = blocks_room ? 2 * blocks_room : 256;
        blocks = realloc(blocks, blocks_room * sizeof *blocks);
      }
      blocks[blocks_count++] = (struct block){address, whole, is_pinned};
      standin_count(now, (int64_t)whole);
      standin_raise(peak, standin_counter(now));
      *out = address;
    }
  }
  standin_unlock();
  return standin_fail(error);
}

static cudaError_t release(void *address) {
  if (!address)
    return cudaSuccess;
  standin_lock();
  cudaError_t error = cudaErrorInvalidValue;
  for (size_t at = 0; at < blocks_count && error; at++)
    if (blocks[at].address == address) {
      munmap(address, blocks[at].bytes);
      standin_count(blocks[at].is_pinned ? PINNED_BYTES : DEVICE_BYTES, -(int64_t)blocks[at].bytes);
      blocks[at] = blocks[--blocks_count];
      error = cudaSuccess;
    }
  standin_unlock();
  return standin_fail(error);
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
  cudaError_t error = standin_lost();
  if (error || (error = standin_forbidden_in_capture("cudaMalloc")))
    return error;
  standin_count(ALLOCATIONS, 1);
  standin_trace("cudaMalloc %zu", bytes);
  return allocate(out, bytes, 0);
}

cudaError_t cudaFree(void *address) {
  cudaError_t error = standin_lost();
  if (error || !address || (error = standin_forbidden_in_capture("cudaFree")))
    return error;
  standin_count(FREES, 1);
  // The real one waits until nothing runs.
  for (struct CUstream_st *stream = standin_streams(); stream; stream = stream->next)
    standin_drain(stream);
  return release(address);
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags) {
  cudaError_t error = standin_lost();
  if (error || (error = standin_forbidden_in_capture("cudaHostAlloc")))
    return error;
  return allocate(out, bytes, 1);
}

cudaError_t cudaFreeHost(void *address) {
  cudaError_t error = standin_forbidden_in_capture("cudaFreeHost");
  return error ? error : release(address);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
  *total = standin_device_memory();
  *available = *total - standin_counter(DEVICE_BYTES);
  return standin_lost();
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *address) {
  standin_lock();
  struct block *block = block_of(address);
  *attributes = (struct cudaPointerAttributes){.type = cudaMemoryTypeUnregistered, .device = -2};
  if (block) {
    attributes->type = block->is_pinned ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
    attributes->device = 0;
    attributes->devicePointer = (void *)address;
    attributes->hostPointer = block->is_pinned ? (void *)address : 0;
  }
  standin_unlock();
  return cudaSuccess;
}

// Copies

enum way { TO_DEVICE, TO_HOST, ON_DEVICE, ON_HOST };

struct copy {
  char *to;
  const char *from;
  size_t bytes;
  enum way way;
  int is_watched;  // of pinned memory, in a queue: its bytes must not change before they are copied
  uint64_t hash;
};

static uint64_t hash_of(const char *bytes, size_t count) {
  uint64_t hash = 1469598103934665603ull;
  for (size_t at = 0; at < count; at++)
    hash = (hash ^ (unsigned char)bytes[at]) * 1099511628211ull;
  return hash;
}

static void run_copy(void *arguments) {
  const struct copy *copy = arguments;
  if (copy->is_watched && hash_of(copy->from, copy->bytes) != copy->hash) {
    standin_count(RACES, 1);
    standin_note("race: pinned bytes changed before they were copied");
    standin_trace("race %zu", copy->bytes);
  }
  if (copy->way == TO_HOST && !standin_has_values())
    memset(copy->to, 0, copy->bytes);
  else
    memmove(copy->to, copy->from, copy->bytes);
}

static cudaError_t copy(void *to, const void *from, size_t bytes, cudaStream_t stream, int waits) {
  cudaError_t error = standin_lost();
  if (error || !bytes)
    return error;
  if (waits && (error = standin_forbidden_in_capture("cudaMemcpy")))
    return error;
  standin_lock();
  struct block *target = block_of(to), *source = block_of(from);
  int to_device = target && !target->is_pinned, from_device = source && !source->is_pinned;
  enum way way = to_device ? (from_device ? ON_DEVICE : TO_DEVICE) : (from_device ? TO_HOST : ON_HOST);
  int is_pageable = (way == TO_DEVICE && !source) || (way == TO_HOST && !target);
  struct CUstream_st *own = standin_stream(stream);
  int is_captured = own->capture != 0, is_queued = !is_captured && standin_is_lazy();
  struct copy what = {to, from, bytes, way, way == TO_DEVICE && !is_pageable && is_queued, 0};
  if (what.is_watched)
    what.hash = hash_of(from, bytes);
  static const enum counter counters[] = {COPIES_TO_DEVICE, COPIES_TO_HOST, COPIES_ON_DEVICE, COPIES_ON_DEVICE};
  if (!is_captured)
    standin_count(counters[way], 1);
  standin_unlock();
  static const char *const ways[] = {"to device", "to host", "on device", "on host"};
  standin_trace("copy s%d %zu %s at %p%s%s%s", own->id, bytes, ways[way], to, is_pageable ? ", pageable" : "", waits ? ", waits" : "",
                is_captured ? ", captured" : "");
  if (is_pageable && is_captured)
    standin_note("suspect: a copy of pageable memory in a graph");
  void *arguments = standin_copy_of(&what, sizeof what);
  struct work work = {.kind = COPY, .run = run_copy, .arguments = arguments, .arguments_bytes = sizeof what, .bytes = bytes};
  error = standin_submit(stream, work);
  if (waits)
    standin_count(WAITS, 1);
  // Pageable memory is copied through a buffer of the driver's: the host may change it as soon as the call returns.
  if (!error && !is_captured && (waits || is_pageable))
    standin_drain(own);
  return error;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) { return copy(to, from, bytes, 0, 1); }

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
  return copy(to, from, bytes, stream, 0);
}

cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes, cudaStream_t stream) {
  return copy(to, from, bytes, stream, 0);
}

cudaError_t cudaMemcpyToSymbol(const void *symbol, const void *from, size_t bytes, size_t offset, enum cudaMemcpyKind kind) {
  void *to;
  cudaError_t error = cudaGetSymbolAddress(&to, symbol);
  if (!error)
    memcpy((char *)to + offset, from, bytes);
  return error;
}

// Fills

struct fill {
  void *address;
  int value;
  size_t bytes;
};

static void run_fill(void *arguments) {
  const struct fill *fill = arguments;
  memset(fill->address, fill->value, fill->bytes);
}

cudaError_t cudaMemsetAsync(void *address, int value, size_t bytes, cudaStream_t stream) {
  cudaError_t error = standin_lost();
  if (error || !bytes)
    return error;
  struct fill fill = {address, value, bytes};
  if (!standin_stream(stream)->capture)
    standin_count(FILLS, 1);
  standin_trace("fill s%d %zu", standin_stream(stream)->id, bytes);
  void *arguments = standin_copy_of(&fill, sizeof fill);
  return standin_submit(stream, (struct work){.kind = FILL, .run = run_fill, .arguments = arguments, .arguments_bytes = sizeof fill,
                                              .bytes = bytes});
}

cudaError_t cudaMemset(void *address, int value, size_t bytes) {
  cudaError_t error = standin_forbidden_in_capture("cudaMemset");
  return error ? error : cudaMemsetAsync(address, value, bytes, 0);
}
