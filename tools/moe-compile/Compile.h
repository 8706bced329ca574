// What moe-compile does once its flags are read.
#pragma once

#include "compiler/pipeline/Pipeline.h"
#include "tools/common/ImportFlags.h"

#include <string>

namespace switchyard {

struct CompileArguments {
  std::string modelDirectory;
  std::string output;              // "": standard output, for --emit moe, dist and plan
  std::string emit = "flatbuffer"; // moe, dist, plan, flatbuffer
  std::string printAfter;          // a stage, import, or ""
  std::string target = "cpu";
  std::string mesh; // "fsdp=2,ep=4"; "": the default for `ranks`
  int64_t ranks =
      1; // where there is no mesh: ep is what divides them and the experts, fsdp the rest
  double slotFactor = 2.0;
  std::string recompute = "none"; // or cheap
  bool fuse = true;
  bool gather = true;
  bool reshardAfterForward = true;
  int64_t threads = 1;
  int64_t memory = 0; // bytes of a rank; 0: not given
  compiler::ImportOptions importOptions;
};

/// Imports, runs the stages one by one, emits, verifies what is to be written as the loader would,
/// and writes it by an atomic rename: after a failure there is no output file.
Status compileModel(const CompileArguments &arguments);

} // namespace switchyard
