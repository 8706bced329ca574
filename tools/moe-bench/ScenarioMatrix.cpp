#include "tools/moe-bench/ScenarioMatrix.h"

#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "runtime/training/TrainingArguments.h"
#include "tools/moe-bench/Configurations.h"
#include "tools/moe-bench/ModelFolder.h"
#include "tools/moe-bench/ScenarioArguments.h"
#include "tools/moe-bench/Scenarios.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

namespace switchyard::bench {

namespace {

constexpr size_t kMaxRuns = 10'000;

struct Model {
  std::string name;
  std::string folder;
  int64_t experts = 0; // 0: not known
};

/// What one scenario gives for the product.
struct Factors {
  const Scenario &scenario;
  RunArguments arguments;
  std::vector<Model> models;
  std::vector<Configuration> configurations;
  std::vector<int64_t> effectiveBatchSizes; // 0: it follows from the arguments
  std::vector<bool> packing;
  std::vector<int64_t> maxSeqLengths;
};

class Expansion {
public:
  explicit Expansion(const MatrixOptions &options) : options_(options) {}

  Result<ScenarioMatrix> expand() {
    SY_ASSIGN_OR_RETURN(std::vector<Scenario> scenarios, loadScenarios(options_.scenarios));
    SY_ASSIGN_OR_RETURN(std::vector<ScenarioArgument> defaults, readDefaults());
    SY_RETURN_IF_ERROR(checkNames(scenarios));
    for (const Scenario &scenario : scenarios) {
      const bool isNamed = std::ranges::find(options_.only, scenario.name) != options_.only.end();
      if (options_.only.empty() && scenario.slow)
        skip(fmt::format("scenario {} is slow: name it by --run_only_scenarios",
                         quoteJson(scenario.name)));
      else if (options_.only.empty() || isNamed)
        SY_RETURN_IF_ERROR(addScenario(scenario, defaults));
    }
    if (matrix_.runs.empty())
      return Status::usage(options_.scenarios + ": nothing is left to run" +
                           (matrix_.skipped.empty() ? "" : ": " + matrix_.skipped.front()) +
                           (matrix_.skipped.size() > 1
                                ? fmt::format(" (and {} more)", matrix_.skipped.size() - 1)
                                : ""));
    return std::move(matrix_);
  }

private:
  std::string besideScenarios(const char *name) const {
    return (std::filesystem::path(options_.scenarios).parent_path() / name).string();
  }

  Result<std::vector<ScenarioArgument>> readDefaults() const {
    if (!options_.defaults.empty())
      return loadDefaults(options_.defaults);
    const std::string path = besideScenarios("defaults.yaml");
    return fileExists(path) ? loadDefaults(path) : std::vector<ScenarioArgument>();
  }

  Status checkNames(const std::vector<Scenario> &scenarios) const {
    for (const std::string &name : options_.only) {
      std::string known;
      bool found = false;
      for (const Scenario &scenario : scenarios) {
        found |= scenario.name == name;
        known += (known.empty() ? "" : ", ") + scenario.name;
      }
      if (!found)
        return Status::usage("--run_only_scenarios has " + quoteJson(name) + ", but " +
                             options_.scenarios + " has only " + known);
    }
    return {};
  }

  void skip(std::string why) { addOnce(matrix_.skipped, std::move(why)); }

  static void addOnce(std::vector<std::string> &lines, std::string line) {
    if (std::ranges::find(lines, line) == lines.end())
      lines.push_back(std::move(line));
  }

  Status addScenario(const Scenario &scenario, const std::vector<ScenarioArgument> &defaults) {
    Factors factors{scenario, {}, {}, {}, {}, {}, {}};
    SY_ASSIGN_OR_RETURN(factors.arguments,
                        translateArguments(scenario, defaults, options_.scenarios));
    SY_RETURN_IF_ERROR(addModels(factors));
    SY_RETURN_IF_ERROR(addData(factors));
    const std::string folder = options_.configurations.empty()
                                   ? besideScenarios("../configurations")
                                   : options_.configurations;
    for (const PlacedText &name : scenario.configurations) {
      SY_ASSIGN_OR_RETURN(Configuration configuration, loadConfiguration(folder, name));
      for (std::string &note : configuration.notes)
        addOnce(matrix_.notes, std::move(note));
      factors.configurations.push_back(std::move(configuration));
    }
    for (const std::string &note : factors.arguments.notes)
      addOnce(matrix_.notes, note);
    SY_RETURN_IF_ERROR(addSizes(factors));
    return multiply(factors);
  }

  Status addModels(Factors &factors) {
    for (const PlacedText &name : factors.scenario.models) {
      Model model{name.text, name.text, 0};
      Result<std::string> folder = findModel(name.text, options_.scenarios);
      if (folder.ok()) {
        model.folder = *folder;
        model.experts = numExperts(*folder);
      } else if (options_.dryRun) {
        addOnce(matrix_.notes, folder.status().message());
      } else {
        return folder.status().within(name.where);
      }
      factors.models.push_back(std::move(model));
    }
    return {};
  }

  /// The flag goes over the file.
  Status addData(Factors &factors) {
    std::string &data = factors.arguments.values["data"];
    if (!options_.trainingData.empty()) {
      std::error_code error;
      if (!std::filesystem::is_regular_file(options_.trainingData, error))
        return Status::invalidInput(options_.trainingData +
                                    ": no such file; --training_data_path takes Alpaca records");
      data = std::filesystem::weakly_canonical(options_.trainingData, error).string();
    }
    if (!data.empty())
      return {};
    if (!options_.dryRun)
      return Status::usage("scenario " + quoteJson(factors.scenario.name) +
                           " has no data; give Alpaca records by --training_data_path");
    factors.arguments.values.erase("data");
    addOnce(matrix_.notes, "no data: a run needs --training_data_path");
    return {};
  }

  /// What the scenario leaves open takes all values of the matrices.
  Status addSizes(Factors &factors) {
    const RunArguments &arguments = factors.arguments;
    const bool hasBatch = arguments.perDeviceTrainBatchSize.has_value();
    const bool hasAccumulation = arguments.gradientAccumulationSteps.has_value();
    if (!hasBatch && !hasAccumulation)
      return Status::invalidInput(
          factors.scenario.where + ": the scenario " + quoteJson(factors.scenario.name) +
          " leaves both per_device_train_batch_size and gradient_accumulation_steps open; give one "
          "of them, there or in the defaults, and the other follows from "
          "--effective_batch_size_matrix");
    factors.effectiveBatchSizes = options_.effectiveBatchSizes;
    if (hasBatch && hasAccumulation)
      factors.effectiveBatchSizes = {0};
    factors.maxSeqLengths = options_.maxSeqLengths;
    if (arguments.maxSeqLength)
      factors.maxSeqLengths = {*arguments.maxSeqLength};
    for (const std::string &packing : options_.packing)
      factors.packing.push_back(packing == "True" || packing == "true");
    if (arguments.packing)
      factors.packing = {*arguments.packing};
    return {};
  }

  Status multiply(const Factors &factors) {
    for (const Model &model : factors.models)
      for (const Configuration &configuration : factors.configurations)
        for (int64_t effective : factors.effectiveBatchSizes)
          for (int64_t gpus : options_.numGpus)
            for (bool packing : factors.packing)
              for (int64_t length : factors.maxSeqLengths) {
                ScenarioRun run;
                run.scenario = factors.scenario.name;
                run.configuration = configuration.name;
                run.model = model.name;
                run.numGpus = gpus;
                run.packing = packing;
                run.maxSeqLength = length;
                if (!divides(configuration, model, gpus) || !deal(factors, effective, run))
                  continue;
                finish(factors, configuration, model, run);
                if (!seen_.insert(run.describe()).second)
                  continue; // a value is in a matrix twice
                if (matrix_.runs.size() == kMaxRuns)
                  return Status::usage(fmt::format("{}: the matrix has more than {} runs; give "
                                                   "fewer values or name scenarios by "
                                                   "--run_only_scenarios",
                                                   options_.scenarios, kMaxRuns));
                matrix_.runs.push_back(std::move(run));
              }
    return {};
  }

  /// Whether the experts can be divided so; else it is skipped.
  bool divides(const Configuration &configuration, const Model &model, int64_t gpus) {
    if (gpus % configuration.epDegree != 0)
      skip(fmt::format("{}: its ep_degree {} does not divide {}", configuration.name,
                       configuration.epDegree, countGpus(gpus)));
    else if (model.experts % configuration.epDegree != 0)
      skip(fmt::format("{}: its ep_degree {} does not divide the {} experts of {}",
                       configuration.name, configuration.epDegree, model.experts, model.name));
    else
      return true;
    return false;
  }

  /// Makes the effective batch size of what the scenario gives and leaves open.
  bool deal(const Factors &factors, int64_t effective, ScenarioRun &run) {
    const RunArguments &arguments = factors.arguments;
    run.batchSize = arguments.perDeviceTrainBatchSize.value_or(1);
    run.accumulation = arguments.gradientAccumulationSteps.value_or(1);
    if (effective == 0)
      return true;
    const int64_t unit = run.numGpus * run.batchSize * run.accumulation;
    if (effective % unit != 0) {
      skip(fmt::format("scenario {}: the effective batch size {} is no multiple of {} with {} {}",
                       quoteJson(run.scenario), effective, countGpus(run.numGpus),
                       arguments.perDeviceTrainBatchSize ? "per_device_train_batch_size"
                                                         : "gradient_accumulation_steps",
                       run.batchSize * run.accumulation));
      return false;
    }
    (arguments.perDeviceTrainBatchSize ? run.accumulation : run.batchSize) = effective / unit;
    return true;
  }

  void finish(const Factors &factors, const Configuration &configuration, const Model &model,
              ScenarioRun &run) const {
    const RunArguments &arguments = factors.arguments;
    run.torchDtype = arguments.torchDtype;
    run.keepsCheckpoints = arguments.keepsCheckpoints;
    std::map<std::string, std::string> values = arguments.values;
    TrainingArguments parsed;
    for (const char *key : {"max_steps", "num_train_epochs"})
      if (auto found = values.find(key); found != values.end())
        (void)setArgument(parsed, key, found->second).ok(); // it was taken before
    run.maxSteps = parsed.maxSteps;
    run.epochs = parsed.numTrainEpochs;
    values["model"] = model.folder;
    values["ranks"] = std::to_string(run.numGpus);
    values["per_device_train_batch_size"] = std::to_string(run.batchSize);
    values["gradient_accumulation_steps"] = std::to_string(run.accumulation);
    values["max_seq_length"] = std::to_string(run.maxSeqLength);
    if (run.packing)
      values["packing"] = "true";
    if (options_.target != "cpu")
      values["target"] = options_.target;
    std::string mesh;
    const int64_t fsdp = run.numGpus / configuration.epDegree;
    if (fsdp > 1)
      mesh = fmt::format("fsdp={}", fsdp);
    if (configuration.epDegree > 1)
      mesh += fmt::format("{}ep={}", mesh.empty() ? "" : ",", configuration.epDegree);
    if (!mesh.empty())
      values["mesh"] = mesh;
    run.words = flagsOf(values);
  }

  static std::string countGpus(int64_t gpus) {
    return fmt::format("{} {}", gpus, gpus == 1 ? "GPU" : "GPUs");
  }

  const MatrixOptions &options_;
  ScenarioMatrix matrix_;
  std::set<std::string> seen_; // descriptions of runs
};

} // namespace

std::string ScenarioRun::describe() const {
  return fmt::format(
      "scenario {}, framework_config {}, model {}, {} {}, batch {} x {}, length {}{}",
      quoteJson(scenario), quoteJson(configuration), quoteJson(model), numGpus,
      numGpus == 1 ? "GPU" : "GPUs", batchSize, accumulation, maxSeqLength,
      packing ? ", packed" : "");
}

Result<ScenarioMatrix> expandMatrix(const MatrixOptions &options) {
  return Expansion(options).expand();
}

std::string quoteForShell(const std::vector<std::string> &words) {
  std::string line;
  for (const std::string &word : words) {
    line += line.empty() ? "" : " ";
    const bool isPlain = !word.empty() && word.find_first_not_of(
                                              "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                              "0123456789-_=+,./:@%") == std::string::npos;
    if (isPlain) {
      line += word;
      continue;
    }
    line += '\'';
    for (char c : word)
      line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

} // namespace switchyard::bench
