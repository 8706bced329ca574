#include "tools/moe-compile/Compile.h"

#include "compiler/emit/Emit.h"
#include "dialects/dist/Dist.h"
#include "dialects/moe/MoE.h"
#include "dialects/plan/Plan.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/Verify.h"
#include "tools/common/MlirOutput.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Pass/PassManager.h"

#include <iostream>
#include <numeric>

using namespace mlir;

namespace switchyard {

namespace {

std::string sizeText(uint64_t bytes) {
  const char *units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  for (; value >= 1024 && unit < 5; ++unit)
    value /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit ? "%.2f %s" : "%.0f %s", value, units[unit]);
  return text;
}

Status checkArguments(const CompileArguments &arguments, const compiler::PipelineOptions &options) {
  const std::string &emit = arguments.emit;
  if (emit != "moe" && emit != "dist" && emit != "plan" && emit != "flatbuffer")
    return Status::usage("--emit: found \"" + emit + "\", expected moe, dist, plan or flatbuffer");
  if (emit == "flatbuffer" && arguments.output.empty())
    return Status::usage("-o is missing: which file to write the plan to");
  const std::string &stage = arguments.printAfter;
  if (!stage.empty() && stage != "import" &&
      !llvm::is_contained(compiler::kStages, llvm::StringRef(stage)))
    return Status::usage("--print-after: no stage is called \"" + stage +
                         "\"; the stages are import, " + compiler::stageList());
  Status status = compiler::checkOptions(options);
  return status.ok() ? status : Status(status.code(), "--" + status.message());
}

/// A refusal to fit is its own exit code, and experts that the mesh cannot divide are a matter of
/// the flags; every other stage fails only on a fault of ours.
StatusCode codeOfStage(llvm::StringRef stage) {
  if (stage == "insert-expert-sharding")
    return StatusCode::Usage;
  return stage == "verify-memory" || stage == "assign-addresses" ? StatusCode::DoesNotFit
                                                                 : StatusCode::Failed;
}

Status runStages(ModuleOp module, const CompileArguments &arguments,
                 const compiler::PipelineOptions &options) {
  for (llvm::StringRef stage : compiler::kStages) {
    DiagnosticCollector diagnostics(*module.getContext());
    PassManager manager(module.getContext());
    compiler::addStage(manager, stage, options);
    if (failed(manager.run(module)))
      return Status(codeOfStage(stage),
                    arguments.modelDirectory + ": " +
                        diagnostics.firstError("the stage " + stage.str() + " failed"));
    if (stage == arguments.printAfter)
      SY_RETURN_IF_ERROR(writeModule(module, "-"));
    if (arguments.emit == "dist" && stage == compiler::kLastTensorStage)
      break;
  }
  return {};
}

/// The mesh of as many ranks as the arguments say: as many as possible of them divide the experts.
std::string defaultMesh(ModuleOp module, int64_t ranks) {
  if (ranks == 1)
    return "";
  auto model = module->getAttrOfType<DictionaryAttr>(moe::kModelAttr);
  const int64_t experts = model.getAs<IntegerAttr>("num_experts").getInt();
  const int64_t ep = std::gcd(ranks, experts);
  return "fsdp=" + std::to_string(ranks / ep) + ",ep=" + std::to_string(ep);
}

/// Whether a step that is one program fits the memory, where `module` has one. Silent: a run that
/// fails otherwise will fail again.
bool fitsAsImported(ModuleOp module, const CompileArguments &arguments,
                    const compiler::PipelineOptions &options) {
  auto model = module->getAttrOfType<DictionaryAttr>(moe::kModelAttr);
  if (auto program = model.getAs<StringAttr>("step_program"); !program || program != "fused")
    return true;
  OwningOpRef<ModuleOp> trial(cast<ModuleOp>(module->clone()));
  CompileArguments silent = arguments;
  silent.printAfter.clear();
  silent.emit = "plan";
  if (Status status = runStages(*trial, silent, options); !status.ok())
    return status.code() != StatusCode::DoesNotFit;
  auto peak = (*trial)->getAttrOfType<IntegerAttr>(plan::kPeakAttr);
  return compiler::memoryLimit(options) > 0 || peak.getInt() <= compiler::usableMemory();
}

/// The module to compile: with --step-program auto, a step of one program where that fits.
Result<OwningOpRef<ModuleOp>> import(const CompileArguments &arguments,
                                     compiler::PipelineOptions &options, MLIRContext &context) {
  SY_ASSIGN_OR_RETURN(
      OwningOpRef<ModuleOp> module,
      compiler::importModel(arguments.modelDirectory, arguments.importOptions, context));
  if (arguments.mesh.empty())
    options.mesh = defaultMesh(*module, arguments.ranks);
  compiler::ImportOptions split = arguments.importOptions;
  split.stepProgram = "split";
  if (arguments.importOptions.stepProgram != "auto" || arguments.emit == "moe" ||
      fitsAsImported(*module, arguments, options))
    return module;
  return compiler::importModel(arguments.modelDirectory, split, context);
}

void printSummary(const Plan &plan, const CompileArguments &arguments,
                  const compiler::PipelineOptions &options) {
  std::cout << arguments.output << ": " << plan.training.modelType << ", "
            << plan.training.precision << ", "
            << (plan.target.kind == kernels::Target::Kind::Cuda ? "cuda, " : "");
  const int64_t ranks = plan.mesh.numRanks();
  if (ranks > 1)
    std::cout << ranks << " ranks (" << text(plan.mesh) << "), ";
  std::cout << "programs";
  for (const Program &program : plan.programs)
    std::cout << (&program == plan.programs.data() ? " " : ", ") << program.name << " ("
              << program.instructions.size() << ")";
  std::cout << "\n  one pass holds";
  for (const Symbol &symbol : plan.symbols)
    std::cout << (&symbol == plan.symbols.data() ? " " : ", ") << symbol.name << " = "
              << symbol.bound;
  std::cout << "\n  peak memory " << (ranks > 1 ? "per rank " : "") << sizeText(plan.peakBytes)
            << ": state " << sizeText(plan.arenaBytes[0]) << ", io " << sizeText(plan.arenaBytes[1])
            << ", comm " << sizeText(plan.arenaBytes[2]) << ", transient "
            << sizeText(plan.arenaBytes[3]) << "\n";
  const auto limit = static_cast<uint64_t>(compiler::memoryLimit(options));
  const int64_t usable = compiler::usableMemory();
  if (limit > 0)
    std::cout << "  of " << sizeText(limit) << " that a rank may use"
              << (arguments.memory ? "" : ", unless --memory says otherwise") << "\n";
  else if (plan.peakBytes > static_cast<uint64_t>(usable))
    std::cout << "  that is more than three quarters of this machine's memory (" << sizeText(usable)
              << ")\n";
}

} // namespace

Status compileModel(const CompileArguments &arguments) {
  compiler::PipelineOptions options;
  options.target = arguments.target;
  options.threads = arguments.threads;
  options.memory = arguments.memory;
  options.mesh = arguments.mesh;
  options.tokenExchangeSlotFactor = arguments.slotFactor;
  options.recompute = arguments.recompute;
  options.fuse = arguments.fuse;
  options.gather = arguments.gather;
  options.reshardAfterForward = arguments.reshardAfterForward;
  SY_RETURN_IF_ERROR(checkArguments(arguments, options));

  MLIRContext context(MLIRContext::Threading::DISABLED);
  context.loadDialect<func::FuncDialect, dist::DistDialect, moe::MoEDialect, plan::PlanDialect>();
  SY_ASSIGN_OR_RETURN(OwningOpRef<ModuleOp> module, import(arguments, options, context));
  const std::string textOutput = arguments.output.empty() ? "-" : arguments.output;
  if (arguments.printAfter == "import")
    SY_RETURN_IF_ERROR(writeModule(*module, "-"));
  if (arguments.emit == "moe")
    return writeModule(*module, textOutput);

  SY_RETURN_IF_ERROR(runStages(*module, arguments, options));
  if (arguments.emit == "dist")
    return writeModule(*module, textOutput);
  SY_ASSIGN_OR_RETURN(const Plan plan, compiler::emitPlan(*module));
  SY_RETURN_IF_ERROR(verify(plan).within("the plan that was made"));
  if (arguments.emit == "plan")
    return writeModule(*module, textOutput);
  SY_RETURN_IF_ERROR(writePlan(plan, arguments.output));
  printSummary(plan, arguments, options);
  return {};
}

} // namespace switchyard
