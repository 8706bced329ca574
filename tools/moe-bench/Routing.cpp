#include "tools/moe-bench/Routing.h"

#include "tools/moe-bench/RandomValues.h"

#include <algorithm>
#include <iterator>
#include <numeric>

namespace switchyard::bench {

namespace {

constexpr const char *kNames[] = {"balanced", "random", "zipf", "one-empty", "one-overfull"};

/// The weights' sums up to each expert.
std::vector<uint64_t> weightSums(int64_t experts, Routing routing) {
  std::vector<uint64_t> weights(experts, 1);
  if (routing == Routing::Zipf)
    for (int64_t expert = 0; expert < experts; ++expert)
      weights[expert] = (uint64_t{1} << 32) / static_cast<uint64_t>(expert + 1);
  if (routing == Routing::OneEmpty)
    weights[experts / 2] = 0;
  std::partial_sum(weights.begin(), weights.end(), weights.begin());
  return weights;
}

/// The expert of each slot, [T, k].
std::vector<int32_t> chooseExperts(const LayerShape &shape, Routing routing) {
  std::vector<int32_t> chosen;
  chosen.reserve(shape.tokens * shape.topK);
  const std::vector<uint64_t> sums = weightSums(shape.experts, routing);
  uint64_t draw = 0;
  for (int64_t token = 0; token < shape.tokens; ++token) {
    const auto first = static_cast<std::ptrdiff_t>(chosen.size());
    if (routing == Routing::OneOverfull)
      chosen.push_back(static_cast<int32_t>(shape.experts / 2));
    while (static_cast<int64_t>(chosen.size()) < (token + 1) * shape.topK) {
      auto expert = static_cast<int32_t>(static_cast<int64_t>(chosen.size()) % shape.experts);
      if (routing != Routing::Balanced)
        expert = static_cast<int32_t>(
            std::ranges::upper_bound(sums, randomBits(draw++) % sums.back()) - sums.begin());
      if (std::find(chosen.begin() + first, chosen.end(), expert) == chosen.end())
        chosen.push_back(expert);
    }
  }
  return chosen;
}

} // namespace

std::vector<std::string> routingNames() {
  return {std::begin(kNames), std::end(kNames)};
}

Routing routingOf(const std::string &name) {
  return static_cast<Routing>(std::ranges::find(kNames, name) - kNames);
}

Result<RoutedRows> routeTokens(const LayerShape &shape, Routing routing) {
  if (routing == Routing::OneEmpty && shape.topK == shape.experts)
    return Status::usage("--routing one-empty: each token chooses all " +
                         std::to_string(shape.experts) + " experts, so that none is empty");
  const std::vector<int32_t> chosen = chooseExperts(shape, routing);
  RoutedRows rows;
  rows.groupSizes.resize(shape.experts);
  for (int32_t expert : chosen)
    ++rows.groupSizes[expert];
  std::vector<int32_t> next; // row of each expert
  std::exclusive_scan(rows.groupSizes.begin(), rows.groupSizes.end(), std::back_inserter(next), 0);
  rows.tokenOfRow.resize(chosen.size());
  rows.expertOfRow.resize(chosen.size());
  for (size_t slot = 0; slot < chosen.size(); ++slot) {
    const int32_t row = next[chosen[slot]]++;
    rows.rowOfSlot.push_back(row);
    rows.tokenOfRow[row] = static_cast<int32_t>(static_cast<int64_t>(slot) / shape.topK);
    rows.expertOfRow[row] = chosen[slot];
  }
  return rows;
}

} // namespace switchyard::bench
