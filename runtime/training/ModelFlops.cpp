#include "runtime/training/ModelFlops.h"

#include <algorithm>

namespace switchyard {

ModelFlops::ModelFlops(const Plan &plan)
    : activeParameters_(static_cast<double>(plan.training.activeParameters)) {
  const kernels::Signature &signature = *kernels::findSignature("attention");
  auto indexOf = [&](std::string_view attribute) {
    return std::ranges::find(signature.attributes, attribute, &kernels::AttributeSpec::name) -
           signature.attributes.begin();
  };
  const Program *forward = plan.findProgram("evaluate");
  if (!forward)
    return;
  for (const Instruction &instruction : forward->instructions) {
    const auto *launch = std::get_if<LaunchInstruction>(&instruction);
    if (!launch || launch->kernel != signature.name)
      continue;
    auto attribute = [&](std::string_view name) {
      return launch->attributes[indexOf(name)].integer;
    };
    attentions_.push_back(
        {static_cast<double>(attribute("num_heads")) * static_cast<double>(attribute("head_dim")),
         attribute("window")});
  }
}

double ModelFlops::ofSegment(int64_t tokens) const {
  double flops = 6 * activeParameters_ * static_cast<double>(tokens);
  for (const Attention &attention : attentions_) {
    const int64_t seen = attention.window > 0 ? std::min(attention.window, tokens) : tokens;
    // The first `seen` tokens see 1, 2, ... of them, the others `seen` each.
    const double pairs = static_cast<double>(seen) * static_cast<double>(seen + 1) / 2 +
                         static_cast<double>(tokens - seen) * static_cast<double>(seen);
    flops += 12 * attention.width * pairs;
  }
  return flops;
}

std::optional<double> peakFlops(std::string_view name) {
  // The first that is part of the name: parts stand before what they are part of.
  struct Peak {
    std::string_view part;
    double teraflops;
  };
  constexpr Peak kPeaks[] = {{"H100 PCIe", 756}, {"H100 NVL", 835}, {"H100", 989.4},
                             {"H200 NVL", 835},  {"H200", 989.4},   {"A100", 312},
                             {"B200", 2250}};
  for (const Peak &peak : kPeaks)
    if (name.find(peak.part) != std::string_view::npos)
      return peak.teraflops * 1e12;
  return std::nullopt;
}

} // namespace switchyard
