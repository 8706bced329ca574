// The flags that say what a model is imported for: moe-compile and moe-translate --import-hf have
// the same.
#pragma once

#include "compiler/import/Import.h"

#include "CLI/CLI.hpp"

#include <string>

namespace switchyard {

/// Lives as long as the CLI::App it is added to.
class ImportFlags {
public:
  void add(CLI::App &app);

  /// The options that the flags say.
  Result<compiler::ImportOptions> options() const;

private:
  compiler::ImportOptions options_;
  std::string coalesce_ = "auto";
  std::string routerAuxLossCoef_;
};

} // namespace switchyard
