// sort_by_expert, permute, unpermute and their gradients, also with an addend; rows_of_tokens. A
// row number outside [0, T k) makes its slot inert, as -1 does.
#include "kernels/cpu/BFloat16.h"
#include "kernels/cpu/KernelList.h"
#include "kernels/cpu/Rows.h"
#include "kernels/cpu/VectorMath.h"

namespace switchyard::kernels::cpu {

namespace {

/// The rows of each slot, [tokens, topK].
struct Slots {
  const int32_t *rows = nullptr;
  int64_t tokens = 0;
  int64_t topK = 0;

  int64_t count() const { return tokens * topK; }
  /// The row of a slot, or -1 for an inert one.
  int64_t row(int64_t slot) const {
    return rows[slot] >= 0 && rows[slot] < count() ? rows[slot] : -1;
  }
};

Slots slotsOf(const Tensor &rowOfSlot) {
  return {rowOfSlot.as<int32_t>(), rowOfSlot.dims[0], rowOfSlot.dims[1]};
}

/// Zeroes the rows that belong to no slot. sort_by_expert leaves them at the end; where they are
/// anywhere else, all rows are zeroed, before any is written.
template <typename T>
void zeroUnusedRows(const Launch &launch, const Slots &slots, T *rows, int64_t width) {
  int64_t used = 0;
  int64_t end = 0;
  for (int64_t slot = 0; slot < slots.count(); ++slot) {
    int64_t row = slots.row(slot);
    used += row >= 0;
    end = std::max(end, row + 1);
  }
  int64_t first = used == end ? end : 0;
  forRows(launch, slots.count() - first, width, [&](Range range) {
    std::fill(rows + (first + range.begin) * width, rows + (first + range.end) * width, T{});
  });
}

/// sums += weight * row.
template <typename T>
[[gnu::always_inline]] inline void addRow(const T *row, float weight, float *sums, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i)
    sums[i] += weight * toFloat(row[i]);
}

/// to = sums, or x + sums where there is an x: rounded before, as if the sums had been stored. x
/// may be `to`.
template <typename T>
[[gnu::always_inline]] inline void storeSums(const float *sums, const T *x, T *to, int64_t count) {
  if (x) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i)
      to[i] = fromFloat<T>(toFloat(x[i]) + roundTo<T>(sums[i]));
  } else {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i)
      to[i] = fromFloat<T>(sums[i]);
  }
}

/// y[t] = x[t] + sum_j weight(slot) rows[row(slot)], the sum in top-k order; x may be null. Columns
/// are summed in pieces that fit the stack.
template <typename T, typename Weight>
[[gnu::always_inline]] inline void combine(const T *rows, const Slots &slots, const T *x, T *y,
                                           int64_t width, Range tokens, const Weight &weight) {
  constexpr int64_t kColumns = 512;
  float sums[kColumns];
  for (int64_t t = tokens.begin; t < tokens.end; ++t)
    for (int64_t first = 0; first < width; first += kColumns) {
      int64_t count = std::min(kColumns, width - first);
      std::fill_n(sums, count, 0.0f);
      for (int64_t slot = t * slots.topK; slot < (t + 1) * slots.topK; ++slot)
        if (slots.row(slot) >= 0)
          addRow(rows + slots.row(slot) * width + first, weight(slot), sums, count);
      int64_t place = t * width + first;
      storeSums(sums, x ? x + place : nullptr, y + place, count);
    }
}

template <typename T>
SWITCHYARD_VECTORIZED void sumTokens(const T *rows, const Slots &slots, const T *x, T *y,
                                     int64_t width, Range tokens) {
  combine(rows, slots, x, y, width, tokens, [](int64_t) { return 1.0f; });
}

template <typename T, typename B>
SWITCHYARD_VECTORIZED void combineTokens(const T *rows, const B *weights, const Slots &slots,
                                         const T *x, T *y, int64_t width, Range tokens) {
  combine(rows, slots, x, y, width, tokens,
          [weights](int64_t slot) { return toFloat(weights[slot]); });
}

/// permute_grad, or permute_grad_add where there is an x.
void permuteGrad(const Launch &launch, const Tensor *x, const Tensor &dx) {
  const Tensor &drows = launch.operands[0];
  Slots slots = slotsOf(launch.operands[1]);
  int64_t width = dx.dims[1];
  withFloatType(dx.dtype, [&]<typename T>(T) {
    forRows(launch, slots.tokens, slots.topK * width, [&](Range tokens) {
      sumTokens(drows.as<T>(), slots, x ? x->as<T>() : nullptr, dx.as<T>(), width, tokens);
    });
  });
}

/// unpermute, or unpermute_add where there is an x.
void unpermute(const Launch &launch, const Tensor *x, const Tensor &y) {
  const Tensor &rows = launch.operands[0];
  const Tensor &weights = launch.operands[1];
  Slots slots = slotsOf(launch.operands[2]);
  int64_t width = y.dims[1];
  withFloatType(y.dtype, [&]<typename T>(T) {
    withFloatType(weights.dtype, [&]<typename B>(B) {
      forRows(launch, slots.tokens, slots.topK * width, [&](Range tokens) {
        combineTokens(rows.as<T>(), weights.as<B>(), slots, x ? x->as<T>() : nullptr, y.as<T>(),
                      width, tokens);
      });
    });
  });
}

template <typename T>
[[gnu::always_inline]] inline float dot(const T *a, const T *b, int64_t count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i)
    sum += toFloat(a[i]) * toFloat(b[i]);
  return sum;
}

template <typename T, typename B>
SWITCHYARD_VECTORIZED void combineTokensGrad(const T *dy, const T *rows, const B *weights,
                                             const Slots &slots, T *drows, B *dweights,
                                             int64_t width, Range tokens) {
  for (int64_t t = tokens.begin; t < tokens.end; ++t)
    for (int64_t slot = t * slots.topK; slot < (t + 1) * slots.topK; ++slot) {
      int64_t row = slots.row(slot);
      dweights[slot] = B{};
      if (row < 0)
        continue;
      const T *from = dy + t * width;
      T *to = drows + row * width;
      float weight = toFloat(weights[slot]);
      dweights[slot] = fromFloat<B>(dot(from, rows + row * width, width));
#pragma omp simd
      for (int64_t i = 0; i < width; ++i)
        to[i] = fromFloat<T>(weight * toFloat(from[i]));
    }
}

} // namespace

// Counting sort: slots per block and expert, then each block's first row of each expert.
void runSortByExpert(const Launch &launch) {
  const Tensor &experts = launch.operands[0];
  int32_t *groupSizes = launch.operands[1].as<int32_t>();
  int32_t *rowOfSlot = launch.operands[2].as<int32_t>();
  int64_t numExperts = launch.attributes[0].integer;
  int64_t slots = experts.count();
  const int32_t *expertOfSlot = experts.as<int32_t>();
  int32_t *next = reinterpret_cast<int32_t *>(launch.workspace.data());
  forReductionBlocks(launch, slots, [&](Range range, int64_t block) {
    int32_t *counts = next + block * numExperts;
    std::fill_n(counts, numExperts, 0);
    for (int64_t slot = range.begin; slot < range.end; ++slot)
      if (expertOfSlot[slot] >= 0 && expertOfSlot[slot] < numExperts)
        ++counts[expertOfSlot[slot]];
  });
  int32_t row = 0;
  for (int64_t expert = 0; expert < numExperts; ++expert) {
    int32_t first = row;
    for (int64_t block = 0; block < kReductionBlocks; ++block) {
      int32_t count = next[block * numExperts + expert];
      next[block * numExperts + expert] = row;
      row += count;
    }
    groupSizes[expert] = row - first;
  }
  forReductionBlocks(launch, slots, [&](Range range, int64_t block) {
    int32_t *rows = next + block * numExperts;
    for (int64_t slot = range.begin; slot < range.end; ++slot) {
      bool routed = expertOfSlot[slot] >= 0 && expertOfSlot[slot] < numExperts;
      rowOfSlot[slot] = routed ? rows[expertOfSlot[slot]]++ : -1;
    }
  });
}

void runPermute(const Launch &launch) {
  const Tensor &x = launch.operands[0];
  const Tensor &rows = launch.operands[2];
  Slots slots = slotsOf(launch.operands[1]);
  int64_t width = x.dims[1];
  withFloatType(x.dtype, [&]<typename T>(T) {
    zeroUnusedRows(launch, slots, rows.as<T>(), width);
    forRows(launch, slots.tokens, slots.topK * width, [&](Range tokens) {
      for (int64_t slot = tokens.begin * slots.topK; slot < tokens.end * slots.topK; ++slot)
        if (slots.row(slot) >= 0)
          std::copy_n(x.as<T>() + slot / slots.topK * width, width,
                      rows.as<T>() + slots.row(slot) * width);
    });
  });
}

void runPermuteGrad(const Launch &launch) {
  permuteGrad(launch, nullptr, launch.operands[2]);
}

void runPermuteGradAdd(const Launch &launch) {
  permuteGrad(launch, &launch.operands[2], launch.operands[3]);
}

void runRowsOfTokens(const Launch &launch) {
  const Tensor &weights = launch.operands[1];
  int32_t *tokenOfRow = launch.operands[2].as<int32_t>();
  Slots slots = slotsOf(launch.operands[0]);
  withFloatType(weights.dtype, [&]<typename B>(B) {
    B *weightOfRow = launch.operands[3].as<B>();
    std::fill_n(tokenOfRow, slots.count(), -1);
    std::fill_n(weightOfRow, slots.count(), B{});
    // By one thread: of slots that a plan gives the same row the last one has it.
    for (int64_t slot = 0; slot < slots.count(); ++slot)
      if (int64_t row = slots.row(slot); row >= 0) {
        tokenOfRow[row] = static_cast<int32_t>(slot / slots.topK);
        weightOfRow[row] = weights.as<const B>()[slot];
      }
  });
}

void runUnpermute(const Launch &launch) {
  unpermute(launch, nullptr, launch.operands[3]);
}

void runUnpermuteAdd(const Launch &launch) {
  unpermute(launch, &launch.operands[3], launch.operands[4]);
}

void runUnpermuteGrad(const Launch &launch) {
  const Tensor &dy = launch.operands[0];
  const Tensor &rows = launch.operands[1];
  const Tensor &weights = launch.operands[2];
  const Tensor &drows = launch.operands[4];
  const Tensor &dweights = launch.operands[5];
  Slots slots = slotsOf(launch.operands[3]);
  int64_t width = dy.dims[1];
  withFloatType(dy.dtype, [&]<typename T>(T) {
    zeroUnusedRows(launch, slots, drows.as<T>(), width);
    withFloatType(weights.dtype, [&]<typename B>(B) {
      forRows(launch, slots.tokens, slots.topK * width, [&](Range tokens) {
        combineTokensGrad(dy.as<T>(), rows.as<T>(), weights.as<B>(), slots, drows.as<T>(),
                          dweights.as<B>(), width, tokens);
      });
    });
  });
}

} // namespace switchyard::kernels::cpu
