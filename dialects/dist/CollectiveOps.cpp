// Collectives over states and sums: their verification.

#include "dialects/dist/Dist.h"

using namespace mlir;

namespace switchyard::dist {

/// Checks that `whole` is what n ranks' `part`s make up: the part its flat shard, or the whole n of
/// the parts, stacked or joined along dimension 0.
static LogicalResult verifyParts(Operation *op, AxesAttr axes, SymbolTableCollection &symbols,
                                 RankedTensorType part, RankedTensorType whole) {
  // all_gather_c1, reduce_scatter_c1
  FailureOr<int64_t> ranks = lookupGroupSize(op, axes, &symbols);
  if (failed(ranks))
    return failure();
  // all_gather_c3, reduce_scatter_c3
  if (whole.getRank() == part.getRank() + 1 && whole.getDimSize(0) == *ranks &&
      whole.getShape().drop_front() == part.getShape())
    return success();
  if (part.getRank() > 0 && whole.getRank() == part.getRank() &&
      whole.getDimSize(0) == *ranks * part.getDimSize(0) &&
      whole.getShape().drop_front() == part.getShape().drop_front())
    return success();
  std::optional<int64_t> elements = elementCount(whole);
  if (!elements)
    return op->emitOpError("has more than 2^40 elements in ") << whole;
  int64_t shard = flatShardElements(*elements, *ranks);
  if (part.getRank() == 1 && part.getDimSize(0) == shard)
    return success();
  return op->emitOpError("expects a part of ")
         << whole << " on each of " << *ranks << " ranks: a flat shard of " << shard
         << " elements, or slice i of dimension 0 on rank i, or the i-th of " << *ranks
         << " equal parts of dimension 0; but the part is " << part;
}

LogicalResult AllGatherOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyParts(*this, getAxesAttr(), symbols, getX().getType(), getY().getType());
}

LogicalResult ReduceScatterOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyParts(*this, getAxesAttr(), symbols, getY().getType(), getX().getType());
}

/// Checks that the ranks of a group have equally many rows.
template <typename Op>
static LogicalResult verifyAlike(Op op, SymbolTableCollection &symbols) {
  // all_reduce_c1, replicate_c1
  if (failed(lookupGroupSize(op, op.getAxesAttr(), &symbols)))
    return failure();
  // all_reduce_c3, replicate_c3
  if (isOverReceivedRows(op.getX().getType()))
    return op.emitOpError("has rows over \"")
           << kReceivedSymbol << "\", whose number differs between ranks: " << op.getX().getType();
  return success();
}

LogicalResult AllReduceOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyAlike(*this, symbols);
}

LogicalResult ReplicateOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyAlike(*this, symbols);
}

} // namespace switchyard::dist
