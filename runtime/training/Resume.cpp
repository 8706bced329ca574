#include "runtime/training/Resume.h"

#include "runtime/core/File.h"

#include <fmt/format.h>

#include <filesystem>

namespace switchyard {

Result<std::string> resumedFolder(const TrainingArguments &arguments) {
  if (arguments.resumeFromCheckpoint == "latest")
    return latestCheckpoint(arguments.outputDir);
  std::error_code error;
  std::filesystem::path folder =
      std::filesystem::canonical(arguments.resumeFromCheckpoint, error); // "latest" is a link
  return error ? arguments.resumeFromCheckpoint : folder.string();
}

Result<bool> isResumedIn(const std::string &checkpoint, const TrainingArguments &arguments) {
  std::error_code error;
  const auto parent = std::filesystem::weakly_canonical(checkpoint, error).parent_path();
  const auto output = std::filesystem::weakly_canonical(arguments.outputDir + "/.", error);
  if (error || (parent / "") != (output / ""))
    return false;
  SY_ASSIGN_OR_RETURN(std::string latest, latestCheckpoint(arguments.outputDir));
  if (std::filesystem::path(latest).filename() == std::filesystem::path(checkpoint).filename())
    return true;
  return Status::invalidInput(fmt::format(
      "{}: is later than {}, where the run is to go on; remove it and others that are later, or "
      "give another --output-dir",
      latest, checkpoint));
}

namespace {

Status checkGlobalBatch(const CheckpointInfo &info, const Plan &plan) {
  const Training &training = plan.training;
  const int64_t perAccumulation = training.perDeviceTrainBatchSize * plan.mesh.numRanks();
  const int64_t ours = perAccumulation * training.gradientAccumulationSteps;
  if (ours == info.globalBatch)
    return {};
  std::string advice =
      info.globalBatch % perAccumulation == 0
          ? fmt::format("give --gradient-accumulation-steps {}", info.globalBatch / perAccumulation)
          : std::string("take a number of ranks that divides it");
  return Status::invalidInput(fmt::format(
      "its steps take {} sequences, but this run's {} ({} ranks x --per-device-train-batch-size {} "
      "x --gradient-accumulation-steps {}); {}",
      info.globalBatch, ours, plan.mesh.numRanks(), training.perDeviceTrainBatchSize,
      training.gradientAccumulationSteps, advice));
}

Status checkData(const CheckpointInfo &info, const Plan &plan, const Dataset &dataset,
                 const TrainingArguments &arguments) {
  SY_RETURN_IF_ERROR(checkGlobalBatch(info, plan));
  const auto differs = [](const char *flag, const auto &theirs, const auto &ours) {
    return Status::invalidInput(fmt::format(
        "was trained with {} {}, but this run has {}; give {} {}: the records' order depends on it",
        flag, theirs, ours, flag, theirs));
  };
  const Training &training = plan.training;
  if (info.maxSeqLength != training.maxSeqLength)
    return differs("--max-seq-length", info.maxSeqLength, training.maxSeqLength);
  if (info.packing != training.packing)
    return Status::invalidInput(info.packing
                                    ? "was trained with --packing, but this run is not; give it"
                                    : "was trained without --packing; leave it out");
  if (info.samplingStrategy != arguments.trainSamplingStrategy)
    return differs("--train-sampling-strategy", info.samplingStrategy,
                   arguments.trainSamplingStrategy);
  if (info.seed != arguments.seed && info.samplingStrategy == "random")
    return differs("--seed", info.seed, arguments.seed);
  if (info.records != dataset.size() || info.tokens != dataset.numTokens())
    return Status::invalidInput(fmt::format(
        "was trained on {} records of {} tokens, but {} has {} of {}; give the same --data and "
        "--tokenizer, or start a new run from the folder that moe-run export writes",
        info.records, info.tokens, dataset.source(), dataset.size(), dataset.numTokens()));
  return {};
}

} // namespace

Result<TrainingCheckpoint> openForResume(const TrainingArguments &arguments, const Plan &plan,
                                         const Dataset &dataset) {
  SY_ASSIGN_OR_RETURN(std::string folder, resumedFolder(arguments));
  SY_ASSIGN_OR_RETURN(TrainingCheckpoint checkpoint, TrainingCheckpoint::open(folder));
  const std::string path = joinPath(arguments.model, "config.json");
  SY_ASSIGN_OR_RETURN(Json config, readJson(path));
  SY_RETURN_IF_ERROR(checkSameModel(checkpoint, plan, config, path));
  SY_RETURN_IF_ERROR(
      checkData(checkpoint.manifest().info, plan, dataset, arguments).within(folder));
  return checkpoint;
}

} // namespace switchyard
