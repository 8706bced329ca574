// Which instructions of a program need which of its memory.
#pragma once

#include "runtime/plan/Plan.h"

#include <optional>
#include <vector>

namespace switchyard {

/// The instructions, in the list's order, that need what lies in a buffer: from `begin` through
/// `end`. What a repeat names is needed for all of its rounds.
struct Lifetime {
  uint64_t offset = 0; // in its arena
  uint64_t bytes = 0;  // of memory, at the symbols' bounds
  size_t begin = 0, end = 0;
};

/// By buffer of `program`; none where no instruction names it. The plan is verified.
std::vector<std::optional<Lifetime>> lifetimesOf(const Plan &plan, const Program &program);

/// Bytes of one arena that are needed at `instruction`, those that lifetimes share counted once.
uint64_t bytesAt(const std::vector<Lifetime> &lifetimes, size_t instruction);

} // namespace switchyard
