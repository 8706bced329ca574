// Proves that a plan is safe to execute, before anything is allocated for it. A plan file is
// untrusted: after verify() every index, extent, offset and launch is what the executor and the
// kernels rely on, and no launch of any program touches a byte outside its buffers or reads one
// that another buffer's writer has taken. What it cannot know is data: token ids, segment bounds
// and group sizes are checked or computed where they arise.
#pragma once

#include "runtime/core/Status.h"
#include "runtime/plan/Plan.h"

namespace switchyard {

/// Checks, in this order, and reports the first fault (InvalidInput), naming the program,
/// instruction, kernel and operand, what was found and what was expected:
/// - target, mesh, symbols (T, S, M, R, each with a bound of 1 or more), training settings;
/// - states: unique names, shardings that the mesh and the shape allow, offsets (aligned, inside
/// the
///   arena, disjoint), the parameter that a master, gradient or moment belongs to, the source that
///   parameters and masters are made of;
/// - programs: known names, each with exactly its ports; buffers of the rank's part of their
/// states,
///   aligned and inside their arenas at the symbols' bounds; launches match their kernels'
///   signatures, workspaces included, collectives and repeats the mesh; operands overlap only as
///   the signature allows; states are written only by the programs that may; every buffer is
///   written before it is read and nothing that shares its bytes is written between, however often
///   a repeat runs;
/// - streams and events: accesses to the same bytes on different streams, one of them a write, are
///   ordered by records and waits, and so are all collectives;
/// - arenas: each exactly as large as what lies in it, rounded up to kBufferAlignment; the peak
/// their sum.
Status verify(const Plan &plan);

} // namespace switchyard
