// The plan as a file. serialize() writes the form that plan.fbs defines, the same bytes for the
// same plan; parse() and load() read it back and check its form: lengths, offsets, known
// enumerators, bounded nesting, no byte used twice. Whether what it says is safe to execute is
// verify()'s question (Verify.h).
#pragma once

#include "runtime/core/Status.h"
#include "runtime/plan/Plan.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace switchyard {

/// Raised whenever an older reader would misunderstand a file. Plans of other versions are refused.
inline constexpr uint32_t kPlanSchemaVersion = 1;

/// No plan file is larger: a plan's size grows with the number of layers, not of experts or
/// parameters.
inline constexpr uint64_t kMaxPlanFileBytes = uint64_t{256} << 20;

/// The plan as the bytes of a file.
std::vector<uint8_t> serialize(const Plan &plan);

/// The plan in `bytes`. They are not trusted. Fails with InvalidInput: no plan, another version,
/// truncated, damaged.
Result<Plan> parse(std::span<const uint8_t> bytes);

/// The plan in the file at `path`; messages name the file.
Result<Plan> load(const std::string &path);

/// Writes `plan` to `path` by an atomic rename: the file is there whole, or not at all.
Status writePlan(const Plan &plan, const std::string &path);

} // namespace switchyard
