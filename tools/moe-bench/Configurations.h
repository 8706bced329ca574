// Configurations of the acceleration that a scenario compares, in the form of fms-acceleration's
// sample-configurations:
//
//   plugins:
//     training:
//       moe:
//         scattermoe:
//           ep_degree: 4
#pragma once

#include "tools/moe-bench/Scenarios.h"

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard::bench {

struct Configuration {
  std::string name = "none"; // as results have it
  int64_t epDegree = 1;      // ranks that divide the experts; the others divide parameters by FSDP
  std::vector<std::string> notes;
};

/// The configuration `name`: NAME.yaml in `folder`, or NAME-sample-configuration.yaml. An empty
/// name is "none": FSDP alone. InvalidInput: no such file (naming both), a plugin or a key of one
/// that is not known.
Result<Configuration> loadConfiguration(const std::string &folder, const PlacedText &name);

} // namespace switchyard::bench
