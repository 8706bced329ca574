// The precision policy of a module, the names of programs, and derived states (gradients, moments,
// masters): what accumulate and optimizer share.
#pragma once

#include "dialects/moe/MoE.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/SymbolTable.h"

namespace switchyard::passes {

inline constexpr llvm::StringLiteral kEvaluate = "evaluate";
inline constexpr llvm::StringLiteral kMicroStep = "micro_step";
inline constexpr llvm::StringLiteral kOptimizerStep = "optimizer_step";
/// A whole step in one program, in the place of the two before.
inline constexpr llvm::StringLiteral kTrainStep = "train_step";

/// The name of a program's argument or result.
inline constexpr llvm::StringLiteral kNameAttr = "moe.name";
/// The module's dictionary of what the trainer needs to know.
inline constexpr llvm::StringLiteral kModelAttr = "moe.model";

/// The types of what is derived from a parameter, and when gradients are reduced. Three policies:
/// f32; bf16 (gradients and moments in bfloat16 too); bf16_f32_state (float32 gradients and
/// moments, and a float32 master of the parameter).
struct Policy {
  mlir::Type gradient;
  mlir::Type moment;
  bool master = false;
  /// Whether gradients are reduced over ranks in each micro step, not once a step.
  bool syncEachBatch = true;
  /// Whether a step is one program over one pass, @train_step, so that no gradient outlives it;
  /// else
  /// @micro_step over each pass, and @optimizer_step.
  bool fused = false;

  /// From `precision`, `sync_each_batch` and `step_program` ("split" or "fused") in the module's
  /// `moe.model`; f32, true and split where there is none. Fails, with a diagnostic, on an unknown
  /// precision or step program.
  static mlir::FailureOr<Policy> of(mlir::ModuleOp module);
};

/// Declares states that belong to parameters, behind the states that are there.
class DerivedStates {
public:
  explicit DerivedStates(mlir::ModuleOp module);

  /// The state NAME`suffix` of the parameter's shape, with elements of type `element`. Fails, with
  /// a diagnostic, if the name is taken.
  mlir::FailureOr<moe::StateOp> declare(moe::StateOp parameter, llvm::StringRef suffix,
                                        moe::StateKind kind, mlir::Type element);

  /// The state called `name`.
  moe::StateOp lookup(llvm::StringRef name) const { return symbols_.lookup<moe::StateOp>(name); }

private:
  mlir::SymbolTable symbols_;
  moe::StateOp last_;
};

} // namespace switchyard::passes
