#include "compiler/import/Import.h"

#include "compiler/import/CheckWeights.h"
#include "compiler/import/ModelBuilder.h"
#include "compiler/import/Parameters.h"
#include "dialects/moe/MoE.h"
#include "runtime/core/File.h"
#include "runtime/plan/ModelFingerprint.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"

#include <filesystem>

using namespace mlir;

namespace switchyard::compiler {

static Status checkChoice(const char *flag, const std::string &value, const char *first,
                          const char *second) {
  if (value == first || value == second)
    return {};
  return Status::usage(std::string(flag) + ": found \"" + value + "\", expected " + first + " or " +
                       second);
}

static Result<Json> readConfig(const std::string &directory, const std::string &path) {
  std::error_code error;
  if (!std::filesystem::is_directory(directory, error))
    return Status::invalidInput(directory +
                                ": is no folder; expected a Hugging Face checkpoint folder, with a "
                                "config.json in it");
  if (!fileExists(path))
    return Status::invalidInput(directory +
                                ": has no config.json; expected a Hugging Face checkpoint folder");
  return readJson(path, {.maxBytes = uint64_t{16} << 20});
}

Result<OwningOpRef<ModuleOp>> importModel(const std::string &directory,
                                          const ImportOptions &options, MLIRContext &context) {
  SY_RETURN_IF_ERROR(
      checkChoice("--loss-normalization", options.lossNormalization, "global", "micro_batch"));
  SY_RETURN_IF_ERROR(checkChoice("--weight-decay-scope", options.weightDecayScope, "hf", "all"));
  SY_RETURN_IF_ERROR(checkChoice("--aux-loss-scope", options.auxLossScope, "micro_batch", "pass"));
  const std::string path = joinPath(directory, "config.json");
  SY_ASSIGN_OR_RETURN(const Json json, readConfig(directory, path));
  SY_ASSIGN_OR_RETURN(const ModelConfig config, readModelConfig(path, json));
  SY_ASSIGN_OR_RETURN(const PassBounds bounds, passBounds(options, config.topK));
  SY_ASSIGN_OR_RETURN(const std::string precision, resolvePrecision(options, config, path));
  const Family &family = *findFamily(config.modelType);
  const std::vector<Parameter> parameters = modelParameters(family, config);
  SY_RETURN_IF_ERROR(checkModelSize(path, parameters));
  SY_RETURN_IF_ERROR(checkWeights(directory, parameters));

  context.loadDialect<func::FuncDialect, moe::MoEDialect>();
  OwningOpRef<ModuleOp> module =
      buildModel(config, parameters, options, bounds, precision, modelFingerprint(json), context);
  if (failed(verify(*module)))
    return Status::failed(path + ": was imported to a module that does not verify; this is a fault "
                                 "of the importer, please report it");
  return module;
}

} // namespace switchyard::compiler
