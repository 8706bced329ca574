// moe-translate: the two ends of the compiler, without the passes between them. A Hugging Face
// folder becomes a module, a module with addresses a plan, and a plan a module again.
#include "compiler/emit/Emit.h"
#include "compiler/import/Import.h"
#include "dialects/moe/MoE.h"
#include "dialects/plan/Plan.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/Verify.h"
#include "tools/common/CommandLine.h"
#include "tools/common/ImportFlags.h"
#include "tools/common/MlirInput.h"
#include "tools/common/MlirOutput.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/SourceMgr.h"

using namespace switchyard;

namespace {

struct Arguments {
  std::string importDirectory;
  std::string planPath;
  std::string modulePath;
  std::string output = "-";
  ImportFlags importFlags;
};

Status importHf(const Arguments &arguments, mlir::MLIRContext &context) {
  SY_ASSIGN_OR_RETURN(const compiler::ImportOptions options, arguments.importFlags.options());
  SY_ASSIGN_OR_RETURN(mlir::OwningOpRef<mlir::ModuleOp> module,
                      compiler::importModel(arguments.importDirectory, options, context));
  return writeModule(*module, arguments.output);
}

Status planToMlir(const Arguments &arguments, mlir::MLIRContext &context) {
  SY_ASSIGN_OR_RETURN(const Plan plan, load(arguments.planPath));
  SY_RETURN_IF_ERROR(verify(plan).within(arguments.planPath));
  return writeModule(*compiler::planToModule(plan, context), arguments.output);
}

Status mlirToPlan(const Arguments &arguments, mlir::MLIRContext &context) {
  if (arguments.output == "-")
    return Status::usage("a plan is binary; say with -o which file to write it to");
  const std::string &path = arguments.modulePath;
  SY_ASSIGN_OR_RETURN(std::unique_ptr<llvm::MemoryBuffer> buffer, readMlirInput(path));
  DiagnosticCollector diagnostics(context);
  llvm::SourceMgr sources;
  sources.AddNewSourceBuffer(std::move(buffer), llvm::SMLoc());
  auto module = mlir::parseSourceFile<mlir::ModuleOp>(sources, &context);
  if (!module)
    return Status::invalidInput(diagnostics.firstError(path + ": is no module"));
  Result<Plan> plan = compiler::emitPlan(*module);
  if (!plan.ok())
    return plan.status().within(path);
  SY_RETURN_IF_ERROR(verify(*plan).within(path));
  return writePlan(*plan, arguments.output);
}

} // namespace

int main(int argc, char **argv) {
  CLI::App app("Translates between Hugging Face folders, modules and plans.");
  Arguments arguments;
  CLI::Option_group *what = app.add_option_group("What", "One of:");
  what->add_option("--import-hf", arguments.importDirectory,
                   "Import a Hugging Face checkpoint folder: prints a module in the moe dialect")
      ->type_name("DIR");
  what->add_option("--plan-to-mlir", arguments.planPath,
                   "Read a plan: prints a module in the plan dialect")
      ->type_name("FILE");
  what->add_option(
          "--mlir-to-plan", arguments.modulePath,
          "Read a module that has been through the pipeline (- for standard input): writes "
          "a plan")
      ->type_name("FILE");
  what->require_option(1);
  app.add_option("-o,--output", arguments.output, "The file to write; - for standard output")
      ->capture_default_str()
      ->type_name("FILE");
  arguments.importFlags.add(app);

  return runCommand("moe-translate", app, argc, argv, [&]() -> Status {
    mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
    context.loadDialect<mlir::func::FuncDialect, moe::MoEDialect, plan::PlanDialect>();
    if (!arguments.importDirectory.empty())
      return importHf(arguments, context);
    if (!arguments.planPath.empty())
      return planToMlir(arguments, context);
    return mlirToPlan(arguments, context);
  });
}
