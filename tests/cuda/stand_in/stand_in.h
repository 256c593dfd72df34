// What the parts of the stand-in share. All state is in libcudart.so.13; the other libraries call functions of it.
#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

// Counters

// Numbers that a test can read while the program runs. `names` in log.c has the same order.
enum counter {
  LAUNCHES,       // kernels and products outside graphs
  GRAPH_LAUNCHES,
  REPLAYED_NODES,
  WAITS,          // calls that let the host wait for the device
  COPIES_TO_DEVICE,
  COPIES_TO_HOST,
  COPIES_ON_DEVICE,
  FILLS,
  ALLOCATIONS,    // cudaMalloc
  FREES,          // cudaFree
  DEVICE_BYTES,   // allocated now
  DEVICE_PEAK,    // allocated at most
  PINNED_BYTES,
  PINNED_PEAK,
  CAPTURES,       // that ended well
  FORBIDDEN,      // calls that a capture does not allow
  RACES,          // pinned bytes that changed before they were copied
  STREAMS,        // alive
  EVENTS,         // alive
  GRAPHS,         // executable graphs alive
  COUNTERS
};

void standin_count(enum counter counter, int64_t change);
uint64_t standin_counter(enum counter counter);
// Sets a counter to a value if that is larger.
void standin_raise(enum counter counter, uint64_t value);

// Log

// A line of the trace, if PERTURBINE_STANDIN_TRACE names a file.
void standin_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Adds one to what the summary says of `name`.
void standin_note(const char *name);
// A function that the stand-in does not have was called.
void standin_missing(const char *name);
// An environment variable as a number.
int64_t standin_setting(const char *name, int64_t otherwise);
// Whether numbers are computed, and read by the host as they are: PERTURBINE_STANDIN_VALUES=1.
int standin_has_values(void);

// Errors

// Remembers the error for cudaGetLastError and returns it.
cudaError_t standin_fail(cudaError_t error);
// cudaSuccess, or the error that every call returns once the device is lost.
cudaError_t standin_lost(void);

// Work

// A kernel, or another piece of work that is counted like one.
struct kernel {
  const void *host;  // the function that stands for it in the program; null for one that was looked up by name
  const char *name;
  uint64_t launched, captured, replayed;
  struct kernel *next;
  // What runs in its place on the host, and how large each argument is; null: nothing does.
  void (*on_host)(unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned shared_bytes, void **arguments);
  const unsigned *sizes;
  int was_looked_up;
};

enum kind { KERNEL, COPY, FILL, CALL, MARK, WAIT };

// One piece of work that a stream was given.
struct work {
  enum kind kind;
  struct kernel *kernel;         // of a KERNEL
  void (*run)(void *arguments);  // what it does on the host; null: nothing
  void *arguments;               // freed with the work
  size_t arguments_bytes;
  size_t bytes;                  // of a COPY or FILL
  struct CUevent_st *event;      // of a MARK or WAIT, with how often it had been recorded
  uint64_t recorded;
};

struct work_list {
  struct work *items;
  size_t count, room;
};

void standin_append(struct work_list *list, struct work work);
// Empties the list, and frees what its work was given.
void standin_clear(struct work_list *list);
// A copy of some bytes, to be the arguments of a piece of work.
void *standin_copy_of(const void *bytes, size_t count);
// Runs the work now, puts it in the stream's queue, or adds it to the graph that the stream captures. Takes the arguments.
cudaError_t standin_submit(cudaStream_t stream, struct work work);
// Work of a graph once more, on a stream that captures nothing.
void standin_replay(cudaStream_t stream, const struct work *work);
// Counted like a kernel of this name.
struct kernel *standin_named_kernel(const char *name);
// A kernel of a module that the program loaded, by its name.
struct kernel *standin_module_kernel(const char *name);
// Gives a kernel of libtorch's what it does on the host, if it is a fill.
void standin_find_fill(struct kernel *kernel);
cudaError_t standin_launch(struct kernel *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, void **arguments);

// Streams, events, captures

struct capture {
  unsigned long long id;
  enum cudaStreamCaptureMode mode;
  int invalid;
  pthread_t thread;
  struct CUgraph_st *graph;
  struct CUstream_st *origin;
  struct capture *next;
};

struct CUgraph_st {
  int id;
  struct work_list work;
};

struct CUgraphExec_st {
  int id;
  struct work_list work;
};

struct CUstream_st {
  int id;
  unsigned flags;
  int priority;
  struct capture *capture;
  struct work_list queue;
  struct CUstream_st *next;
};

struct CUevent_st {
  int id;
  unsigned long long capture;    // the id of the capture that it was recorded in last; 0: none
  uint64_t recorded, done;       // how often it was recorded, and which of these the device has come to
  int64_t not_ready;             // queries that are still answered with "not ready"
  double milliseconds;           // when it was recorded
};

void standin_lock(void);
void standin_unlock(void);
// The stream itself; the default stream for its special handles.
struct CUstream_st *standin_stream(cudaStream_t stream);
struct CUstream_st *standin_streams(void);
struct capture *standin_captures(void);
// Whether a stream's work waits until somebody waits for it.
int standin_is_lazy(void);
// Does all that a stream was given.
void standin_drain(struct CUstream_st *stream);
// cudaSuccess, or the error for a call that a capture under way forbids this thread; the capture is then invalid.
cudaError_t standin_forbidden_in_capture(const char *call);
// Makes a capture invalid because of a call, and returns this error.
cudaError_t standin_invalidate(struct capture *capture, const char *call, cudaError_t error);

// Products

// C = alpha · op(A) · op(B) + beta · C, all by columns, `count` times with these strides; then a bias is added to each row, and what is
// negative becomes zero, where that is requested.
struct product {
  int types[3];             // of A, B and C, a cudaDataType
  int is_transposed[2];     // of A and B
  long long rows, columns, inner;
  double alpha, beta;
  const void *a, *b;
  void *c;
  long long leading[3];     // the step from one column to the next
  long long strides[3];
  long long count;
  const void *bias;         // null: none
  int bias_type;
  int has_relu;
};

// Counted as a kernel of this name; computed where numbers are (`standin_has_values`).
cudaError_t standin_multiply(cudaStream_t stream, const char *name, const struct product *product);
// A number of a cudaDataType at a place, and back.
double standin_load(const void *numbers, int type, long long at);
void standin_store(void *numbers, int type, long long at, double value);
