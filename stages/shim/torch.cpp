// What tch lacks of libtorch, behind a plain C interface. Nothing here needs a header or a library of CUDA: devices are
// reached through libtorch's own tables, which libtorch_cuda.so fills in once it is loaded.
//
// A function that can fail returns 0 where it did not; `perturbine_error` then says what went wrong on this thread.

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

// Where an exception can't be handled any more, `told` is called with what it says, and returns the exit code to end with at once;
// negative: the process aborts. libtorch throws in destructors when the device is lost: memory that streams still use is noted there.
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

// Bytes in memory that a device reads by itself. libtorch keeps what it has once pinned, and lends it again when no copy reads
// from it any more. Without CUDA the memory is ordinary.
int perturbine_pinned(size_t bytes, Tensor **out) {
  return guarded([&] {
    auto options = at::TensorOptions(at::kByte);
    auto accelerated = at::accelerator::getAccelerator(false).has_value() && 0 < at::accelerator::deviceCount();
    *out = new Tensor(at::empty({static_cast<int64_t>(bytes)}, accelerated ? options.pinned_memory(true) : options));
  });
}

// Copies on the current stream, without waiting where the source is pinned.
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

// Makes it this thread's, and its device as well, for what is computed from now on; `before` is the one that was.
int perturbine_exchange_stream(const c10::Stream *stream, c10::Stream **before) {
  return guarded([&] {
    cuda().setDevice(stream->device());
    *before = new c10::Stream(cuda().exchangeStream(*stream));
  });
}

void perturbine_stream_free(c10::Stream *stream) { delete stream; }

// The tensor's memory is lent again only once the stream is through with what it was given so far.
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

// Lets the calling thread wait.
int perturbine_wait_for_event(c10::Event *event) {
  return guarded([&] { event->synchronize(); });
}

void perturbine_event_free(c10::Event *event) { delete event; }

int perturbine_synchronise(int index) {
  return guarded([&] { at::accelerator::synchronizeDevice(static_cast<c10::DeviceIndex>(index)); });
}

// Whether matrix products of float32 on a GPU may round their operands to 10 bits of mantissa; of the whole process.
void perturbine_allow_tf32(bool allowed) { at::globalContext().setAllowTF32CuBLAS(allowed); }

// Memory: bytes of tensors now and at most, bytes kept from the device now and at most, bytes free and in all.

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

// libtorch's profiler: operations of this thread, with a device what it ran, with memory what was asked for and given back.

int perturbine_profile_start(bool device, bool memory) {
  return guarded([&] {
    using namespace torch::profiler::impl;
    // Its library tells of every device that is not there as of an error.
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

// Ends it and writes what it saw, in Chrome's trace format.
int perturbine_profile_stop(const char *path) {
  return guarded([&] { torch::autograd::profiler::disableProfiler()->save(path); });
}
}
