// Which experts tokens choose in a benchmark: the same numbers in bench/peers/shapes.py, so that a
// peer's products have the very same rows.
//
// Token by token, an expert is drawn until k different ones are found. Draw i of all, from 0 on,
// takes randomBits(i) (RandomValues.h) modulo the sum of the experts' weights, and the first expert
// up to which the weights sum to more than that.
#pragma once

#include "tools/moe-bench/LayerShape.h"

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard::bench {

enum class Routing : uint8_t {
  Balanced,   // no draw: slot i of all chooses expert i modulo E
  Random,     // weight 1
  Zipf,       // weight floor(2^32 / (e + 1))
  OneEmpty,   // weight 1, but 0 for expert E / 2
  OneOverfull // expert E / 2 is each token's first, the others have weight 1
};

/// "balanced", "random", "zipf", "one-empty", "one-overfull".
std::vector<std::string> routingNames();

/// The routing of a name that is one of these.
Routing routingOf(const std::string &name);

/// Rows sorted by expert, stably, as the kernel sort_by_expert does.
struct RoutedRows {
  std::vector<int32_t> groupSizes;              // [E]
  std::vector<int32_t> rowOfSlot;               // [T, k]
  std::vector<int32_t> tokenOfRow, expertOfRow; // [T k]
};

/// Usage: one-empty where each token chooses all experts.
Result<RoutedRows> routeTokens(const LayerShape &shape, Routing routing);

} // namespace switchyard::bench
