// The decoded latent (the basal latent plus the vectors of perturbations at their doses and of covariates) and its backward pass. The formulas
// are those of src/model/perturbations.rs and src/model/network.rs.

#pragma once

#include "mixing.cuh"
#include "platform.h"

// Maximum number of covariates.
constexpr int MOST_COVARIATES = 8;

// Latent columns that a block sums at once; its other threads share the cells.
constexpr int COLUMNS_AT_ONCE = 128;

// Calls `store` for each latent column with the sum of `term(item, column)` over items, always in the same order. Blocks have
// one double of shared memory per thread.
template <typename Term, typename Store> DEVICE void column_totals(int64_t items, int64_t width, Term term, Store store) {
  int threads = (int)thread_count(), columns = smaller(threads, COLUMNS_AT_ONCE), lanes = threads / columns;
  int lane = (int)thread_index() / columns, own = (int)thread_index() % columns;
  double *parts = shared_memory<double>();
  for (int64_t first = 0; first < width; first += columns) {
    int64_t column = first + own;
    double sum = 0;
    for (int64_t item = lane; column < width && item < items; item += lanes)
      sum += term(item, column);
    sync_threads();
    parts[thread_index()] = sum;
    sync_threads();
    if (lane == 0 && column < width) {
      for (int other = 1; other < lanes; other++)
        sum += parts[other * columns + own];
      store(column, sum);
    }
  }
}

// Dose curves, which scale an embedding, as `Doser` in src/model/perturbations.rs.
enum DoseCurve : int64_t { DOSE_LINEAR, DOSE_SIGMOID, DOSE_LOG_SIGMOID };

// The perturbations of cells.
template <typename T> struct PerturbationTable {
  // Embeddings `[names, latent]`, and the parameters of the dose curves, `[names]`.
  const T *embeddings, *beta, *bias;
  // Codes and doses of each cell, `[cells, parts]`, padded with 0.
  const int64_t *codes;
  const T *doses;
  int64_t parts, curve;

  DEVICE static T sigmoid(T x) { return (T)1 / ((T)1 + exp(-x)); }

  // The dose as the curve's argument.
  DEVICE T seen(int64_t at) const { return curve == DOSE_LOG_SIGMOID ? log1p(doses[at]) : doses[at]; }

  DEVICE T scale(int64_t at) const {
    int64_t code = codes[at];
    T dose = seen(at);
    return curve == DOSE_LINEAR ? dose : sigmoid(dose * beta[code] + bias[code]) - sigmoid(bias[code]);
  }
};

// Covariates: the value of each cell, `[covariates, cells]`, and tables `[values, latent]`.
template <typename T> struct CovariateTables {
  const int64_t *codes;
  T *tables[MOST_COVARIATES];
  // Number of values of each.
  int64_t values[MOST_COVARIATES];
  int64_t count;
};

// Blocks stride over the cells.
template <typename T> struct LatentForward {
  // `[cells, latent]`, and the cell from whose basal latent each is decoded, `[cells]`; null: its own.
  const T *basal;
  const int64_t *sources;
  PerturbationTable<T> perturbations;
  CovariateTables<T> covariates;
  Mixing mixing;
  // `[cells, latent]`.
  T *latent;
  int64_t cells, width;

  DEVICE void run() const {
    for (int64_t cell = block_x(); cell < cells; cell += blocks_x()) {
      const T *start = basal + (sources ? sources[cell] : cell) * width;
      for (int64_t at = thread_index(); at < width; at += thread_count())
        latent[cell * width + at] = start[at] + mixing.mixed<T>(cell, [&](int64_t of) { return added(of, at); });
    }
  }

  // The term added to one column of a cell's latent.
  DEVICE T added(int64_t cell, int64_t at) const {
    T sum = (T)0;
    for (int64_t part = cell * perturbations.parts; part < (cell + 1) * perturbations.parts; part++) {
      int64_t code = perturbations.codes[part];
      if (code != 0)
        sum += perturbations.scale(part) * perturbations.embeddings[code * width + at];
    }
    for (int64_t of = 0; of < covariates.count; of++)
      sum += covariates.tables[of][covariates.codes[of * cells + cell] * width + at];
    return sum;
  }
};

// The gradient by the term added to each cell's latent, for mixed cells. Blocks stride over the cells.
template <typename T> struct MixedBackward {
  // The gradient by the latent, `[cells, latent]`.
  const T *gradient;
  Mixing mixing;
  T *by_added;
  int64_t cells, width;

  DEVICE void run() const {
    for (int64_t cell = block_x(); cell < cells; cell += blocks_x()) {
      const T *own = gradient + cell * width, *other = gradient + mixing.partner_of[cell] * width;
      for (int64_t at = thread_index(); at < width; at += thread_count())
        by_added[cell * width + at] = mixing.keeps<T>() * own[at] + mixing.takes<T>() * other[at];
    }
  }
};

// The gradients by embeddings, dose curves and covariate tables. One block per table row: first those of perturbations, then
// those of each covariate. Each block reads all cells, so that sums always have the same order.
template <typename T> struct LatentBackward {
  // The gradient by the latent, `[cells, latent]`.
  const T *gradient;
  PerturbationTable<T> perturbations;
  // Output gradients, with the shapes of their parameters; those of dose curves are null for a linear curve.
  T *by_embeddings, *by_beta, *by_bias;
  // The tables receive the gradients.
  CovariateTables<T> covariates;
  int64_t names, cells, width;

  DEVICE void run() const {
    int64_t row = block_x();
    if (row < names) {
      of_perturbation(row);
      return;
    }
    row -= names;
    for (int64_t of = 0; of < covariates.count; of++) {
      if (row < covariates.values[of]) {
        of_covariate(of, row);
        return;
      }
      row -= covariates.values[of];
    }
  }

  DEVICE void of_covariate(int64_t of, int64_t value) const {
    const int64_t *codes = covariates.codes + of * cells;
    column_totals(
        cells, width,
        [&](int64_t cell, int64_t at) { return codes[cell] == value ? (double)gradient[cell * width + at] : 0.0; },
        [&](int64_t at, double sum) { covariates.tables[of][value * width + at] = (T)sum; });
  }

  DEVICE void of_perturbation(int64_t code) const {
    const PerturbationTable<T> &of = perturbations;
    const T *embedding = of.embeddings + code * width;
    // Padding has no embedding.
    int64_t all = code == 0 ? 0 : cells * of.parts;
    column_totals(
        all, width,
        [&](int64_t part, int64_t at) {
          return of.codes[part] == code ? (double)(of.scale(part) * gradient[part / of.parts * width + at]) : 0.0;
        },
        [&](int64_t at, double sum) { by_embeddings[code * width + at] = (T)sum; });
    if (!by_beta)
      return;
    // The gradient by the scale of a part is Σ gradient · embedding; σ' = σ (1 − σ).
    T beta = of.beta[code], bias = of.bias[code], at_zero = of.sigmoid(bias);
    double beta_sum = 0, bias_sum = 0;
    int threads = (int)thread_count(), columns = smaller(threads, COLUMNS_AT_ONCE), lanes = threads / columns;
    for (int64_t part = (int)thread_index() / columns; part < all; part += lanes) {
      if (of.codes[part] != code)
        continue;
      const T *slope = gradient + part / of.parts * width;
      double by_scale = 0;
      for (int64_t at = (int)thread_index() % columns; at < width; at += columns)
        by_scale += (double)(slope[at] * embedding[at]);
      T dose = of.seen(part), there = of.sigmoid(dose * beta + bias), rise = there * ((T)1 - there);
      beta_sum += by_scale * (double)(rise * dose);
      bias_sum += by_scale * (double)(rise - at_zero * ((T)1 - at_zero));
    }
    beta_sum = block_sum(beta_sum);
    bias_sum = block_sum(bias_sum);
    if (thread_index() == 0) {
      by_beta[code] = (T)beta_sum;
      by_bias[code] = (T)bias_sum;
    }
  }
};

// Maximum number of adversaries whose gradients a kernel adds to the decoder's.
constexpr int MOST_OPPONENTS = 9;

// The gradient by the basal latent: the decoder's minus the adversaries'. Blocks stride over the cells.
template <typename T> struct BasalBackward {
  // The gradient by the latent, `[cells, latent]`, and the source cells as in LatentForward.
  const T *gradient;
  const int64_t *sources;
  // The gradients of each adversary's loss, `[cells, latent]`, and their weight, a scalar.
  const T *opponents[MOST_OPPONENTS];
  const double *weight;
  T *by_basal;
  int64_t opponent_count, cells, width;

  DEVICE void run() const {
    for (int64_t cell = block_x(); cell < cells; cell += blocks_x()) {
      auto store = [&](int64_t at, double sum) {
        T against = (T)0;
        for (int64_t of = 0; of < opponent_count; of++)
          against += opponents[of][cell * width + at];
        by_basal[cell * width + at] = opponent_count == 0 ? (T)sum : (T)sum - (T)*weight * against;
      };
      if (sources) {
        column_totals(
            cells, width,
            [&](int64_t other, int64_t at) { return sources[other] == cell ? (double)gradient[other * width + at] : 0.0; }, store);
        continue;
      }
      for (int64_t at = thread_index(); at < width; at += thread_count())
        store(at, (double)gradient[cell * width + at]);
    }
  }
};
