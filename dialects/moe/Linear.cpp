// Which operands ops are linear in; the contract is in dialects/interfaces/LinearOpInterface.td.

#include "dialects/moe/MoE.h"

using namespace mlir;

namespace switchyard::moe {

OperandRange AddOp::getLinearOperands() {
  return (*this)->getOperands();
}

OperandRange ScaleOp::getLinearOperands() {
  return (*this)->getOperands();
}

/// Roundings aside.
OperandRange CastOp::getLinearOperands() {
  return (*this)->getOperands();
}

OperandRange SumOp::getLinearOperands() {
  return (*this)->getOperands();
}

OperandRange AccumulateOp::getLinearOperands() {
  return (*this)->getOperands();
}

/// In the weights of the micro-batches; not in the statistics, whose counts and sums it multiplies.
OperandRange LoadBalanceLossOp::getLinearOperands() {
  return (*this)->getOperands().take_front(1);
}

OperandRange LoadBalanceLossGradOp::getLinearOperands() {
  return (*this)->getOperands().slice(1, 1);
}

} // namespace switchyard::moe
