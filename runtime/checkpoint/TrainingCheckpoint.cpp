#include "runtime/checkpoint/TrainingCheckpoint.h"

#include "runtime/checkpoint/GatherState.h"
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
constexpr int64_t kStagingBytes = int64_t{16} << 20;

TensorDType tensorDType(DType dtype) {
  return dtype == DType::BF16  ? TensorDType::BF16
         : dtype == DType::I32 ? TensorDType::I32
                               : TensorDType::F32;
}

/// The file of states that rank 0 writes; other ranks give their parts.
class StatesFile {
public:
  explicit StatesFile(const std::vector<State> &states) {
    for (size_t index = 0; index < states.size(); ++index)
      if (states[index].kind != StateKind::Gradient)
        kept_.push_back(index);
    // Wider elements first: all stay aligned.
    std::ranges::stable_sort(kept_, std::ranges::greater(),
                             [&](size_t index) { return kernels::byteSize(states[index].dtype); });
    for (size_t index : kept_)
      specs_.push_back({states[index].name, tensorDType(states[index].dtype), states[index].shape});
  }

  Status create(const std::string &path) {
    SY_ASSIGN_OR_RETURN(writer_, SafetensorsWriter::create(path, specs_));
    return {};
  }

  Status write(Executor &executor, Agreement &agreement) {
    std::vector<std::byte> staging;
    for (size_t index : kept_) {
      const State &state = executor.plan().states[index];
      const int64_t width = kernels::byteSize(state.dtype);
      const int64_t chunk = kStagingBytes / width;
      const auto count = static_cast<int64_t>(bytesOf(state)) / width;
      for (int64_t begin = 0; begin < count; begin += chunk) {
        int64_t end = std::min(begin + chunk, count);
        staging.resize((end - begin) * width);
        SY_RETURN_IF_ERROR(
            gatherState(executor, agreement.communicator(), index, begin, end, staging));
        // Otherwise the others would go on to send to a rank whose disk is full.
        SY_RETURN_IF_ERROR(agreement.agree(writer_ ? writer_->append(staging) : Status()));
      }
    }
    return {};
  }

  Status finish() { return writer_->finish(); }

private:
  std::vector<size_t> kept_;
  std::vector<TensorSpec> specs_;
  std::optional<SafetensorsWriter> writer_;
};

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
                              const std::string &tokenizerFile, Agreement &agreement) {
  StatesFile states(executor.plan().states);
  std::optional<AtomicFolder> folder;
  auto begin = [&]() -> Status {
    SY_ASSIGN_OR_RETURN(folder, AtomicFolder::create(target));
    return states.create(joinPath(folder->path(), kStatesFile));
  };
  auto end = [&]() -> Status {
    SY_RETURN_IF_ERROR(states.finish());
    SY_RETURN_IF_ERROR(writePlan(executor.plan(), joinPath(folder->path(), kPlanFile)));
    SY_RETURN_IF_ERROR(
        copyModel(modelFolder, tokenizerFile, joinPath(folder->path(), kModelFolder)));
    SY_RETURN_IF_ERROR(writeInfo(joinPath(folder->path(), kInfoFile), info, executor.plan()));
    return folder->commit();
  };
  SY_RETURN_IF_ERROR(agreement.agree(agreement.isLeader() ? begin() : Status()));
  SY_RETURN_IF_ERROR(states.write(executor, agreement));
  return agreement.agree(agreement.isLeader() ? end() : Status());
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
