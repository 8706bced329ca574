// The passes that turn a model into a plan: one .cpp each, declared and described in Passes.td.
#pragma once

#include "dialects/dist/Dist.h"
#include "dialects/moe/MoE.h"
#include "dialects/plan/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace switchyard::passes {

#define GEN_PASS_DECL
#include "passes/Passes.h.inc"

/// Makes the passes known by their flags.
#define GEN_PASS_REGISTRATION
#include "passes/Passes.h.inc"

} // namespace switchyard::passes
