// Captures and graphs: what a stream is given meanwhile becomes the nodes of a graph, and what must not happen is refused.
//
// The rules are those of NVIDIA's documentation; they were not compared with a driver. Edges are not followed: a graph is a list, and
// streams that joined a capture count as joined back.
//
//   PERTURBINE_STANDIN_FAIL_CAPTURE=n   the nth capture goes wrong, from 1
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "summary.h"

static struct capture *captures;
static __thread enum cudaStreamCaptureMode mode_of_thread = cudaStreamCaptureModeGlobal;

// What the summary says of graphs that may be gone by then.
static struct graph_note {
  size_t nodes[WAIT + 1], copied_bytes, launches;
  struct graph_kernel {
    struct kernel *kernel;
    size_t count;
    struct graph_kernel *next;
  } *kernels;
} *graph_notes;
static int graphs_count;

struct capture *standin_captures(void) { return captures; }

cudaError_t standin_invalidate(struct capture *capture, const char *call, cudaError_t error) {
  char text[128] = "forbidden: ";
  strncat(text, call, sizeof text - sizeof "forbidden: ");
  capture->invalid = 1;
  standin_count(FORBIDDEN, 1);
  standin_note(text);
  standin_trace("%s", text);
  return standin_fail(error);
}

cudaError_t standin_forbidden_in_capture(const char *call) {
  cudaError_t error = cudaSuccess;
  standin_lock();
  for (struct capture *capture = captures; capture; capture = capture->next) {
    int is_own = pthread_equal(capture->thread, pthread_self());
    int is_guarded = capture->mode == cudaStreamCaptureModeGlobal || (is_own && capture->mode == cudaStreamCaptureModeThreadLocal);
    int thread_minds = mode_of_thread == cudaStreamCaptureModeGlobal || (is_own && mode_of_thread == cudaStreamCaptureModeThreadLocal);
    if (is_guarded && thread_minds)
      error = standin_invalidate(capture, call, cudaErrorStreamCaptureUnsupported);
  }
  standin_unlock();
  return error;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) {
  enum cudaStreamCaptureMode before = mode_of_thread;
  mode_of_thread = *mode;
  *mode = before;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
  cudaError_t error = standin_lost();
  if (error)
    return error;
  if (stream == 0 || stream == cudaStreamLegacy)
    return standin_fail(cudaErrorStreamCaptureUnsupported);
  if (stream->capture)
    return standin_fail(cudaErrorIllegalState);
  static unsigned long long last_id;
  standin_lock();
  struct capture *capture = calloc(1, sizeof *capture);
  struct CUgraph_st *graph = calloc(1, sizeof *graph);
  graph->id = graphs_count++;
  graph_notes = realloc(graph_notes, (size_t)graphs_count * sizeof *graph_notes);
  graph_notes[graph->id] = (struct graph_note){0};
  *capture = (struct capture){++last_id, mode, 0, pthread_self(), graph, stream, captures};
  captures = stream->capture = capture;
  standin_unlock();
  standin_trace("capture g%d begins on s%d", graph->id, stream->id);
  return cudaSuccess;
}

static void note_graph(const struct CUgraph_st *graph) {
  struct graph_note *note = &graph_notes[graph->id];
  for (size_t at = 0; at < graph->work.count; at++) {
    const struct work *work = &graph->work.items[at];
    note->nodes[work->kind]++;
    if (work->kind == COPY)
      note->copied_bytes += work->bytes;
    if (work->kind != KERNEL)
      continue;
    struct graph_kernel *known = note->kernels;
    while (known && known->kernel != work->kernel)
      known = known->next;
    if (!known) {
      known = calloc(1, sizeof *known);
      *known = (struct graph_kernel){work->kernel, 0, note->kernels};
      note->kernels = known;
    }
    known->count++;
  }
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
  struct capture *capture = stream->capture;
  *out = 0;
  if (!capture)
    return standin_fail(cudaErrorIllegalState);
  if (capture->mode != cudaStreamCaptureModeRelaxed && !pthread_equal(capture->thread, pthread_self()))
    return standin_fail(cudaErrorStreamCaptureWrongThread);
  cudaError_t error = standin_lost();
  standin_lock();
  for (struct CUstream_st *other = standin_streams(); other; other = other->next)
    if (other->capture == capture)
      other->capture = 0;
  struct capture **place = &captures;
  while (*place != capture)
    place = &(*place)->next;
  *place = capture->next;
  struct CUgraph_st *graph = capture->graph;
  if (standin_setting("PERTURBINE_STANDIN_FAIL_CAPTURE", 0) == (int64_t)capture->id)
    capture->invalid = 1;
  if (capture->invalid && !error)
    error = standin_fail(cudaErrorStreamCaptureInvalidated);
  standin_trace("capture g%d ends with %zu nodes%s", graph->id, graph->work.count, error ? ", and failed" : "");
  if (error) {
    standin_clear(&graph->work);
    free(graph);
  } else {
    note_graph(graph);
    standin_count(CAPTURES, 1);
    *out = graph;
  }
  free(capture);
  standin_unlock();
  return error;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
  const struct capture *capture = standin_stream(stream)->capture;
  *status = !capture           ? cudaStreamCaptureStatusNone
            : capture->invalid ? cudaStreamCaptureStatusInvalidated
                               : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *graph, const cudaGraphNode_t **needs, const cudaGraphEdgeData **edges,
                                     size_t *count) {
  const struct capture *capture = standin_stream(stream)->capture;
  cudaStreamIsCapturing(stream, status);
  if (capture && id)
    *id = capture->id;
  if (capture && graph)
    *graph = capture->graph;
  if (needs)
    *needs = 0;
  if (edges)
    *edges = 0;
  if (count)
    *count = 0;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags) {
  cudaError_t error = standin_lost();
  if (error || (error = standin_forbidden_in_capture("cudaGraphInstantiate")))
    return error;
  struct CUgraphExec_st *executable = calloc(1, sizeof *executable);
  executable->id = graph->id;
  for (size_t at = 0; at < graph->work.count; at++) {
    struct work work = graph->work.items[at];
    if (work.arguments)
      work.arguments = standin_copy_of(work.arguments, work.arguments_bytes);
    standin_append(&executable->work, work);
  }
  standin_count(GRAPHS, 1);
  *out = executable;
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) {
  for (size_t at = 0; nodes && at < *count && at < graph->work.count; at++)
    nodes[at] = (cudaGraphNode_t)&graph->work.items[at];
  *count = graph->work.count;
  return cudaSuccess;
}

cudaError_t cudaGraphNodeGetDependencies(cudaGraphNode_t node, cudaGraphNode_t *needs, cudaGraphEdgeData *edges, size_t *count) {
  *count = 0;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  standin_clear(&graph->work);
  free(graph);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  cudaError_t error = standin_forbidden_in_capture("cudaGraphExecDestroy");
  if (error)
    return error;
  standin_clear(&executable->work);
  free(executable);
  standin_count(GRAPHS, -1);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  cudaError_t error = standin_lost();
  if (error)
    return error;
  standin_count(GRAPH_LAUNCHES, 1);
  standin_count(REPLAYED_NODES, (int64_t)executable->work.count);
  standin_trace("graph g%d on s%d", executable->id, standin_stream(stream)->id);
  standin_lock();
  graph_notes[executable->id].launches++;
  for (size_t at = 0; at < executable->work.count; at++)
    standin_replay(stream, &executable->work.items[at]);
  standin_unlock();
  return cudaSuccess;
}

void summarise_graphs(FILE *out) {
  for (int id = 0; id < graphs_count; id++) {
    const struct graph_note *note = &graph_notes[id];
    fprintf(out, "%s\n  {\"kernels\": %zu, \"copies\": %zu, \"fills\": %zu, \"calls\": %zu, \"copied_bytes\": %zu, \"launches\": %zu, ",
            id ? "," : "", note->nodes[KERNEL], note->nodes[COPY], note->nodes[FILL], note->nodes[CALL], note->copied_bytes,
            note->launches);
    fprintf(out, "\"names\": {");
    for (const struct graph_kernel *known = note->kernels; known; known = known->next)
      fprintf(out, "\"%s\": %zu%s", known->kernel->name, known->count, known->next ? ", " : "");
    fprintf(out, "}}");
  }
}
