// What a user can set of a training run: names and meaning as in transformers' TrainingArguments
// where it has them, the same keys on the command line (--learning-rate) and in a file
// (learning_rate).
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace switchyard {

struct TrainingArguments {
  std::string plan; // empty: compile one
  std::string model;
  std::string data;
  std::string outputDir;
  std::string tokenizer;            // empty: the one in the model's folder
  std::string resumeFromCheckpoint; // latest, a folder, or empty
  int64_t ranks = 0;                // 0: as many as mpirun started, else 1
  int64_t threads = 0;              // of a rank; 0: the host's cores over its ranks
  double commTimeout = 600;         // seconds that ranks wait for one that does not come

  int64_t maxSteps = -1; // above 0 it overrides numTrainEpochs
  double numTrainEpochs = 3;
  double learningRate = 5e-5;
  std::string lrSchedulerType = "linear";
  double warmupSteps = 10; // below 1: a share of all steps
  double weightDecay = 0.01;
  double adamBeta1 = 0.9;
  double adamBeta2 = 0.999;
  double adamEpsilon = 1e-8;
  double maxGradNorm = 1; // 0: no clipping
  int64_t seed = 42;
  std::string trainSamplingStrategy = "sequential"; // or random, drawn from the seed
  int64_t loggingSteps = 1;
  int64_t saveSteps = 500;
  int64_t saveTotalLimit = 0; // 0: all are kept
  std::string reportTo = "none";
  std::string profile; // where a trace of some steps goes; empty: none is made
  bool debugNonfinite = false;

  // What the plan is compiled for. Unset: what --plan was made with, or moe-compile's defaults.
  std::optional<std::string> mesh;
  std::optional<std::string> precision;
  std::optional<std::string> target;
  std::optional<int64_t> perDeviceTrainBatchSize;
  std::optional<int64_t> gradientAccumulationSteps;
  std::optional<int64_t> maxSeqLength;
  std::optional<bool> packing;
  std::optional<std::string> recompute;
  std::optional<bool> fuse;
  std::optional<bool> gather;
  std::optional<std::string> coalesce;
  std::optional<std::string> stepProgram;
  std::optional<bool> syncEachBatch;
  std::optional<bool> reshardAfterForward;
  std::optional<double> tokenExchangeSlotFactor;
  std::optional<std::string> lossNormalization;
  std::optional<std::string> weightDecayScope;
  std::optional<double> routerAuxLossCoef;
  std::optional<std::string> auxLossScope;

  /// Updates that warm up, of `totalSteps`: a share is rounded up, as transformers does.
  int64_t warmupStepsOf(int64_t totalSteps) const;

  /// The arguments for moe-compile, in argumentFields()' order: {"--precision", "bf16", ...}.
  std::vector<std::string> compileArguments() const;
};

/// One key. `name` is as in a file; flagName() gives the command line's.
struct ArgumentField {
  using Member = std::variant<
      std::string TrainingArguments::*, int64_t TrainingArguments::*, double TrainingArguments::*,
      bool TrainingArguments::*, std::optional<std::string> TrainingArguments::*,
      std::optional<int64_t> TrainingArguments::*, std::optional<double> TrainingArguments::*,
      std::optional<bool> TrainingArguments::*>;

  const char *name;
  Member member;
  const char *help;
  double low = 0; // of a number
  double high = 0;
  const char *choices = nullptr; // "linear|cosine"; null: any text
  bool lowExcluded = false;

  std::string flagName() const;
  /// Whether the command line gives no value with it.
  bool isFlag() const;
  /// What it takes, for help: its choices, NUMBER or TEXT.
  std::string typeText() const;
  /// What it is unless it is given; empty: nothing, or what another key says.
  std::string defaultText() const;
};

/// Every key, in the order help shows them.
std::span<const ArgumentField> argumentFields();

/// Sets one value from the command line. Usage: no such name, a text that is no value of its kind.
///   --learning-rate is "fast", expected a number from 0 to 1e+06
Status setArgument(TrainingArguments &arguments, std::string_view name, const std::string &value);

/// Sets what the YAML or JSON file at `path` gives: one mapping of keys to single values. A null
/// leaves a key at its default. InvalidInput: unreadable, an unknown key, a key twice, a bad value.
///   run.yaml: line 3: learning_rate is "fast", expected a number from 0 to 1e+06
Status loadConfig(const std::string &path, TrainingArguments &arguments);

/// Checks what one key alone can't show. Usage: something required is missing or does not go
/// together.
Status validateArguments(const TrainingArguments &arguments);

} // namespace switchyard
