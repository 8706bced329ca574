// Gradients of the dense part of a model: inferred types and verifiers.

#include "dialects/moe/Heads.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

namespace switchyard::moe {

LogicalResult EmbeddingGradOp::inferReturnTypes(MLIRContext *context,
                                                std::optional<Location> location, Adaptor op,
                                                SmallVectorImpl<Type> &types) {
  // embedding_grad_c2
  return inferTensor(location, types, {Extent(op.getNumEmbeddings()), Extent::of(op.getDy(), 1)},
                     Float32Type::get(context));
}

LogicalResult EmbeddingGradOp::verify() {
  // embedding_grad_c1
  ShapeMatcher shapes(*this);
  return failure(failed(shapes.match("dy", getDy(), {"T", "D"})) ||
                 failed(shapes.match("ids", getIds(), {"T"})));
}

LogicalResult LinearDgradOp::inferReturnTypes(MLIRContext *, std::optional<Location> location,
                                              Adaptor op, SmallVectorImpl<Type> &types) {
  // linear_dgrad_c3
  return inferTensor(location, types, {Extent::of(op.getDy(), 0), Extent::of(op.getW(), 1)},
                     elementOf(op.getDy()));
}

LogicalResult LinearDgradOp::verify() {
  // linear_dgrad_c1; linear_dgrad_c2 is a trait
  ShapeMatcher shapes(*this);
  return failure(failed(shapes.match("dy", getDy(), {"T", "N"})) ||
                 failed(shapes.match("w", getW(), {"N", "K"})));
}

void LinearWgradOp::build(OpBuilder &builder, OperationState &state, Value dy, Value x) {
  build(builder, state, tensorType({Extent::of(dy, 1), Extent::of(x, 1)}, builder.getF32Type()), dy,
        x);
}

LogicalResult LinearWgradOp::verify() {
  // linear_wgrad_c1, linear_wgrad_c3, linear_wgrad_c4; linear_wgrad_c2 is a trait
  ShapeMatcher shapes(*this);
  return failure(failed(shapes.match("dy", getDy(), {"T", "N"})) ||
                 failed(shapes.match("x", getX(), {"T", "K"})) ||
                 failed(shapes.match("dw", getDw(), {"N", "K"})) ||
                 failed(verifySumElement(*this, getDw(), getDy())));
}

LogicalResult RmsNormGradOp::verify() {
  // rms_norm_grad_c1; rms_norm_grad_c2, rms_norm_grad_c3 and rms_norm_grad_c4 are traits
  ShapeMatcher shapes(*this);
  return failure(failed(shapes.match("x", getX(), {"T", "D"})) ||
                 failed(shapes.match("w", getW(), {"D"})));
}

LogicalResult QkNormGradOp::verify() {
  // qk_norm_grad_c7; qk_norm_grad_c3, qk_norm_grad_c4 and qk_norm_grad_c5 are traits
  if (failed(verifyHeadGroups(*this)))
    return failure();
  HeadExtents heads = headExtents(*this);
  ShapeMatcher shapes(*this);
  // qk_norm_grad_c1, qk_norm_grad_c2
  return failure(failed(shapes.match("qkv", getQkv(), {"T", heads.packed()})) ||
                 failed(shapes.match("q_weight", getQWeight(), {heads.query})) ||
                 failed(shapes.match("k_weight", getKWeight(), {heads.key})));
}

LogicalResult AttentionGradOp::verify() {
  // attention_grad_c7; attention_grad_c3, attention_grad_c4 and attention_grad_c5 are traits
  if (failed(verifyHeadGroups(*this)))
    return failure();
  HeadExtents heads = headExtents(*this);
  ShapeMatcher shapes(*this);
  // attention_grad_c1, attention_grad_c2
  return failure(failed(shapes.match("qkv", getQkv(), {"T", heads.packed()})) ||
                 failed(shapes.match("y", getY(), {"T", heads.query})) ||
                 failed(shapes.match("lse", getLse(), {"T", Extent(getNumHeads())})));
}

LogicalResult LinearCrossEntropyGradOp::verify() {
  // linear_cross_entropy_grad_c1, linear_cross_entropy_grad_c2; the next three are traits
  ShapeMatcher shapes(*this);
  return failure(failed(shapes.match("x", getX(), {"T", "D"})) ||
                 failed(shapes.match("w", getW(), {"V", "D"})) ||
                 failed(shapes.match("labels", getLabels(), {"T"})) ||
                 failed(shapes.match("loss_weights", getLossWeights(), {"T"})));
}

} // namespace switchyard::moe
