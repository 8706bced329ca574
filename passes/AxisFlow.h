// The transfer rules of verify-gradient-reduction: of what kind (AxisKinds.h) the results of an op
// are, axis by axis, given its operands; and what may not meet.
//
//     op                          |  operand           |  result along its axes
//     all_gather                  |  part, Own         |  Same
//     reduce_scatter              |  Own, Share        |  part
//     all_reduce sum              |  Own, Share        |  Same
//     all_reduce max              |  not Share         |  Same
//     replicate                   |  Held              |  Same
//     token_exchange              |  Own               |  Slice: rows of this rank's experts
//     token_return                |  Slice             |  Own
//
// Along other axes, and for all other ops along each axis:
//
//     operands                    |  results
//     Same                        |  Same
//     Held, Same                  |  Held
//     Own, Same                   |  Own
//     Slice, Same; Flat, Same     |  Slice; Flat; Own if the result is a scalar, which is no part
//     terms of a LinearOpInterface|  all of one kind, which it is; Own and Share make Share
//     unpermute_add,              |  as moe.add of x and of what
//       permute_grad_add          |    the other operands make
//     Share in a linear operand   |  Share, if the other operands are Same
//     Same scaled by 1/n          |  Share, n the ranks along all axes over which it is the same
//
// Everything else is refused: what a rank has of its own beside its part of something (no exchange,
// or none back), copies of a state beside what differs (no replicate: its gradient is owed to all),
// terms of which one is a total and one is not.
#pragma once

#include "passes/AxisKinds.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace switchyard::passes {

/// Computes the kinds of all values of a program, in the order of its ops, in linear time. Refuses
/// with a diagnostic at the op, which names the parameter and the axis, and says what to do.
class AxisFlow {
public:
  /// Kinds of what a moe.read yields.
  using ReadKinds = llvm::function_ref<AxisKinds(moe::ReadOp)>;
  /// Called for each moe.write and moe.gradient with the kinds of its value.
  using CheckSink = llvm::function_ref<mlir::LogicalResult(mlir::Operation *, const AxisKinds &)>;

  AxisFlow(dist::MeshAttr mesh, ReadKinds read, CheckSink sink)
      : mesh_(mesh), read_(read), sink_(sink) {}

  /// `inputs` is the kind of arguments, but along the axes of a dist.replicated.
  mlir::LogicalResult run(mlir::func::FuncOp program, AxisKind inputs);

  /// Of a value of the program, after run().
  AxisKinds kindsOf(mlir::Value value) const { return kinds_.find(value)->second; }

  /// Whether the value, of a program over tokens, is a gradient (moe.gradient) or computed from
  /// one: part of the update, whose numbers the ranks have to agree on.
  bool isOfUpdate(mlir::Value value) const { return ofUpdate_.contains(value); }

private:
  using Result = mlir::FailureOr<AxisKind>;

  mlir::LogicalResult visit(mlir::Operation *op);
  mlir::LogicalResult visitGather(dist::AllGatherOp op);
  mlir::LogicalResult visitReduceScatter(dist::ReduceScatterOp op);
  mlir::LogicalResult visitAllReduce(dist::AllReduceOp op);
  mlir::LogicalResult visitReplicate(dist::ReplicateOp op);
  /// An op that moves rows: `rule` says what results along its axes.
  using MoveRule = llvm::function_ref<Result(dist::Axis)>;
  mlir::LogicalResult visitMove(mlir::Operation *op, dist::AxesAttr axes, MoveRule rule);
  mlir::LogicalResult visitExchange(dist::TokenExchangeOp op);
  mlir::LogicalResult visitReturn(dist::TokenReturnOp op);
  mlir::LogicalResult visitRounds(dist::RoundsOp op);
  mlir::LogicalResult visitLinear(mlir::Operation *op, mlir::OperandRange terms);
  /// An op that adds its last operand to what it makes of the others.
  mlir::LogicalResult visitAdd(mlir::Operation *op);
  mlir::LogicalResult visitOther(mlir::Operation *op, mlir::ValueRange operands);

  Result gather(dist::AllGatherOp op, dist::Axis axis);
  /// What the sum over `axis` is, made by `op` of a value of kind `kind`: `sum`.
  Result makeSum(mlir::Operation *op, dist::Axis axis, AxisKind kind, AxisKind sum);
  Result meet(mlir::Operation *op, mlir::ValueRange values, dist::Axis axis);
  Result meetTerms(mlir::Operation *op, mlir::ValueRange terms, dist::Axis axis);
  mlir::LogicalResult checkCounts(mlir::Operation *op, mlir::Value counts, dist::Axis axis);
  mlir::InFlightDiagnostic refuseOwnBesidePart(mlir::Operation *op, dist::Axis axis,
                                               mlir::Value own, mlir::Value part) const;
  mlir::InFlightDiagnostic refuseHeldBeside(mlir::Operation *op, dist::Axis axis, mlir::Value held,
                                            mlir::Value other) const;
  unsigned chosenOf(mlir::ValueRange values) const;
  void share(moe::ScaleOp op, AxisKinds &kinds) const;
  /// By value, as an entry that is read may move when one is added.
  void set(mlir::ValueRange values, AxisKinds kinds);
  mlir::InFlightDiagnostic refuse(mlir::Operation *op, dist::Axis axis) const;

  dist::MeshAttr mesh_;
  ReadKinds read_;
  CheckSink sink_;
  bool updates_ = false; // the op that is visited updates states; else it is over tokens
  llvm::DenseMap<mlir::Value, AxisKinds> kinds_;
  llvm::DenseSet<mlir::Value> ofUpdate_;
};

} // namespace switchyard::passes
