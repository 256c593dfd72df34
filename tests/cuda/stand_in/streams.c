// Streams and events.
//
//   PERTURBINE_STANDIN_LAZY=1        a stream's work is done when somebody waits for it, and not before
//   PERTURBINE_STANDIN_NOT_READY=n   an event says this many times that it is not ready
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stand_in.h"

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static struct CUstream_st default_stream, *streams = &default_stream;

void standin_lock(void) { pthread_mutex_lock(&lock); }

void standin_unlock(void) { pthread_mutex_unlock(&lock); }

struct CUstream_st *standin_streams(void) { return streams; }

struct CUstream_st *standin_stream(cudaStream_t stream) {
  int is_default = stream == 0 || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
  return is_default ? &default_stream : stream;
}

int standin_is_lazy(void) {
  static int known = -1;
  if (known < 0)
    known = standin_setting("PERTURBINE_STANDIN_LAZY", 0) != 0;
  return known;
}

// Work

void *standin_copy_of(const void *bytes, size_t count) {
  void *copy = malloc(count ? count : 1);
  memcpy(copy, bytes, count);
  return copy;
}

void standin_append(struct work_list *list, struct work work) {
  if (list->count == list->room) {
    list->room = list->room ? 2 * list->room : 64;
    list->items = realloc(list->items, list->room * sizeof work);
  }
  list->items[list->count++] = work;
}

void standin_clear(struct work_list *list) {
  for (size_t at = 0; at < list->count; at++)
    free(list->items[at].arguments);
  free(list->items);
  *list = (struct work_list){0};
}

static void run(const struct work *work) {
  if (work->kind == MARK && work->event->done < work->recorded)
    work->event->done = work->recorded;
  if (work->run)
    work->run(work->arguments);
}

// Does what streams were given, until the device has come to this record of an event.
static void drain_to(struct CUevent_st *event, uint64_t recorded) {
  for (struct CUstream_st *stream = streams; stream && event->done < recorded; stream = stream->next)
    for (size_t at = 0; at < stream->queue.count; at++) {
      const struct work *work = &stream->queue.items[at];
      if (work->kind == MARK && work->event == event && recorded <= work->recorded) {
        standin_drain(stream);
        break;
      }
    }
}

void standin_drain(struct CUstream_st *stream) {
  standin_lock();
  struct work_list queue = stream->queue;
  stream->queue = (struct work_list){0};
  for (size_t at = 0; at < queue.count; at++) {
    const struct work *work = &queue.items[at];
    if (work->kind == WAIT)
      drain_to(work->event, work->recorded);
    else
      run(work);
  }
  standin_clear(&queue);
  standin_unlock();
}

static void do_or_queue(struct CUstream_st *stream, struct work work) {
  if (standin_is_lazy()) {
    standin_append(&stream->queue, work);
  } else {
    run(&work);
    free(work.arguments);
  }
}

cudaError_t standin_submit(cudaStream_t handle, struct work work) {
  struct CUstream_st *stream = standin_stream(handle);
  cudaError_t error = cudaSuccess;
  standin_lock();
  for (struct capture *capture = standin_captures(); capture && !error; capture = capture->next)
    if (stream == &default_stream && !(capture->origin->flags & cudaStreamNonBlocking))
      error = standin_invalidate(capture, "work of the default stream", cudaErrorStreamCaptureImplicit);
  if (!error && stream->capture && stream->capture->invalid)
    error = standin_fail(cudaErrorStreamCaptureInvalidated);
  if (error) {
    free(work.arguments);
  } else if (stream->capture) {
    if (work.kind == KERNEL)
      work.kernel->captured++;
    standin_append(&stream->capture->graph->work, work);
  } else {
    if (work.kind == KERNEL) {
      work.kernel->launched++;
      standin_count(LAUNCHES, 1);
    }
    do_or_queue(stream, work);
  }
  standin_unlock();
  return error;
}

void standin_replay(cudaStream_t handle, const struct work *work) {
  struct work again = *work;
  if (work->arguments)
    again.arguments = standin_copy_of(work->arguments, work->arguments_bytes);
  if (work->kind == KERNEL)
    work->kernel->replayed++;
  standin_lock();
  do_or_queue(standin_stream(handle), again);
  standin_unlock();
}

// Streams

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority) {
  cudaError_t error = standin_lost();
  if (error)
    return error;
  static int last_id;
  standin_lock();
  struct CUstream_st *stream = calloc(1, sizeof *stream);
  *stream = (struct CUstream_st){.id = ++last_id, .flags = flags, .priority = priority, .next = default_stream.next};
  default_stream.next = stream;
  standin_unlock();
  standin_count(STREAMS, 1);
  *out = stream;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  standin_lock();
  standin_drain(stream);
  for (struct CUstream_st *at = streams; at; at = at->next)
    if (at->next == stream) {
      at->next = stream->next;
      break;
    }
  standin_unlock();
  standin_count(STREAMS, -1);
  free(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority) {
  *priority = standin_stream(stream)->priority;
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  struct CUstream_st *stream = standin_stream(handle);
  cudaError_t error = standin_lost();
  if (!error && stream->capture)
    error = standin_invalidate(stream->capture, "cudaStreamQuery", cudaErrorStreamCaptureUnsupported);
  if (error || (error = standin_forbidden_in_capture("cudaStreamQuery")))
    return error;
  standin_drain(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  struct CUstream_st *stream = standin_stream(handle);
  cudaError_t error = standin_lost();
  if (!error && stream->capture)
    error = standin_invalidate(stream->capture, "cudaStreamSynchronize", cudaErrorStreamCaptureUnsupported);
  if (error || (error = standin_forbidden_in_capture("cudaStreamSynchronize")))
    return error;
  standin_count(WAITS, 1);
  standin_trace("wait s%d", stream->id);
  standin_drain(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamAddCallback(cudaStream_t handle, cudaStreamCallback_t callback, void *data, unsigned flags) {
  struct CUstream_st *stream = standin_stream(handle);
  cudaError_t error = standin_lost();
  if (!error && stream->capture)
    error = standin_invalidate(stream->capture, "cudaStreamAddCallback", cudaErrorStreamCaptureUnsupported);
  if (error)
    return error;
  standin_drain(stream);
  callback(handle, cudaSuccess, data);
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) {
  cudaError_t error = standin_lost();
  if (error || (error = standin_forbidden_in_capture("cudaDeviceSynchronize")))
    return error;
  // Unlike other calls it disturbs the captures of other threads as well.
  standin_lock();
  for (struct capture *capture = standin_captures(); capture; capture = capture->next)
    error = standin_invalidate(capture, "cudaDeviceSynchronize by another thread", cudaErrorStreamCaptureUnsupported);
  if (!error) {
    standin_count(WAITS, 1);
    standin_trace("wait for the device");
    for (struct CUstream_st *stream = streams; stream; stream = stream->next)
      standin_drain(stream);
  }
  standin_unlock();
  return error;
}

// Events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
  cudaError_t error = standin_lost();
  if (error)
    return error;
  static int last_id;
  standin_lock();
  struct CUevent_st *event = calloc(1, sizeof *event);
  event->id = ++last_id;
  standin_unlock();
  standin_count(EVENTS, 1);
  *out = event;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out) { return cudaEventCreateWithFlags(out, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  int is_queued = 0;
  standin_lock();
  for (struct CUstream_st *stream = streams; stream; stream = stream->next)
    for (size_t at = 0; at < stream->queue.count; at++)
      is_queued |= stream->queue.items[at].event == event;
  standin_unlock();
  standin_count(EVENTS, -1);
  // One that queued work still names remains until the program ends.
  if (!is_queued)
    free(event);
  return cudaSuccess;
}

static struct capture *capture_of(const struct CUevent_st *event) {
  struct capture *capture = standin_captures();
  while (capture && capture->id != event->capture)
    capture = capture->next;
  return capture;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t handle, unsigned flags) {
  cudaError_t error = standin_lost();
  if (error)
    return error;
  struct CUstream_st *stream = standin_stream(handle);
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  standin_lock();
  event->capture = stream->capture ? stream->capture->id : 0;
  event->not_ready = standin_setting("PERTURBINE_STANDIN_NOT_READY", 0);
  event->milliseconds = now.tv_sec * 1e3 + now.tv_nsec / 1e6;
  if (!stream->capture)
    do_or_queue(stream, (struct work){.kind = MARK, .event = event, .recorded = ++event->recorded});
  standin_unlock();
  standin_trace("record e%d s%d", event->id, stream->id);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return cudaEventRecordWithFlags(event, stream, 0); }

// A call of the host's on an event; a captured one has no state to ask for.
static cudaError_t asked_of(struct CUevent_st *event, const char *call) {
  cudaError_t error = standin_lost();
  struct capture *capture = capture_of(event);
  if (!error && capture)
    error = standin_invalidate(capture, call, cudaErrorCapturedEvent);
  return error ? error : standin_forbidden_in_capture(call);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  standin_lock();
  cudaError_t error = asked_of(event, "cudaEventQuery");
  if (!error && 0 < event->not_ready) {
    event->not_ready--;
    error = cudaErrorNotReady;
  }
  if (!error)
    drain_to(event, event->recorded);
  standin_unlock();
  return error;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  standin_lock();
  cudaError_t error = asked_of(event, "cudaEventSynchronize");
  if (!error) {
    standin_count(WAITS, 1);
    standin_trace("wait e%d", event->id);
    event->not_ready = 0;
    drain_to(event, event->recorded);
  }
  standin_unlock();
  return error;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
  *milliseconds = (float)(to->milliseconds - from->milliseconds);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned flags) {
  struct CUstream_st *stream = standin_stream(handle);
  cudaError_t error = standin_lost();
  if (error)
    return error;
  standin_lock();
  struct capture *of_event = capture_of(event);
  if (stream->capture && !of_event && event->recorded) {
    error = standin_invalidate(stream->capture, "waiting for work outside", cudaErrorStreamCaptureIsolation);
  } else if (of_event && stream->capture && stream->capture != of_event) {
    error = standin_fail(cudaErrorStreamCaptureMerge);
  } else if (of_event) {
    stream->capture = of_event;
  } else {
    do_or_queue(stream, (struct work){.kind = WAIT, .event = event, .recorded = event->recorded});
  }
  standin_unlock();
  standin_trace("s%d awaits e%d", stream->id, event->id);
  return error;
}
