#include "runtime/training/PlacedActivity.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

namespace switchyard {

namespace {

using Name = std::pair<DeviceActivity::Kind, std::string_view>;

std::map<Name, PlacedActivities> byName(const PlacedActivities &activities) {
  std::map<Name, PlacedActivities> result;
  for (PlacedActivity *one : activities)
    result[{one->activity->kind, one->activity->name}].push_back(one);
  return result;
}

} // namespace

const CollectiveInstruction *collectiveOf(const Program &program, int64_t instruction) {
  return instruction < 0 ? nullptr
                         : std::get_if<CollectiveInstruction>(&program.instructions[instruction]);
}

void nameReplayed(const Program &program, const PlacedActivities &known,
                  const PlacedActivities &replayed) {
  std::map<Name, PlacedActivities> named = byName(known);
  for (auto &[name, same] : byName(replayed)) {
    const PlacedActivities &first = named[name];
    auto isOnOneStream = [&](const PlacedActivity *one) {
      return one->activity->stream == first[0]->activity->stream;
    };
    auto isCollective = [&](const PlacedActivity *one) {
      return collectiveOf(program, one->instruction) != nullptr;
    };
    if (first.size() != same.size() ||
        !(std::ranges::all_of(first, isOnOneStream) || std::ranges::all_of(first, isCollective)))
      continue;
    for (size_t i = 0; i < first.size(); ++i)
      same[i]->instruction = first[i]->instruction;
  }
}

} // namespace switchyard
