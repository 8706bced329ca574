// Which instruction of a program an activity of the device is of.
#pragma once

#include "runtime/device/Profiler.h"
#include "runtime/plan/Plan.h"

#include <vector>

namespace switchyard {

/// An activity, and the instruction that it is of, or -1.
struct PlacedActivity {
  const DeviceActivity *activity = nullptr;
  int64_t instruction = -1;
  bool isOfProgram = false;
};
/// In the order in which they began.
using PlacedActivities = std::vector<PlacedActivity *>;

/// The collective that instruction `instruction` is, or null; -1 is none.
const CollectiveInstruction *collectiveOf(const Program &program, int64_t instruction);

/// Gives the activities of a replayed run of `program` the instructions of `known`, a run that was
/// made one by one. Those of one kind and name, as many here as there, are the same ones in the
/// same order where the known ones are all on one stream, or all of collectives, which a plan has
/// in one order over all streams. Others keep what they have.
void nameReplayed(const Program &program, const PlacedActivities &known,
                  const PlacedActivities &replayed);

} // namespace switchyard
