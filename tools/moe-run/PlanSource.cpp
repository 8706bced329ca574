#include "tools/moe-run/PlanSource.h"

#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "runtime/device/cpu/CpuDevice.h"
#include "runtime/plan/ModelFingerprint.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/Verify.h"
#include "tools/moe-run/CompilePlan.h"

#include <algorithm>
#include <filesystem>

namespace switchyard {

namespace {

/// A folder for files that nobody keeps.
class TemporaryFolder {
public:
  static Result<TemporaryFolder> create() {
    std::error_code error;
    std::string path = (std::filesystem::temp_directory_path(error) / "moe-run-XXXXXX").string();
    if (error || !mkdtemp(path.data()))
      return Status::failed(
          path + ": no temporary folder can be made; set TMPDIR to a folder that is writable");
    return TemporaryFolder(std::move(path));
  }
  TemporaryFolder(TemporaryFolder &&other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder &operator=(TemporaryFolder &&other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~TemporaryFolder() {
    std::error_code error;
    if (!path_.empty())
      std::filesystem::remove_all(path_, error);
  }
  const std::string &path() const { return path_; }

private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

/// What the compiler has to know of where the ranks run, beside the user's own words.
Result<std::vector<std::string>> launchArguments(const CompileRequest &request,
                                                 const Launch &launch) {
  std::vector<std::string> words;
  if (!request.mesh.empty())
    words.insert(words.end(), {"--mesh", request.mesh});
  else if (launch.ranks() > 1)
    words.insert(words.end(), {"--ranks", std::to_string(launch.ranks())});
  if (request.threads > 0 || launch.ranksHere() > 1)
    words.insert(words.end(),
                 {"--threads", std::to_string(launch.threadsPerRank(request.threads))});
  auto target = std::ranges::find(request.arguments, "--target");
  bool isForGpus = target != request.arguments.end() && *(target + 1) == "cuda";
  if (launch.ranksHere() > 1 && !isForGpus) {
    // Ranks share the memory that --coalesce auto would give to one.
    SY_ASSIGN_OR_RETURN(std::unique_ptr<Device> device, createCpuDevice({}, 1));
    words.insert(words.end(),
                 {"--memory", std::to_string(device->memoryBytes() / 4 * 3 / launch.ranksHere())});
  }
  return words;
}

} // namespace

Result<Plan> loadPlan(const std::string &path, const std::string &folder, const Launch &launch) {
  SY_ASSIGN_OR_RETURN(Plan plan, load(path));
  SY_RETURN_IF_ERROR(verify(plan).within(path));
  SY_ASSIGN_OR_RETURN(Json config, readJson(joinPath(folder, "config.json")));
  if (std::string fingerprint = modelFingerprint(config); fingerprint != plan.modelFingerprint)
    return Status::invalidInput(path + ": was made for the model " + plan.modelFingerprint +
                                ", but " + joinPath(folder, "config.json") + " is " + fingerprint +
                                "; compile a plan for this folder");
  SY_RETURN_IF_ERROR(launch.checkPlan(plan));
  return plan;
}

Result<bool> isForGpus(const std::string &path, const std::string &target) {
  if (path.empty())
    return target == "cuda";
  SY_ASSIGN_OR_RETURN(Plan plan, load(path));
  return plan.target.kind == kernels::Target::Kind::Cuda;
}

Result<Plan> compiledPlan(const CompileRequest &request, const Launch &launch) {
  StopSignals signals;
  std::vector<std::string> words = request.arguments;
  SY_ASSIGN_OR_RETURN(std::vector<std::string> more, launchArguments(request, launch));
  words.insert(words.end(), more.begin(), more.end());
  SY_ASSIGN_OR_RETURN(TemporaryFolder folder, TemporaryFolder::create());
  std::string path = joinPath(folder.path(), "step.plan");
  SY_RETURN_IF_ERROR(compilePlan(request.model, path, words, signals));
  return loadPlan(path, request.model, launch);
}

Result<Plan> planForTraining(const TrainingArguments &arguments, const Launch &launch) {
  std::vector<std::string> given = arguments.compileArguments();
  if (!arguments.plan.empty()) {
    if (!given.empty())
      return Status::usage(
          given.front() +
          " is what a plan is compiled with and --plan gives one; leave one of them out");
    return loadPlan(arguments.plan, arguments.model, launch);
  }
  TrainingArguments others = arguments;
  others.mesh.reset();
  return compiledPlan(
      {arguments.model, others.compileArguments(), arguments.mesh.value_or(""), arguments.threads},
      launch);
}

} // namespace switchyard
