// Hugging Face checkpoint folder -> moe dialect. config.json alone is enough; where weights are
// there, their headers are checked against the model's states and no weight is read.
#pragma once

#include "compiler/import/ModelConfig.h"
#include "runtime/core/Status.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>
#include <string_view>

namespace switchyard::compiler {

/// How many tokens one pass may hold.
struct Coalesce {
  enum class Kind { Auto, MicroBatches, Tokens } kind = Kind::Auto;
  int64_t value = 0; // MicroBatches, Tokens: the number
};

/// "auto", "N" (micro-batches per pass) or "tokens=N".
Result<Coalesce> parseCoalesce(std::string_view text);

/// What the model is imported for. Names are TrainingArguments' where they exist there.
struct ImportOptions {
  std::string precision; // "f32", "bf16", "bf16_f32_state"; "": as the checkpoint's dtype
  int64_t perDeviceTrainBatchSize = 1;
  int64_t gradientAccumulationSteps = 16;
  int64_t maxSeqLength = 2048;
  bool packing = false;
  Coalesce coalesce;
  double routerAuxLossCoef = -1;            // < 0: as the config says
  std::string lossNormalization = "global"; // or "micro_batch"
  std::string weightDecayScope = "hf";      // or "all"
  std::string auxLossScope = "micro_batch"; // or "pass": over all ranks' tokens of one pass
  bool syncEachBatch = true; // reduce gradients over ranks in each micro_step, not once a step
  /// "split": micro_step over each pass, then optimizer_step. "fused": both are one program,
  /// train_step, which a step of one pass takes. "auto": fused where one pass holds a step.
  std::string stepProgram = "auto";
};

/// Reads DIR/config.json, checks the weights beside it, and builds the module: symbols, parameters,
/// @evaluate, @logits. Every fault names the file and field, what was found, what was expected and
/// what to do.
Result<mlir::OwningOpRef<mlir::ModuleOp>>
importModel(const std::string &directory, const ImportOptions &options, mlir::MLIRContext &context);

} // namespace switchyard::compiler
