// How kernels cut their rows and elements over the threads of a rank.
#pragma once

#include "kernels/cpu/Kernels.h"
#include "kernels/signatures/Workspace.h"

#include <algorithm>

namespace switchyard::kernels::cpu {

/// Elements that are worth handing to a thread.
inline constexpr int64_t kGrainElements = 16384;

/// [begin, end).
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
};

/// The part of [0, count) that block `block` of `blocks` owns. Depends on no thread count, so
/// partial sums over blocks, added in order, always give the same bits.
inline Range blockOf(int64_t count, int64_t blocks, int64_t block) {
  return {count * block / blocks, count * (block + 1) / blocks};
}

/// Calls body(Range) for ranges that cover [0, rows), in parallel. For work whose rows do not
/// depend on each other.
template <typename Body>
void forRows(const Launch &launch, int64_t rows, int64_t elementsPerRow, const Body &body) {
  int64_t rowsPerTask = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, elementsPerRow));
  int64_t tasks = (rows + rowsPerTask - 1) / rowsPerTask;
  contextOf(launch).pool->parallelFor(tasks, [&](int64_t task, int) {
    body(Range{task * rowsPerTask, std::min(rows, (task + 1) * rowsPerTask)});
  });
}

/// Calls body(Range, block) for the kReductionBlocks blocks of [0, rows), in parallel.
template <typename Body>
void forReductionBlocks(const Launch &launch, int64_t rows, const Body &body) {
  contextOf(launch).pool->parallelFor(kReductionBlocks, [&](int64_t block, int) {
    body(blockOf(rows, kReductionBlocks, block), block);
  });
}

/// sums[i] = the sum of partials[b, i] over the kReductionBlocks blocks, in order.
/// partials [kReductionBlocks, stride].
inline void sumReductionBlocks(const Launch &launch, const float *partials, int64_t stride,
                               int64_t count, float *sums) {
  forRows(launch, count, kReductionBlocks, [&](Range range) {
    std::copy(partials + range.begin, partials + range.end, sums + range.begin);
    for (int64_t block = 1; block < kReductionBlocks; ++block)
      for (int64_t i = range.begin; i < range.end; ++i)
        sums[i] += partials[block * stride + i];
  });
}

inline float *floatWorkspace(const Launch &launch) {
  return reinterpret_cast<float *>(launch.workspace.data());
}

} // namespace switchyard::kernels::cpu
