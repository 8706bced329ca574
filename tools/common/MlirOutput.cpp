#include "tools/common/MlirOutput.h"

#include "runtime/core/File.h"

#include "llvm/Support/raw_ostream.h"

#include <iostream>

using namespace mlir;

namespace switchyard {

Status writeModule(ModuleOp module, const std::string &path) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  module.print(stream);
  stream << "\n";
  if (path != "-")
    return writeFileAtomically(path, text);
  std::cout << text;
  return {};
}

static std::string describe(const Diagnostic &diagnostic) {
  std::string message;
  if (auto place = dyn_cast<FileLineColLoc>(diagnostic.getLocation()))
    message = place.getFilename().str() + ":" + std::to_string(place.getLine()) + ":" +
              std::to_string(place.getColumn()) + ": ";
  return message + diagnostic.str();
}

DiagnosticCollector::DiagnosticCollector(MLIRContext &context)
    : handler_(&context, [this](Diagnostic &diagnostic) {
        if (diagnostic.getSeverity() == DiagnosticSeverity::Error && first_.empty())
          first_ = describe(diagnostic);
        return success();
      }) {}

} // namespace switchyard
