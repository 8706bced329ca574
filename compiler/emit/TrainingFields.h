// The fields of Plan::training and their names in the module's `moe.model` dictionary: one list for
// both directions.
#pragma once

#include "runtime/plan/Plan.h"

#include "mlir/IR/BuiltinAttributes.h"

namespace switchyard::compiler {

inline constexpr llvm::StringLiteral kModelAttr = "moe.model";

/// Reads `dictionary` into `training` and the model's fingerprint. Returns the name of the first
/// field that is missing or not of its type, or an empty string.
std::string readTraining(mlir::DictionaryAttr dictionary, Training &training,
                         std::string &fingerprint);

mlir::DictionaryAttr writeTraining(const Training &training, const std::string &fingerprint,
                                   mlir::MLIRContext *context);

} // namespace switchyard::compiler
