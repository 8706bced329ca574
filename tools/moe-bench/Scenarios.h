// Scenario files in the form of fms-acceleration's scripts/benchmarks:
//
//   scenarios:
//     - name: full
//       framework_config: [null, ep2]    # names of configurations; empty: FSDP only
//       slow: True                       # runs only if it is named
//       arguments:
//         model_name_or_path: [mistralai/Mixtral-8x7B-v0.1]
//         learning_rate: 5e-5
//         per_device_train_batch_size: null   # left to the matrix
#pragma once

#include "tools/moe-bench/YamlFile.h"

#include <string>
#include <vector>

namespace switchyard::bench {

/// A text of a file, and where it stands: "FILE: line 3".
struct PlacedText {
  std::string text;
  std::string where;
};

struct ScenarioArgument {
  std::string name;
  YamlValue value;
  std::string where;
};

struct Scenario {
  std::string name;
  bool slow = false;
  std::vector<PlacedText> configurations;  // at least one; an empty text: without acceleration
  std::vector<PlacedText> models;          // at least one
  std::vector<ScenarioArgument> arguments; // without model_name_or_path
  std::string where;
};

/// All scenarios of the file at `path`. InvalidInput, with the line: an unknown key, a missing one,
/// a name twice, a value of another kind, records that are none of Alpaca's.
Result<std::vector<Scenario>> loadScenarios(const std::string &path);

/// The file of arguments that every scenario has unless it says otherwise: one mapping.
Result<std::vector<ScenarioArgument>> loadDefaults(const std::string &path);

} // namespace switchyard::bench
