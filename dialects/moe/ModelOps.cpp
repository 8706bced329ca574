// The dense part of a model: inferred types and verifiers.

#include "dialects/moe/Heads.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

namespace switchyard::moe {

LogicalResult EmbeddingOp::inferReturnTypes(MLIRContext *, std::optional<Location> location,
                                            Adaptor op, SmallVectorImpl<Type> &types) {
  // embedding_c1
  return inferTensor(location, types, {Extent::of(op.getIds(), 0), Extent::of(op.getTable(), 1)},
                     elementOf(op.getTable()));
}

LogicalResult LinearOp::inferReturnTypes(MLIRContext *, std::optional<Location> location,
                                         Adaptor op, SmallVectorImpl<Type> &types) {
  // linear_c3
  return inferTensor(location, types, {Extent::of(op.getX(), 0), Extent::of(op.getW(), 0)},
                     elementOf(op.getX()));
}

LogicalResult LinearOp::verify() {
  // linear_c1; linear_c2 is a trait
  ShapeMatcher shapes(*this);
  return failure(failed(shapes.match("x", getX(), {"T", "K"})) ||
                 failed(shapes.match("w", getW(), {"N", "K"})));
}

LogicalResult RmsNormOp::verify() {
  // rms_norm_c1; rms_norm_c2 and rms_norm_c3 are traits
  ShapeMatcher shapes(*this);
  return failure(failed(shapes.match("x", getX(), {"T", "D"})) ||
                 failed(shapes.match("w", getW(), {"D"})));
}

LogicalResult QkNormOp::verify() {
  // qk_norm_c6; qk_norm_c3 and qk_norm_c4 are traits
  if (failed(verifyHeadGroups(*this)))
    return failure();
  HeadExtents heads = headExtents(*this);
  ShapeMatcher shapes(*this);
  // qk_norm_c1, qk_norm_c2
  return failure(failed(shapes.match("qkv", getQkv(), {"T", heads.packed()})) ||
                 failed(shapes.match("q_weight", getQWeight(), {heads.query})) ||
                 failed(shapes.match("k_weight", getKWeight(), {heads.key})));
}

LogicalResult RotaryOp::verify() {
  // rotary_c5; rotary_c3 is a trait
  if (failed(verifyHeadGroups(*this)))
    return failure();
  // rotary_c6
  if (getHeadDim() % 2 != 0)
    return emitOpError("expects an even head_dim, but got ") << getHeadDim();
  ShapeMatcher shapes(*this);
  // rotary_c1, rotary_c2
  return failure(failed(shapes.match("qkv", getQkv(), {"T", headExtents(*this).packed()})) ||
                 failed(shapes.match("position_ids", getPositionIds(), {"T"})));
}

LogicalResult AttentionOp::inferReturnTypes(MLIRContext *context, std::optional<Location> location,
                                            Adaptor op, SmallVectorImpl<Type> &types) {
  // attention_c2
  Extent tokens = Extent::of(op.getQkv(), 0);
  return failure(failed(inferTensor(location, types, {tokens, headExtents(op).query},
                                    elementOf(op.getQkv()))) ||
                 failed(inferTensor(location, types, {tokens, Extent(op.getNumHeads())},
                                    Float32Type::get(context))));
}

LogicalResult AttentionOp::verify() {
  // attention_c4
  if (failed(verifyHeadGroups(*this)))
    return failure();
  // attention_c1
  return ShapeMatcher(*this).match("qkv", getQkv(), {"T", headExtents(*this).packed()});
}

LogicalResult LinearCrossEntropyOp::verify() {
  // linear_cross_entropy_c1, linear_cross_entropy_c2; linear_cross_entropy_c3 is a trait
  ShapeMatcher shapes(*this);
  return failure(failed(shapes.match("x", getX(), {"T", "D"})) ||
                 failed(shapes.match("w", getW(), {"V", "D"})) ||
                 failed(shapes.match("labels", getLabels(), {"T"})) ||
                 failed(shapes.match("loss_weights", getLossWeights(), {"T"})));
}

LogicalResult SumOp::verify() {
  // sum_c1
  return getTerms().empty() ? emitOpError("expects at least one term") : success();
}

LogicalResult GatherRowsOp::inferReturnTypes(MLIRContext *, std::optional<Location> location,
                                             Adaptor op, SmallVectorImpl<Type> &types) {
  // gather_rows_c1
  return inferTensor(location, types, {Extent::of(op.getRows(), 0), Extent::of(op.getX(), 1)},
                     elementOf(op.getX()));
}

} // namespace switchyard::moe
