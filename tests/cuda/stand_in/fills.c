// Kernels of libtorch's that fill contiguous memory with a number: they are computed where numbers are, so that `zeros` and `ones` are
// what they say.
#include <string.h>

#include "stand_in.h"

// libtorch names them after the type: vectorized_elementwise_kernel<N, FillFunctor<T>, std::array<char *, 1>>(int, T, char *).
static const char before_type[] = "ENS0_11FillFunctorI";
static const char after_type[] = "EESt5arrayIPcLm1EEEEviT0_T1_";

static const struct type {
  const char *name;
  unsigned bytes;
} types[] = {
    {"a", 1}, {"b", 1}, {"h", 1}, {"s", 2}, {"N3c108BFloat16E", 2}, {"N3c104HalfE", 2}, {"f", 4}, {"i", 4}, {"d", 8}, {"l", 8},
};

static void fill(void **arguments, size_t bytes) {
  int count;
  char *to;
  memcpy(&count, arguments[0], sizeof count);
  memcpy(&to, arguments[2], sizeof to);
  for (int at = 0; at < count; at++)
    memcpy(to + (size_t)at * bytes, arguments[1], bytes);
}

static void fill_1(unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned shared_bytes, void **arguments) { fill(arguments, 1); }

static void fill_2(unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned shared_bytes, void **arguments) { fill(arguments, 2); }

static void fill_4(unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned shared_bytes, void **arguments) { fill(arguments, 4); }

static void fill_8(unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned shared_bytes, void **arguments) { fill(arguments, 8); }

void standin_find_fill(struct kernel *kernel) {
  static const unsigned sizes[][4] = {{4, 1, 8, 0}, {4, 2, 8, 0}, {4, 4, 8, 0}, {4, 8, 8, 0}};
  const char *type = strstr(kernel->name, before_type);
  if (!type || !strstr(kernel->name, "vectorized_elementwise_kernel"))
    return;
  type += sizeof before_type - 1;
  for (size_t at = 0; at < sizeof types / sizeof *types; at++) {
    size_t length = strlen(types[at].name);
    if (strncmp(type, types[at].name, length) != 0 || strcmp(type + length, after_type) != 0)
      continue;
    unsigned bytes = types[at].bytes;
    kernel->on_host = bytes == 1 ? fill_1 : bytes == 2 ? fill_2 : bytes == 4 ? fill_4 : fill_8;
    kernel->sizes = sizes[bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3];
  }
}
