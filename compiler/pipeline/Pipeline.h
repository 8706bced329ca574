// The pipeline from an imported model to a plan with addresses: named stages, the same list for
// moe-compile and for `moe-opt --moe-pipeline`.
#pragma once

#include "runtime/core/Status.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"

namespace switchyard::compiler {

/// Worker threads of a rank unless told otherwise: one for each core, as moe-run has.
int64_t defaultThreads();

/// Bytes that a plan may use unless told otherwise: three quarters of this machine's memory, or of
/// its control group's where that is less.
int64_t usableMemory();

/// Bytes that a plan for a GPU may use unless told otherwise.
inline constexpr int64_t kCudaMemory = int64_t{80} << 30;

/// In this order. A stage is the pass of its name, but for `canonicalize`, which is canonicalize
/// and cse, and `gather`, which is gather-rows. (`import`, before them, is importModel().)
inline constexpr llvm::StringLiteral kStages[] = {
    "declare-mesh",
    "insert-expert-sharding",
    "insert-fsdp",
    "insert-token-exchange",
    "lower-experts",
    "differentiate",
    "accumulate",
    "optimizer",
    "canonicalize",
    "recompute",
    "fuse",
    "gather",
    "fuse-add",
    "fuse-norm",
    "verify-gradient-reduction",
    "fuse-accumulate",
    "to-plan",
    "reshard-after-forward",
    "bucket-collectives",
    "prefetch-gathers",
    "assign-streams",
    "assign-addresses",
    "insert-waits",
    "verify-collective-order",
    "verify-memory",
};

struct PipelineOptions : mlir::PassPipelineOptions<PipelineOptions> {
  Option<std::string> stopAfter{*this, "stop-after",
                                llvm::cl::desc("The last stage to run (default: all run)")};
  Option<std::string> target{*this, "target", llvm::cl::desc("What the plan runs on: cpu or cuda"),
                             llvm::cl::init("cpu")};
  Option<std::string> mesh{
      *this, "mesh",
      llvm::cl::desc("Sizes of the axes dp, fsdp and ep, as fsdp=2,ep=4 (default: one rank)")};
  Option<double> tokenExchangeSlotFactor{
      *this, "token-exchange-slot-factor",
      llvm::cl::desc("Rows that a rank can receive in one round of a token exchange, as a multiple "
                     "of what even routing sends it"),
      llvm::cl::init(2.0)};
  Option<std::string> recompute{
      *this, "recompute",
      llvm::cl::desc("What is computed again for the backward direction, not kept: none, or cheap "
                     "(norms, permutations, activations)"),
      llvm::cl::init("none")};
  Option<bool> fuse{
      *this, "fuse",
      llvm::cl::desc("Let kernels do on the way what others would do to their results, such as "
                     "activations; false leaves each op a kernel of its own"),
      llvm::cl::init(true)};
  Option<bool> gather{
      *this, "gather",
      llvm::cl::desc("Let the experts' products take tokens where they stand; false copies the "
                     "tokens into the order of the experts first"),
      llvm::cl::init(true)};
  Option<bool> reshardAfterForward{
      *this, "reshard-after-forward",
      llvm::cl::desc("Gather a layer's states again for the backward direction; false keeps them"),
      llvm::cl::init(true)};
  Option<int64_t> threads{*this, "threads",
                          llvm::cl::desc("Worker threads of a rank on a CPU; workspaces are sized "
                                         "for them (default: one per core)"),
                          llvm::cl::init(defaultThreads())};
  Option<int64_t> memory{
      *this, "memory",
      llvm::cl::desc("Bytes that a rank has: a plan that needs more is refused; 0: 80 GiB for "
                     "cuda, for cpu no refusal, and tokens that --coalesce auto left open fill "
                     "three quarters of this machine's"),
      llvm::cl::init(0)};
};

/// The last stage of the model as tensor programs over moe and dist; `to-plan` follows.
inline constexpr llvm::StringLiteral kLastTensorStage = "verify-gradient-reduction";

/// The stages' names, separated by commas.
std::string stageList();

/// The bytes above which a plan is refused; 0 for none.
int64_t memoryLimit(const PipelineOptions &options);

/// Refuses an unknown stage or target, what is no mesh, and numbers out of range.
Status checkOptions(const PipelineOptions &options);

/// Adds the passes of one stage. The options have been checked.
void addStage(mlir::OpPassManager &manager, llvm::StringRef stage, const PipelineOptions &options);

/// Adds all stages up to options.stopAfter. The options have been checked.
void buildPipeline(mlir::OpPassManager &manager, const PipelineOptions &options);

/// Makes the pipeline known as `--moe-pipeline`.
void registerMoePipeline();

} // namespace switchyard::compiler
