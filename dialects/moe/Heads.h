// What ops over packed rows [q | k | v] have in common.
#pragma once

#include "dialects/moe/Extents.h"

namespace switchyard::moe {

/// The columns of the queries, and of the keys or the values.
struct HeadExtents {
  Extent query, key;
  Extent packed() const { return query + key * Extent(2); }
};

/// Of an op, or of its adaptor, that has num_heads, num_kv_heads and head_dim.
template <typename Op>
HeadExtents headExtents(Op op) {
  Extent size(op.getHeadDim());
  return {Extent(op.getNumHeads()) * size, Extent(op.getNumKvHeads()) * size};
}

/// Checks that each key and value head serves equally many query heads.
template <typename Op>
mlir::LogicalResult verifyHeadGroups(Op op) {
  if (op.getNumHeads() % op.getNumKvHeads() == 0)
    return mlir::success();
  return op.emitOpError("expects num_heads to be a multiple of num_kv_heads, but got ")
         << op.getNumHeads() << " and " << op.getNumKvHeads();
}

} // namespace switchyard::moe
