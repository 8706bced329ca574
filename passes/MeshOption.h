// The mesh as an option says it: "fsdp=2,ep=4".
#pragma once

#include "dialects/dist/Dist.h"

#include <array>
#include <string>

namespace switchyard::passes {

/// The sizes of the axes, by dist::Axis.
using MeshSizes = std::array<int64_t, 3>;

/// Reads sizes of the axes dp, fsdp and ep, separated by commas; those that are not named have size
/// 1. Returns what is wrong ("found ..., expected ..."), or nothing.
std::optional<std::string> parseMesh(llvm::StringRef text, MeshSizes &sizes);

/// The mesh of these sizes, axes of size 1 left out; null where that leaves none, for one rank.
dist::MeshAttr meshOf(const MeshSizes &sizes, mlir::MLIRContext *context);

} // namespace switchyard::passes
