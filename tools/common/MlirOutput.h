// Printing modules, and what MLIR has to say about them as one line.
#pragma once

#include "runtime/core/Status.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"

#include <string>

namespace switchyard {

/// Writes `module` as text to `path` ("-": standard output): the whole file, or none.
Status writeModule(mlir::ModuleOp module, const std::string &path);

/// Keeps the first error that is emitted in a context while this lives, and prints none.
class DiagnosticCollector {
public:
  explicit DiagnosticCollector(mlir::MLIRContext &context);

  /// "FILE:LINE:COLUMN: message" where the place is known, or `otherwise` if there was no error.
  std::string firstError(const std::string &otherwise) const {
    return first_.empty() ? otherwise : first_;
  }

private:
  mlir::ScopedDiagnosticHandler handler_;
  std::string first_;
};

} // namespace switchyard
