// Plans that moe-compile makes for the repository's models, and batches for them.
#pragma once

#include "runtime/data/Sampler.h"
#include "runtime/plan/PlanFile.h"
#include "test/runtime/core/TestFolder.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace switchyard {

inline constexpr int32_t kVocabulary = 512; // of examples/tiny

/// Segments of random tokens, the same for the same lengths. The first token of each is masked.
class RandomStep {
public:
  explicit RandomStep(const std::vector<int64_t> &lengths, int32_t vocabulary = kVocabulary) {
    uint32_t state = 7;
    for (int64_t length : lengths) {
      std::vector<int32_t> &ids = ids_.emplace_back(length);
      for (int32_t &id : ids)
        id = static_cast<int32_t>((state = state * 1664525 + 1013904223) >> 16) % vocabulary;
    }
    for (const std::vector<int32_t> &ids : ids_) {
      step.segments.push_back({ids, {}, 1, 0});
      step.microBatchEnds.push_back(static_cast<int64_t>(step.segments.size()));
    }
  }

  StepBatches step;

private:
  std::vector<std::vector<int32_t>> ids_;
};

/// The plan for a folder, by its path or its name in the repository, or none, which the caller
/// can't do without.
inline Plan compiled(const std::string &model, const std::string &flags) {
  TestFolder folder;
  std::string path = folder.file("step.plan");
  std::string source = model.starts_with('/') ? model : SWITCHYARD_SOURCE_DIR "/" + model;
  std::string command = "\"" SWITCHYARD_BIN_DIR "/moe-compile\" \"" + source + "\" -o " + path +
                        " " + flags + " > /dev/null";
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  Result<Plan> plan = load(path);
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return std::move(*plan);
}

} // namespace switchyard
