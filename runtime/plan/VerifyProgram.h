// The part of verify() that looks at one program. The plan's symbols, states and arena sizes are
// verified already.
#pragma once

#include "runtime/core/Status.h"
#include "runtime/plan/Plan.h"

#include <array>

namespace switchyard {

/// The end of the last byte of each arena that something uses, rounded up to kBufferAlignment.
using ArenaEnds = std::array<uint64_t, kNumArenas>;

/// Checks `program` and raises `ends` to what it uses.
Status verifyProgram(const Plan &plan, const Program &program, ArenaEnds &ends);

/// Checks that `program` is one that trainers know and has exactly its ports, of the right types.
/// Its buffers are verified.
Status verifyPorts(const Plan &plan, const Program &program);

} // namespace switchyard
