// moe-opt: reads MLIR text, runs passes, prints what came out. mlir-opt's own manners, with the
// dialects and passes of this project only.
#include "compiler/pipeline/Pipeline.h"
#include "dialects/dist/Dist.h"
#include "dialects/moe/MoE.h"
#include "dialects/plan/Plan.h"
#include "passes/Passes.h"
#include "tools/common/MlirInput.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Support/FileUtilities.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/ToolOutputFile.h"
#include "llvm/Support/raw_ostream.h"

using namespace switchyard;

static int fail(const llvm::Twine &message, StatusCode code) {
  llvm::errs() << "moe-opt: error: " << message << "\n";
  return static_cast<int>(code);
}

int main(int argc, char **argv) {
  llvm::InitLLVM initLlvm(argc, argv);
  mlir::DialectRegistry registry;
  registry.insert<mlir::func::FuncDialect, dist::DistDialect, moe::MoEDialect, plan::PlanDialect>();
  mlir::registerCanonicalizerPass();
  mlir::registerCSEPass();
  mlir::registerSymbolDCEPass();
  passes::registerSwitchyardPasses();
  compiler::registerMoePipeline();

  auto [inputPath, outputPath] = mlir::registerAndParseCLIOptions(
      argc, argv, "moe-opt: runs passes over the moe, dist and plan dialects\n", registry);
  mlir::MlirOptMainConfig config = mlir::MlirOptMainConfig::createFromCLOptions();
  if (config.shouldShowDialects()) {
    for (llvm::StringRef name : registry.getDialectNames())
      llvm::outs() << name << "\n";
    return 0;
  }
  if (config.shouldListPasses()) {
    mlir::printRegisteredPasses();
    return 0;
  }

  Result<std::unique_ptr<llvm::MemoryBuffer>> input = readMlirInput(inputPath);
  if (!input.ok())
    return fail(input.status().message(), input.status().code());
  std::string message;
  std::unique_ptr<llvm::ToolOutputFile> output = mlir::openOutputFile(outputPath, &message);
  if (!output)
    return fail(message, StatusCode::InvalidInput);
  if (failed(mlir::MlirOptMain(output->os(), std::move(*input), registry, config)))
    return static_cast<int>(StatusCode::Failed);
  output->keep();
  return 0;
}
