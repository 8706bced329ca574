// What experts do with the rows that they got: shared by the passes that lower moe.experts.
#pragma once

#include "dialects/moe/MoE.h"

namespace switchyard::passes {

/// The weights of a group of E experts, gate_up [E, 2 F, D] and down [E, D, F].
struct ExpertWeights {
  mlir::Value gateUp, down;
};

/// The rows [R, D] that come out of experts whose rows stand one expert after the other, groupSizes
/// [E] many of each.
mlir::Value buildGroupedExperts(mlir::OpBuilder &builder, mlir::Location location, mlir::Value rows,
                                const ExpertWeights &weights, mlir::Value groupSizes,
                                llvm::StringRef activation);

} // namespace switchyard::passes
