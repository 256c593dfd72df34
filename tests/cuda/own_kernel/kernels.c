// A kernel as the stand-in runs it: y += factor · x, a thread a number.

void scale_add_host(unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned shared_bytes, void **arguments) {
  float *y = *(float **)arguments[0];
  const float *x = *(const float **)arguments[1];
  float factor = *(const float *)arguments[2];
  int count = *(const int *)arguments[3];
  for (unsigned thread = 0; thread < grid_x * block_x; thread++)
    if ((int)thread < count)
      y[thread] += factor * x[thread];
}

const unsigned scale_add_sizes[] = {sizeof(float *), sizeof(float *), sizeof(float), sizeof(int), 0};
