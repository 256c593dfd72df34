// Functions of libtorch that tch lacks, behind a plain C interface. Nothing here needs a header or a library of CUDA: devices are
// reached through libtorch's own tables, which libtorch_cuda.so fills in when it is loaded.
//
// A function that can fail returns 0 on success; otherwise `perturbine_error` holds the message of this thread.

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "guarded.h"

using at::Tensor;

namespace {

c10::impl::VirtualGuardImpl cuda() { return c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA); }

c10::Device device(int index) { return c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index)); }

} // namespace

extern "C" {

const char *perturbine_error() { return last_error.c_str(); }

// For an unhandled exception, `told` is called with its message and returns the exit code to exit with immediately;
// negative: abort. libtorch throws in destructors when the device is lost, because they record memory that streams still use.
void perturbine_on_terminate(int (*told)(const char *)) {
  static int (*report)(const char *);
  static std::terminate_handler usual;
  report = told;
  usual = std::set_terminate([] {
    int code = -1;
    try {
      if (auto thrown = std::current_exception())
        std::rethrow_exception(thrown);
    } catch (const c10::Error &error) {
      code = report(error.what_without_backtrace());
    } catch (const std::exception &error) {
      code = report(error.what());
    } catch (...) {
    }
    if (0 <= code)
      _exit(code);
    usual();
  });
}

// Pinned memory, which a device reads directly. libtorch caches pinned memory and reuses it once no copy reads
// from it. Without CUDA, the memory is ordinary.
int perturbine_pinned(size_t bytes, Tensor **out) {
  return guarded([&] {
    auto options = at::TensorOptions(at::kByte);
    auto accelerated = at::accelerator::getAccelerator(false).has_value() && 0 < at::accelerator::deviceCount();
    *out = new Tensor(at::empty({static_cast<int64_t>(bytes)}, accelerated ? options.pinned_memory(true) : options));
  });
}

// Copies on the current stream, asynchronously if the source is pinned.
int perturbine_copy(Tensor *to, const Tensor *from) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    to->copy_(*from, true);
  });
}

// Streams and events.

int perturbine_stream(int index, c10::Stream **out) {
  return guarded([&] { *out = new c10::Stream(cuda().getStreamFromGlobalPool(device(index))); });
}

int perturbine_current_stream(int index, c10::Stream **out) {
  return guarded([&] { *out = new c10::Stream(cuda().getStream(device(index))); });
}

// Makes it this thread's current stream, and its device the current device; `before` receives the previous one.
int perturbine_exchange_stream(const c10::Stream *stream, c10::Stream **before) {
  return guarded([&] {
    cuda().setDevice(stream->device());
    *before = new c10::Stream(cuda().exchangeStream(*stream));
  });
}

void perturbine_stream_free(c10::Stream *stream) { delete stream; }

// The tensor's memory is reused only after the stream's work so far has finished.
int perturbine_record_stream(Tensor *tensor, const c10::Stream *stream) {
  return guarded([&] { tensor->record_stream(*stream); });
}

int perturbine_event(const c10::Stream *stream, c10::Event **out) {
  return guarded([&] {
    auto event = new c10::Event(c10::DeviceType::CUDA);
    *out = event;
    event->record(*stream);
  });
}

int perturbine_await_event(c10::Event *event, const c10::Stream *stream) {
  return guarded([&] { event->block(*stream); });
}

// Blocks the calling thread.
int perturbine_wait_for_event(c10::Event *event) {
  return guarded([&] { event->synchronize(); });
}

void perturbine_event_free(c10::Event *event) { delete event; }

int perturbine_synchronise(int index) {
  return guarded([&] { at::accelerator::synchronizeDevice(static_cast<c10::DeviceIndex>(index)); });
}

// Whether float32 matrix products on a GPU may round their operands to 10 bits of mantissa; process-wide.
void perturbine_allow_tf32(bool allowed) { at::globalContext().setAllowTF32CuBLAS(allowed); }

// Memory in bytes: tensors (current, peak), reserved on the device (current, peak), free and total.

int perturbine_memory(int index, uint64_t *out) {
  return guarded([&] {
    auto at = static_cast<c10::DeviceIndex>(index);
    auto stats = at::accelerator::getDeviceStats(at);
    auto [free, total] = at::accelerator::getMemoryInfo(at);
    out[0] = stats.allocated_bytes[0].current;
    out[1] = stats.allocated_bytes[0].peak;
    out[2] = stats.reserved_bytes[0].current;
    out[3] = stats.reserved_bytes[0].peak;
    out[4] = free;
    out[5] = total;
  });
}

int perturbine_reset_peak(int index) {
  return guarded([&] { at::accelerator::resetPeakStats(static_cast<c10::DeviceIndex>(index)); });
}

int perturbine_empty_cache() {
  return guarded([&] { at::accelerator::emptyCache(); });
}

// libtorch's profiler: this thread's operations; optionally a device's work, and allocations and frees.

int perturbine_profile_start(bool device, bool memory) {
  return guarded([&] {
    using namespace torch::profiler::impl;
    // Its library reports every missing device as an error.
    if (!device)
      setenv("KINETO_LOG_LEVEL", "5", 0);
    std::set<ActivityType> activities{ActivityType::CPU};
    if (device)
      activities.insert(ActivityType::CUDA);
    ProfilerConfig config(ProfilerState::KINETO, false, memory);
    torch::autograd::profiler::prepareProfiler(config, activities);
    torch::autograd::profiler::enableProfiler(config, activities);
  });
}

// Stops it and writes its events in Chrome's trace format.
int perturbine_profile_stop(const char *path) {
  return guarded([&] { torch::autograd::profiler::disableProfiler()->save(path); });
}
}
