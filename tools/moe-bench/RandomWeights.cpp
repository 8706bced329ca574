#include "tools/moe-bench/RandomWeights.h"

#include "runtime/core/Floats.h"
#include "runtime/plan/Layout.h"
#include "tools/moe-bench/RandomValues.h"

#include <algorithm>

namespace switchyard::bench {

namespace {

/// Elements that pass through host memory at once.
constexpr int64_t kStagingElements = int64_t{1} << 24;
constexpr float kDeviation = 0.02F;

void fillOnes(DType dtype, std::span<std::byte> values) {
  const std::vector<float> ones(values.size() / kernels::byteSize(dtype), 1.0F);
  convertFloats(FloatFormat::F32, std::as_bytes(std::span(ones)),
                dtype == DType::BF16 ? FloatFormat::BF16 : FloatFormat::F32, values);
}

} // namespace

Status fillRandomWeights(Executor &executor, uint64_t seed) {
  const Plan &plan = executor.plan();
  std::vector<std::byte> staging;
  for (size_t index = 0; index < plan.states.size(); ++index) {
    const State &state = plan.states[index];
    if (state.kind != StateKind::Parameter && state.kind != StateKind::Master)
      continue;
    const auto parameter = static_cast<uint64_t>(
        state.kind == StateKind::Master ? state.of : static_cast<int32_t>(index));
    const uint64_t stateSeed = randomBits(randomBits(seed) + parameter + 1);
    const int64_t width = kernels::byteSize(state.dtype);
    const ElementRange held = localRange(state.shape, state.sharding, plan.mesh, executor.rank());
    for (int64_t begin = held.begin; begin < held.end; begin += kStagingElements) {
      staging.resize(std::min(kStagingElements, held.end - begin) * width);
      if (state.shape.size() == 1)
        fillOnes(state.dtype, staging);
      else
        fillUniform(stateSeed, begin, kDeviation, state.dtype, staging);
      SY_RETURN_IF_ERROR(executor.writeState(index, (begin - held.begin) * width, staging));
    }
  }
  return {};
}

} // namespace switchyard::bench
