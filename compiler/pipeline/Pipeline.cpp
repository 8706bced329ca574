#include "compiler/pipeline/Pipeline.h"

#include "passes/KernelTypes.h"
#include "passes/MeshOption.h"
#include "passes/Passes.h"

#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <fstream>
#include <thread>
#include <unistd.h>

using namespace mlir;

namespace switchyard::compiler {

static constexpr int64_t kMaxThreads = 1024;
static constexpr double kMaxSlotFactor = 65536;

int64_t defaultThreads() {
  return std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, kMaxThreads);
}

int64_t usableMemory() {
  int64_t bytes = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  int64_t limit = 0;
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> limit && limit > 0)
    bytes = std::min(bytes, limit);
  return bytes / 4 * 3;
}

std::string stageList() {
  return llvm::join(std::begin(kStages), std::end(kStages), ", ");
}

int64_t memoryLimit(const PipelineOptions &options) {
  return options.memory == 0 && options.target == "cuda" ? kCudaMemory : options.memory;
}

Status checkOptions(const PipelineOptions &options) {
  if (!options.stopAfter.empty() && !llvm::is_contained(kStages, StringRef(options.stopAfter)))
    return Status::usage("stop-after: no stage is called \"" + options.stopAfter +
                         "\"; the stages are " + stageList());
  if (!passes::targetKind(StringRef(options.target)))
    return Status::usage("target: found \"" + options.target + "\", expected cpu or cuda");
  passes::MeshSizes mesh;
  if (!options.mesh.empty())
    if (std::optional<std::string> fault = passes::parseMesh(StringRef(options.mesh), mesh))
      return Status::usage("mesh: " + *fault);
  if (!(options.tokenExchangeSlotFactor > 0) || options.tokenExchangeSlotFactor > kMaxSlotFactor)
    return Status::usage("token-exchange-slot-factor: found " +
                         llvm::formatv("{0}", options.tokenExchangeSlotFactor.getValue()).str() +
                         ", expected a number above 0 and at most 65536");
  if (options.threads < 1 || options.threads > kMaxThreads)
    return Status::usage("threads: found " + std::to_string(options.threads) +
                         ", expected a number from 1 to " + std::to_string(kMaxThreads));
  if (options.recompute != "none" && options.recompute != "cheap")
    return Status::usage("recompute: found \"" + options.recompute + "\", expected none or cheap");
  if (options.memory < 0)
    return Status::usage("memory: found " + std::to_string(options.memory) +
                         ", expected a number of bytes, or 0 for no limit");
  return {};
}

void addStage(OpPassManager &manager, StringRef stage, const PipelineOptions &options) {
  if (stage == "declare-mesh") {
    manager.addPass(passes::createDeclareMesh({.mesh = options.mesh}));
  } else if (stage == "insert-expert-sharding") {
    manager.addPass(passes::createInsertExpertSharding());
  } else if (stage == "insert-fsdp") {
    manager.addPass(passes::createInsertFsdp());
  } else if (stage == "insert-token-exchange") {
    manager.addPass(
        passes::createInsertTokenExchange({.slotFactor = options.tokenExchangeSlotFactor}));
  } else if (stage == "lower-experts") {
    manager.addPass(passes::createLowerExperts());
  } else if (stage == "differentiate") {
    manager.addPass(passes::createDifferentiate());
  } else if (stage == "accumulate") {
    manager.addPass(passes::createAccumulate());
  } else if (stage == "optimizer") {
    manager.addPass(passes::createOptimizer());
  } else if (stage == "canonicalize") {
    manager.addPass(createCanonicalizerPass());
    manager.addPass(createCSEPass());
  } else if (stage == "recompute") {
    manager.addPass(passes::createRecompute({.what = options.recompute}));
  } else if (stage == "fuse") {
    manager.addPass(passes::createFuse({.enable = options.fuse}));
  } else if (stage == "gather") {
    manager.addPass(passes::createGatherRows({.enable = options.gather}));
  } else if (stage == "fuse-add") {
    manager.addPass(passes::createFuseAdd({.enable = options.fuse}));
  } else if (stage == "fuse-norm") {
    manager.addPass(passes::createFuseNorm({.enable = options.fuse}));
  } else if (stage == "verify-gradient-reduction") {
    manager.addPass(passes::createVerifyGradientReduction());
  } else if (stage == "fuse-accumulate") {
    manager.addPass(passes::createFuseAccumulate({.enable = options.fuse}));
  } else if (stage == "to-plan") {
    manager.addPass(passes::createToPlan(
        {.target = options.target, .threads = static_cast<int32_t>(options.threads)}));
  } else if (stage == "reshard-after-forward") {
    manager.addPass(passes::createReshardAfterForward({.enable = options.reshardAfterForward}));
  } else if (stage == "bucket-collectives") {
    manager.addPass(passes::createBucketCollectives());
  } else if (stage == "prefetch-gathers") {
    manager.addPass(passes::createPrefetchGathers());
  } else if (stage == "assign-streams") {
    manager.addPass(passes::createAssignStreams());
  } else if (stage == "insert-waits") {
    manager.addPass(passes::createInsertWaits());
  } else if (stage == "verify-collective-order") {
    manager.addPass(passes::createVerifyCollectiveOrder());
  } else if (stage == "assign-addresses") {
    manager.addPass(passes::createAssignAddresses(
        {.memory = memoryLimit(options) ? memoryLimit(options) : usableMemory()}));
  } else {
    assert(stage == "verify-memory" && "not one of kStages");
    manager.addPass(passes::createVerifyMemory({.memory = memoryLimit(options)}));
  }
}

void buildPipeline(OpPassManager &manager, const PipelineOptions &options) {
  for (StringRef stage : kStages) {
    addStage(manager, stage, options);
    if (stage == options.stopAfter)
      return;
  }
}

void registerMoePipeline() {
  registerPassPipeline(
      "moe-pipeline", "From an imported model to a plan with addresses, stage by stage",
      [](OpPassManager &manager, StringRef text,
         llvm::function_ref<LogicalResult(const Twine &)> reportError) -> LogicalResult {
        PipelineOptions options;
        if (failed(options.parseFromString(text)))
          return failure();
        if (Status status = checkOptions(options); !status.ok())
          return reportError(status.message());
        buildPipeline(manager, options);
        return success();
      },
      [](llvm::function_ref<void(const mlir::detail::PassOptions &)> visit) {
        visit(PipelineOptions());
      });
}

} // namespace switchyard::compiler
