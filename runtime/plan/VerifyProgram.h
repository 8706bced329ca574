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

/// Checks a collective by itself: its axes, how many operands it has, their types against the mesh,
/// room for padding. The program's buffers are verified.
Status verifyCollective(const Plan &plan, const Program &program,
                        const CollectiveInstruction &collective);

/// Checks the repeat at `index`: its operands, its length, and that its body has no other repeat
/// and meets only ranks that repeat alike.
Status verifyRepeat(const Plan &plan, const Program &program, size_t index);

/// Checks events, and that accesses of the same bytes on different streams and all collectives are
/// ordered. Each instruction is verified by itself.
Status verifyOrder(const Plan &plan, const Program &program);

/// Checks that `program` is one that trainers know and has exactly its ports, of the right types.
/// Its buffers are verified.
Status verifyPorts(const Plan &plan, const Program &program);

} // namespace switchyard
