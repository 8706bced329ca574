#include "runtime/data/tokenizer/ReadParts.h"

#include "runtime/core/Json.h"

#include <fmt/format.h>

namespace switchyard {

Status unknownType(const char *what, const std::string &type, const char *instead) {
  return Status::invalidInput(fmt::format("{} {} {}", what, quoteJson(type), instead));
}

Status checkStepCount(size_t count) {
  constexpr size_t kMaxSteps = 64;
  if (count <= kMaxSteps)
    return {};
  return Status::invalidInput(fmt::format("it has more than {} steps, expected fewer", kMaxSteps));
}

} // namespace switchyard
