// Between the plan dialect and the plan: a module with addresses becomes a Plan, and a Plan a
// module.
#pragma once

#include "runtime/core/Status.h"
#include "runtime/plan/Plan.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace switchyard::compiler {

/// The plan of a module that `assign-addresses` has been through. Fails, naming the op, where an
/// address, a state's type or the model's description is missing.
Result<Plan> emitPlan(mlir::ModuleOp module);

/// The module of a plan that runtime/plan's verify() has accepted; emitPlan() turns it back into
/// the same plan. `context` must have the func, moe and plan dialects loaded.
mlir::OwningOpRef<mlir::ModuleOp> planToModule(const Plan &plan, mlir::MLIRContext &context);

} // namespace switchyard::compiler
