#include "runtime/checkpoint/TrainingCheckpoint.h"

#include "runtime/checkpoint/Weights.h"
#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/Verify.h"
#include "runtime/safetensors/Writer.h"

#include <algorithm>
#include <filesystem>

namespace switchyard {

namespace {

constexpr int64_t kFormatVersion = 1;
constexpr char kStatesFile[] = "states.safetensors";
constexpr char kPlanFile[] = "step.plan";
constexpr char kInfoFile[] = "checkpoint.json";
constexpr char kModelFolder[] = "model";
constexpr uint64_t kStagingBytes = uint64_t{16} << 20;

TensorDType tensorDType(DType dtype) {
  return dtype == DType::BF16  ? TensorDType::BF16
         : dtype == DType::I32 ? TensorDType::I32
                               : TensorDType::F32;
}

Status writeStates(const std::string &path, Executor &executor) {
  const std::vector<State> &states = executor.plan().states;
  std::vector<size_t> kept; // wider elements first: all stay aligned
  for (size_t index = 0; index < states.size(); ++index)
    if (states[index].kind != StateKind::Gradient)
      kept.push_back(index);
  std::ranges::stable_sort(kept, std::ranges::greater(),
                           [&](size_t index) { return kernels::byteSize(states[index].dtype); });
  std::vector<TensorSpec> specs;
  for (size_t index : kept)
    specs.push_back({states[index].name, tensorDType(states[index].dtype), states[index].shape});
  SY_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::create(path, specs));
  std::vector<std::byte> staging;
  for (size_t index : kept) {
    uint64_t bytes = bytesOf(states[index]);
    for (uint64_t begin = 0; begin < bytes; begin += kStagingBytes) {
      staging.resize(std::min(kStagingBytes, bytes - begin));
      SY_RETURN_IF_ERROR(executor.readState(index, begin, staging));
      SY_RETURN_IF_ERROR(writer.append(staging));
    }
  }
  return writer.finish();
}

Status writeInfo(const std::string &path, const CheckpointInfo &info, const Plan &plan) {
  Json json = Json::object();
  json.set("format_version", kFormatVersion);
  json.set("step", info.step);
  json.set("position", info.position);
  json.set("model_fingerprint", plan.modelFingerprint);
  json.set("compiler_version", plan.compilerVersion);
  return writeFileAtomically(path, json.dump(2) + "\n");
}

Status copyModel(const std::string &from, const std::string &tokenizerFile, const std::string &to) {
  std::error_code error;
  std::filesystem::create_directory(to, error);
  if (error)
    return Status::failed(to + ": cannot be made: " + error.message());
  SY_RETURN_IF_ERROR(copyFile(joinPath(from, "config.json"), joinPath(to, "config.json")));
  return copyModelFiles(from, tokenizerFile, to);
}

Status checkInfo(const std::string &path, const Plan &plan) {
  SY_ASSIGN_OR_RETURN(Json json, readJson(path));
  Result<int64_t> version = getInteger(json, "format_version", kFormatVersion, kFormatVersion);
  if (!version.ok())
    return version.status().within(path);
  Result<std::string> fingerprint = getString(json, "model_fingerprint");
  if (!fingerprint.ok())
    return fingerprint.status().within(path);
  if (*fingerprint != plan.modelFingerprint)
    return Status::invalidInput(path + ": \"model_fingerprint\" is " + *fingerprint + ", but " +
                                kPlanFile + " beside it is of the model " + plan.modelFingerprint);
  return {};
}

} // namespace

Status saveTrainingCheckpoint(const std::string &target, Executor &executor,
                              const CheckpointInfo &info, const std::string &modelFolder,
                              const std::string &tokenizerFile) {
  SY_ASSIGN_OR_RETURN(AtomicFolder folder, AtomicFolder::create(target));
  SY_RETURN_IF_ERROR(writeStates(joinPath(folder.path(), kStatesFile), executor));
  SY_RETURN_IF_ERROR(writePlan(executor.plan(), joinPath(folder.path(), kPlanFile)));
  SY_RETURN_IF_ERROR(copyModel(modelFolder, tokenizerFile, joinPath(folder.path(), kModelFolder)));
  SY_RETURN_IF_ERROR(writeInfo(joinPath(folder.path(), kInfoFile), info, executor.plan()));
  return folder.commit();
}

Status exportTrainingCheckpoint(const std::string &checkpoint, const std::string &target,
                                const std::atomic<bool> *stop) {
  if (!fileExists(joinPath(checkpoint, kInfoFile)))
    return Status::invalidInput(checkpoint + ": holds no " + kInfoFile +
                                "; expected a folder checkpoint-N that moe-run train wrote");
  SY_ASSIGN_OR_RETURN(Plan plan, load(joinPath(checkpoint, kPlanFile)));
  SY_RETURN_IF_ERROR(verify(plan).within(joinPath(checkpoint, kPlanFile)));
  SY_RETURN_IF_ERROR(checkInfo(joinPath(checkpoint, kInfoFile), plan));
  SY_ASSIGN_OR_RETURN(SafetensorsFile file,
                      SafetensorsFile::open(joinPath(checkpoint, kStatesFile)));
  std::vector<HostState> states;
  for (const State &state : plan.states) {
    if (state.kind != StateKind::Parameter)
      continue;
    const TensorEntry *entry = file.find(state.name);
    if (!entry || entry->shape != state.shape || entry->dtype != tensorDType(state.dtype))
      return Status::invalidInput(file.path() + ": expected a tensor \"" + state.name +
                                  "\" of type " + typeText(state.dtype, state.shape) +
                                  (entry ? ", found another" : ", found none"));
    SY_ASSIGN_OR_RETURN(std::span<const std::byte> bytes, file.bytes(*entry));
    // Export only reads: HostState's pointer serves loading too.
    states.push_back({state.name, state.dtype, state.shape, state.source,
                      const_cast<std::byte *>(bytes.data())});
  }
  ExportOptions options;
  options.modelFolder = joinPath(checkpoint, kModelFolder);
  options.stop = stop;
  return exportFolder(target, states, options);
}

} // namespace switchyard
