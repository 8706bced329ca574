// Pieces of data that threads make ahead of the one that uses them: files are read, checked and
// converted while what was read before is on its way to a device.
#pragma once

#include "runtime/core/Status.h"

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

namespace switchyard {

/// Calls `make` for the pieces 0 to count - 1, each on one of `threads` threads, and `use` for each
/// of them in their order, on the calling thread, with the bytes that `make` left in its buffer.
/// Buffers are used again: there are 2 * `threads` of them, of any content and size when `make`
/// gets one. After a failure nothing further is begun; it is that of the first piece that had one.
Status makeAhead(size_t count, int threads,
                 const std::function<Status(size_t piece, std::vector<std::byte> &buffer)> &make,
                 const std::function<Status(size_t piece, std::span<const std::byte> bytes)> &use);

} // namespace switchyard
