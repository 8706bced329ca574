#include "passes/AxisKinds.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;

namespace switchyard::passes {

StringRef describe(AxisKind kind) {
  switch (kind) {
  case AxisKind::Zero:
    return "zero";
  case AxisKind::Held:
    return "the same on all ranks, copies of one state";
  case AxisKind::Same:
    return "the same on all ranks";
  case AxisKind::Own:
    return "each rank's own";
  case AxisKind::Slice:
    return "a part, cut along dimension 0";
  case AxisKind::Flat:
    return "a part, cut flat";
  case AxisKind::Share:
    return "a share, to be summed over ranks";
  }
  llvm_unreachable("not a kind");
}

AxisKinds kindsOfState(moe::StateOp state, AxisKind elsewhere) {
  AxisKinds kinds(elsewhere);
  auto sharding = dyn_cast_if_present<dist::ShardingAttr>(state.getShardingAttr());
  if (!sharding)
    return kinds;
  if (dist::AxesAttr axes = sharding.getDim0())
    for (dist::Axis axis : axes.getAxes())
      kinds[axis] = AxisKind::Slice;
  if (dist::AxesAttr axes = sharding.getFlat())
    for (dist::Axis axis : axes.getAxes())
      kinds[axis] = AxisKind::Flat;
  return kinds;
}

std::string axesText(ArrayRef<dist::Axis> axes) {
  std::string text = "[";
  for (dist::Axis axis : axes)
    text += (text.size() > 1 ? ", \"" : "\"") + dist::stringifyAxis(axis).str() + "\"";
  return text + "]";
}

std::string parameterName(moe::StateOp state) {
  StringAttr of = state.getOfAttr() ? state.getOfAttr().getAttr() : state.getSymNameAttr();
  return "@" + of.str();
}

static std::string parameterName(Operation *op, FlatSymbolRefAttr name) {
  auto state = SymbolTable::lookupNearestSymbolFrom<moe::StateOp>(op, name);
  return state ? parameterName(state) : "@" + name.getValue().str();
}

/// What `user` does with an operand in the end; empty if it goes on.
static std::string sinkText(OpOperand &use) {
  Operation *user = use.getOwner();
  if (auto write = dyn_cast<moe::WriteOp>(user))
    return parameterName(write, write.getStateAttr());
  if (auto gradient = dyn_cast<moe::GradientOp>(user))
    return parameterName(gradient, gradient.getParameterAttr());
  auto function = dyn_cast<func::FuncOp>(user->getParentOp());
  if (!function || !user->hasTrait<OpTrait::IsTerminator>())
    return "";
  auto name = function.getResultAttrOfType<StringAttr>(use.getOperandNumber(), moe::kNameAttr);
  return "the result \"" + (name ? name.str() : std::to_string(use.getOperandNumber())) + "\"";
}

std::string subjectOf(Operation *op) {
  llvm::SetVector<Operation *> reached;
  reached.insert(op);
  for (size_t i = 0; i < reached.size(); ++i)
    for (OpOperand &use : reached[i]->getUses()) {
      if (std::string text = sinkText(use); !text.empty())
        return text;
      bool yields = isa<dist::YieldOp>(use.getOwner());
      reached.insert(yields ? use.getOwner()->getParentOp() : use.getOwner());
    }
  reached.clear();
  reached.insert(op);
  for (size_t i = 0; i < reached.size(); ++i) {
    if (auto read = dyn_cast<moe::ReadOp>(reached[i]))
      return parameterName(read, read.getStateAttr());
    for (Value operand : reached[i]->getOperands())
      if (Operation *definer = operand.getDefiningOp())
        reached.insert(definer);
  }
  return "no parameter";
}

std::string originOf(Value value) {
  while (Operation *definer = value.getDefiningOp()) {
    if (auto read = dyn_cast<moe::ReadOp>(definer))
      return "@" + read.getState().str();
    bool passes = isa<dist::CollectiveOpInterface, dist::ReplicateOp>(definer) &&
                  definer->getNumOperands() == 1;
    if (!passes)
      return "the result of " + definer->getName().getStringRef().str();
    value = definer->getOperand(0);
  }
  auto argument = cast<BlockArgument>(value);
  auto function = dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp());
  auto name = function
                  ? function.getArgAttrOfType<StringAttr>(argument.getArgNumber(), moe::kNameAttr)
                  : StringAttr();
  return name ? "the input \"" + name.str() + "\""
              : "argument " + std::to_string(argument.getArgNumber());
}

} // namespace switchyard::passes
