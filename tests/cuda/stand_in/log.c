// What the stand-in saw: counters that can be read at any time, a trace, and a summary when the program ends.
//
//   PERTURBINE_STANDIN_COUNTERS=path   the counters as 64-bit numbers, in a file that is mapped into memory
//   PERTURBINE_STANDIN_TRACE=path      a line for each call
//   PERTURBINE_STANDIN_SUMMARY=path    a JSON object, written at exit
#define _GNU_SOURCE
#include "summary.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *const names[COUNTERS] = {
    "launches",  "graph_launches", "replayed_nodes", "waits",        "copies_to_device", "copies_to_host", "copies_on_device",
    "fills",     "allocations",    "frees",          "device_bytes", "device_peak",      "pinned_bytes",   "pinned_peak",
    "captures",  "forbidden",      "races",          "streams",      "events",           "graphs",
};

static uint64_t own_counters[COUNTERS];
static uint64_t *counters = own_counters;

// What happened how often, by name.
static struct note {
  char *name;
  uint64_t count;
} notes[512];

static FILE *trace;

int64_t standin_setting(const char *name, int64_t otherwise) {
  const char *text = getenv(name);
  return text ? strtoll(text, 0, 10) : otherwise;
}

int standin_has_values(void) {
  static int known = -1;
  if (known < 0)
    known = standin_setting("PERTURBINE_STANDIN_VALUES", 0) != 0;
  return known;
}

void standin_count(enum counter counter, int64_t change) {
  __atomic_add_fetch(&counters[counter], (uint64_t)change, __ATOMIC_RELAXED);
}

uint64_t standin_counter(enum counter counter) { return __atomic_load_n(&counters[counter], __ATOMIC_RELAXED); }

void standin_raise(enum counter counter, uint64_t value) {
  standin_lock();
  if (counters[counter] < value)
    counters[counter] = value;
  standin_unlock();
}

void standin_trace(const char *format, ...) {
  if (!trace)
    return;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  standin_lock();
  fprintf(trace, "%ld.%06ld %ld ", now.tv_sec, now.tv_nsec / 1000, syscall(SYS_gettid));
  va_list rest;
  va_start(rest, format);
  vfprintf(trace, format, rest);
  va_end(rest);
  fputc('\n', trace);
  standin_unlock();
}

void standin_note(const char *name) {
  standin_lock();
  for (size_t at = 0; at < sizeof notes / sizeof *notes; at++) {
    if (!notes[at].name)
      notes[at].name = strdup(name);
    if (strcmp(notes[at].name, name) == 0) {
      notes[at].count++;
      break;
    }
  }
  standin_unlock();
}

void standin_missing(const char *name) {
  char text[256];
  snprintf(text, sizeof text, "missing: %s", name);
  standin_note(text);
  standin_trace("%s", text);
}

// The file is as long as the counters, so that a reader always finds all of them.
__attribute__((constructor)) static void open_files(void) {
  const char *path = getenv("PERTURBINE_STANDIN_COUNTERS");
  int file = path ? open(path, O_RDWR | O_CREAT | O_TRUNC, 0644) : -1;
  if (0 <= file && ftruncate(file, sizeof own_counters) == 0) {
    void *page = mmap(0, sizeof own_counters, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page != MAP_FAILED)
      counters = page;
  }
  if (0 <= file)
    close(file);
  path = getenv("PERTURBINE_STANDIN_TRACE");
  trace = path ? fopen(path, "w") : 0;
}

__attribute__((destructor)) static void write_summary(void) {
  if (trace)
    fflush(trace);
  const char *path = getenv("PERTURBINE_STANDIN_SUMMARY");
  FILE *out = path ? fopen(path, "w") : 0;
  if (!out)
    return;
  fprintf(out, "{\n\"counters\": {");
  for (int at = 0; at < COUNTERS; at++)
    fprintf(out, "%s\"%s\": %llu", at ? ", " : "", names[at], (unsigned long long)counters[at]);
  fprintf(out, "},\n\"notes\": {");
  for (size_t at = 0; at < sizeof notes / sizeof *notes && notes[at].name; at++)
    fprintf(out, "%s\n  \"%s\": %llu", at ? "," : "", notes[at].name, (unsigned long long)notes[at].count);
  fprintf(out, "},\n\"graphs\": [");
  summarise_graphs(out);
  fprintf(out, "],\n\"kernels\": [");
  summarise_kernels(out);
  fprintf(out, "]\n}\n");
  fclose(out);
}
