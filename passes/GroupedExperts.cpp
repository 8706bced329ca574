#include "passes/GroupedExperts.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

namespace switchyard::passes {

Value buildGroupedExperts(OpBuilder &builder, Location location, Value rows,
                          const ExpertWeights &weights, Value groupSizes, StringRef activation) {
  Value gateUp = moe::GroupedGemmOp::create(builder, location, rows, weights.gateUp, groupSizes);
  Value hidden = moe::GatedActivationOp::create(builder, location, gateUp, activation);
  return moe::GroupedGemmOp::create(builder, location, hidden, weights.down, groupSizes);
}

} // namespace switchyard::passes
