// Reads MLIR text that may come from anywhere: refuses what MLIR's parser is known to crash on.
#pragma once

#include "runtime/core/Status.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/MemoryBuffer.h"

#include <memory>

namespace switchyard {

/// Brackets may nest this deep in MLIR text: the parser recurses on them.
inline constexpr unsigned kMaxNesting = 256;

/// Refuses MLIR bytecode (its reader crashes on some damaged files) and text whose brackets nest
/// deeper than kMaxNesting. `path` names the input in the message.
Status checkMlirInput(llvm::StringRef path, llvm::StringRef text);

/// The checked contents of `path` ("-": standard input).
Result<std::unique_ptr<llvm::MemoryBuffer>> readMlirInput(llvm::StringRef path);

} // namespace switchyard
