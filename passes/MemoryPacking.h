// Offsets in one arena for memory that is needed for a while: what is never needed at the same time
// may share bytes.
#pragma once

#include "llvm/ADT/ArrayRef.h"

#include <cstdint>
#include <optional>

namespace switchyard::passes {

/// Offsets and sizes of arenas are multiples of this many bytes.
inline constexpr int64_t kAlignment = 256;

/// `bytes` that nothing else may touch from instruction `begin` to instruction `end`, both counted.
struct MemorySpan {
  int begin = 0;
  int end = 0;
  bool varies = false; // its size follows a symbol
  int64_t bytes = 0;
  int64_t offset = 0;
};

/// The most bytes that are needed at one time: no packing takes fewer.
int64_t mostBytesAtOnce(llvm::ArrayRef<MemorySpan> spans);

/// Gives the spans offsets within `limit` bytes. Returns the bytes used, or nothing where none of
/// the orders that it tries gets by with them.
std::optional<int64_t> packWithin(llvm::MutableArrayRef<MemorySpan> spans, int64_t limit);

/// Gives the spans the best offsets of all orders that it tries, within `limit` if one of them is.
/// Returns the bytes used.
int64_t packBest(llvm::MutableArrayRef<MemorySpan> spans, int64_t limit);

} // namespace switchyard::passes
