// Builds the moe module of a model: the same for every family, driven by ModelConfig.
#pragma once

#include "compiler/import/Family.h"
#include "compiler/import/Import.h"
#include "compiler/import/Parameters.h"

namespace switchyard::compiler {

/// The bounds of T (tokens), S (segments) and M (micro-batches) of one pass.
struct PassBounds {
  int64_t tokens = 0;
  int64_t minimumTokens =
      0; // assign-addresses may lower `tokens` to this to fit the memory; 0: it may not
  int64_t segments = 0;
  int64_t microBatches = 0;
  bool fused = false; // a pass holds a whole step, and the step is one program
};

/// Row indices of [T * top_k] rows are 32-bit: more tokens than that are refused (capped for
/// `auto`).
Result<PassBounds> passBounds(const ImportOptions &options, int64_t topK);

/// Resolves `options.precision` ("" by the checkpoint's dtype).
Result<std::string> resolvePrecision(const ImportOptions &options, const ModelConfig &config,
                                     const std::string &path);

/// The weight of the load-balancing loss in the loss; 0: it has none.
double auxLossCoef(const ImportOptions &options, const ModelConfig &config);

/// `precision` is resolved. `fingerprint` identifies config.json.
mlir::OwningOpRef<mlir::ModuleOp>
buildModel(const ModelConfig &config, const std::vector<Parameter> &parameters,
           const ImportOptions &options, const PassBounds &bounds, const std::string &precision,
           const std::string &fingerprint, mlir::MLIRContext &context);

} // namespace switchyard::compiler
