// Routing and experts: inferred types and verifiers.

#include "dialects/moe/Extents.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

namespace switchyard::moe {

void RouterOp::build(OpBuilder &builder, OperationState &state, Value logits, Value microBatchIds,
                     int64_t topK, StringRef score, bool renormalize, Type weightElement,
                     RowsAttr microBatches) {
  Extent tokens = Extent::of(logits, 0), experts = Extent::of(logits, 1);
  Type weights = tensorType({tokens, Extent(topK)}, weightElement);
  Type statistics = tensorType({Extent(microBatches), Extent(2), experts}, builder.getF32Type());
  build(builder, state, TypeRange{weights, withElement(weights, builder.getI32Type()), statistics},
        logits, microBatchIds, topK, score, renormalize);
}

/// Checks that there are at least top_k experts.
template <typename Op>
static LogicalResult verifyTopK(Op op) {
  int64_t experts = op.getLogits().getType().getDimSize(1);
  if (op.getTopK() <= experts)
    return success();
  return op.emitOpError("expects top_k to be at most the number of experts, ")
         << experts << ", but got " << op.getTopK();
}

LogicalResult RouterOp::verify() {
  // router_c4
  if (failed(verifyTopK(*this)))
    return failure();
  ShapeMatcher shapes(*this);
  // router_c1, router_c2, router_c3
  return failure(failed(shapes.match("logits", getLogits(), {"T", "E"})) ||
                 failed(shapes.match("micro_batch_ids", getMicroBatchIds(), {"T"})) ||
                 failed(shapes.match("weights", getWeights(), {"T", Extent(getTopK())})) ||
                 failed(shapes.match("statistics", getStatistics(), {"M", Extent(2), "E"})));
}

LogicalResult RouterGradOp::verify() {
  // router_grad_c5; router_grad_c4 is a trait
  if (failed(verifyTopK(*this)))
    return failure();
  ShapeMatcher shapes(*this);
  // router_grad_c1, router_grad_c2, router_grad_c3
  return failure(failed(shapes.match("logits", getLogits(), {"T", "E"})) ||
                 failed(shapes.match("dweights", getDweights(), {"T", Extent(getTopK())})) ||
                 failed(shapes.match("experts", getExperts(), {"T", Extent(getTopK())})) ||
                 failed(shapes.match("micro_batch_ids", getMicroBatchIds(), {"T"})) ||
                 failed(shapes.match("dstatistics", getDstatistics(), {"M", Extent(2), "E"})));
}

LogicalResult RouterGradRenormalizedOp::verify() {
  // router_grad_renormalized_c1 is a trait
  ShapeMatcher shapes(*this);
  // router_grad_renormalized_c2, router_grad_renormalized_c3
  return failure(failed(shapes.match("weights", getWeights(), {"T", "k"})) ||
                 failed(shapes.match("experts", getExperts(), {"T", "k"})) ||
                 failed(shapes.match("dlogits", getDlogits(), {"T", Extent(getNumExperts())})));
}

LogicalResult ExpertsOp::verify() {
  ShapeMatcher shapes(*this);
  // experts_c1, experts_c2, experts_c3, experts_c4; experts_c6 and experts_c7 are traits
  if (failed(shapes.match("x", getX(), {"T", "D"})) ||
      failed(shapes.match("weights", getWeights(), {"T", "k"})) ||
      failed(shapes.match("experts", getExperts(), {"T", "k"})) ||
      failed(shapes.match("down", getDown(), {"E", "D", "F"})))
    return failure();
  // experts_c5
  return shapes.match("gate_up", getGateUp(), {"E", shapes["F"] * Extent(2), "D"});
}

/// The statistics of all layers against aux_weights [M].
template <typename Op>
static LogicalResult verifyStatistics(Op op) {
  // load_balance_loss_c1, load_balance_loss_grad_c1
  if (op.getStatistics().empty())
    return op.emitOpError("expects the statistics of at least one layer");
  ShapeMatcher shapes(op);
  if (failed(shapes.match("aux_weights", op.getAuxWeights(), {"M"})))
    return failure();
  // load_balance_loss_c2, load_balance_loss_c3, and those of load_balance_loss_grad
  for (auto [layer, statistics] : llvm::enumerate(op.getStatistics()))
    if (failed(
            shapes.match(("statistics " + Twine(layer)).str(), statistics, {"M", Extent(2), "E"})))
      return failure();
  return success();
}

LogicalResult LoadBalanceLossOp::inferReturnTypes(MLIRContext *context,
                                                  std::optional<Location> location, Adaptor op,
                                                  SmallVectorImpl<Type> &types) {
  // load_balance_loss_c4
  Type f32 = Float32Type::get(context);
  types.push_back(RankedTensorType::get({}, f32));
  ValueRange statistics = op.getStatistics();
  Extent experts = statistics.empty() ? Extent() : Extent::of(statistics.front(), 2);
  return inferTensor(location, types, {Extent(statistics.size()), experts}, f32);
}

LogicalResult LoadBalanceLossOp::verify() {
  return verifyStatistics(*this);
}

LogicalResult LoadBalanceLossGradOp::inferReturnTypes(MLIRContext *,
                                                      std::optional<Location> location, Adaptor op,
                                                      SmallVectorImpl<Type> &types) {
  // load_balance_loss_grad_c4
  ValueRange statistics = op.getStatistics();
  if (statistics.empty())
    return emitOptionalError(location, "expects the statistics of at least one layer");
  types.push_back(statistics.front().getType());
  return success();
}

LogicalResult LoadBalanceLossGradOp::verify() {
  return verifyStatistics(*this);
}

LogicalResult SortByExpertOp::inferReturnTypes(MLIRContext *context,
                                               std::optional<Location> location, Adaptor op,
                                               SmallVectorImpl<Type> &types) {
  // sort_by_expert_c1
  if (failed(inferTensor(location, types, {Extent(op.getNumExperts())},
                         IntegerType::get(context, 32))))
    return failure();
  types.push_back(op.getExperts().getType());
  return success();
}

LogicalResult PermuteOp::inferReturnTypes(MLIRContext *, std::optional<Location> location,
                                          Adaptor op, SmallVectorImpl<Type> &types) {
  // permute_c2
  Extent slots = Extent::of(op.getRowOfSlot(), 0) * Extent::of(op.getRowOfSlot(), 1);
  return inferTensor(location, types, {slots, Extent::of(op.getX(), 1)}, elementOf(op.getX()));
}

LogicalResult PermuteOp::verify() {
  // permute_c1
  ShapeMatcher shapes(*this);
  return failure(failed(shapes.match("x", getX(), {"T", "D"})) ||
                 failed(shapes.match("row_of_slot", getRowOfSlot(), {"T", "k"})));
}

LogicalResult PermuteGradOp::inferReturnTypes(MLIRContext *, std::optional<Location> location,
                                              Adaptor op, SmallVectorImpl<Type> &types) {
  // permute_grad_c2
  return inferTensor(location, types,
                     {Extent::of(op.getRowOfSlot(), 0), Extent::of(op.getDrows(), 1)},
                     elementOf(op.getDrows()));
}

LogicalResult PermuteGradOp::verify() {
  // permute_grad_c1
  ShapeMatcher shapes(*this);
  if (failed(shapes.match("row_of_slot", getRowOfSlot(), {"T", "k"})))
    return failure();
  return shapes.match("drows", getDrows(), {shapes["T"] * shapes["k"], "D"});
}

LogicalResult PermuteGradAddOp::verify() {
  ShapeMatcher shapes(*this);
  // permute_grad_add_c1; permute_grad_add_c4 and permute_grad_add_c5 are traits
  if (failed(shapes.match("row_of_slot", getRowOfSlot(), {"T", "k"})) ||
      failed(shapes.match("x", getX(), {"T", "D"})))
    return failure();
  // permute_grad_add_c2, permute_grad_add_c3
  return shapes.match("drows", getDrows(), {shapes["T"] * shapes["k"], "D"});
}

LogicalResult UnpermuteOp::inferReturnTypes(MLIRContext *, std::optional<Location> location,
                                            Adaptor op, SmallVectorImpl<Type> &types) {
  // unpermute_c4
  return inferTensor(location, types,
                     {Extent::of(op.getRowOfSlot(), 0), Extent::of(op.getRows(), 1)},
                     elementOf(op.getRows()));
}

LogicalResult UnpermuteOp::verify() {
  ShapeMatcher shapes(*this);
  // unpermute_c1, unpermute_c2
  if (failed(shapes.match("row_of_slot", getRowOfSlot(), {"T", "k"})) ||
      failed(shapes.match("weights", getWeights(), {"T", "k"})))
    return failure();
  // unpermute_c3
  return shapes.match("rows", getRows(), {shapes["T"] * shapes["k"], "D"});
}

LogicalResult UnpermuteAddOp::verify() {
  ShapeMatcher shapes(*this);
  // unpermute_add_c1, unpermute_add_c2; unpermute_add_c5 and unpermute_add_c6 are traits
  if (failed(shapes.match("row_of_slot", getRowOfSlot(), {"T", "k"})) ||
      failed(shapes.match("weights", getWeights(), {"T", "k"})) ||
      failed(shapes.match("x", getX(), {"T", "D"})))
    return failure();
  // unpermute_add_c3, unpermute_add_c4
  return shapes.match("rows", getRows(), {shapes["T"] * shapes["k"], "D"});
}

LogicalResult UnpermuteGradOp::verify() {
  ShapeMatcher shapes(*this);
  // unpermute_grad_c1, unpermute_grad_c2; unpermute_grad_c5 and unpermute_grad_c6 are traits
  if (failed(shapes.match("row_of_slot", getRowOfSlot(), {"T", "k"})) ||
      failed(shapes.match("weights", getWeights(), {"T", "k"})) ||
      failed(shapes.match("dy", getDy(), {"T", "D"})))
    return failure();
  // unpermute_grad_c3, unpermute_grad_c4
  return shapes.match("rows", getRows(), {shapes["T"] * shapes["k"], "D"});
}

LogicalResult RowsOfTokensOp::inferReturnTypes(MLIRContext *context,
                                               std::optional<Location> location, Adaptor op,
                                               SmallVectorImpl<Type> &types) {
  // rows_of_tokens_c3
  Extent rows = Extent::of(op.getRowOfSlot(), 0) * Extent::of(op.getRowOfSlot(), 1);
  return failure(failed(inferTensor(location, types, {rows}, IntegerType::get(context, 32))) ||
                 failed(inferTensor(location, types, {rows}, elementOf(op.getWeights()))));
}

LogicalResult RowsOfTokensOp::verify() {
  // rows_of_tokens_c1, rows_of_tokens_c2
  ShapeMatcher shapes(*this);
  return failure(failed(shapes.match("row_of_slot", getRowOfSlot(), {"T", "k"})) ||
                 failed(shapes.match("weights", getWeights(), {"T", "k"})));
}

LogicalResult GroupedGemmOp::inferReturnTypes(MLIRContext *, std::optional<Location> location,
                                              Adaptor op, SmallVectorImpl<Type> &types) {
  // grouped_gemm_c4
  return inferTensor(location, types, {Extent::of(op.getX(), 0), Extent::of(op.getW(), 1)},
                     elementOf(op.getX()));
}

LogicalResult GroupedGemmOp::verify() {
  // grouped_gemm_c1, grouped_gemm_c2; grouped_gemm_c3 is a trait
  ShapeMatcher shapes(*this);
  return failure(failed(shapes.match("x", getX(), {"R", "K"})) ||
                 failed(shapes.match("w", getW(), {"E", "N", "K"})) ||
                 failed(shapes.match("group_sizes", getGroupSizes(), {"E"})));
}

LogicalResult GroupedGemmDgradOp::inferReturnTypes(MLIRContext *, std::optional<Location> location,
                                                   Adaptor op, SmallVectorImpl<Type> &types) {
  // grouped_gemm_dgrad_c4
  return inferTensor(location, types, {Extent::of(op.getDy(), 0), Extent::of(op.getW(), 2)},
                     elementOf(op.getDy()));
}

LogicalResult GroupedGemmDgradOp::verify() {
  // grouped_gemm_dgrad_c1, grouped_gemm_dgrad_c2; grouped_gemm_dgrad_c3 is a trait
  ShapeMatcher shapes(*this);
  return failure(failed(shapes.match("dy", getDy(), {"R", "N"})) ||
                 failed(shapes.match("w", getW(), {"E", "N", "K"})) ||
                 failed(shapes.match("group_sizes", getGroupSizes(), {"E"})));
}

void GroupedGemmWgradOp::build(OpBuilder &builder, OperationState &state, Value dy, Value x,
                               Value groupSizes) {
  build(builder, state,
        tensorType({Extent::of(groupSizes, 0), Extent::of(dy, 1), Extent::of(x, 1)},
                   builder.getF32Type()),
        dy, x, groupSizes);
}

/// `dwName` and `dw`: the gradient, or what it is added to.
template <typename Op>
static LogicalResult verifyWgrad(Op op, StringRef dwName, Value dw) {
  // grouped_gemm_wgrad_c1, grouped_gemm_wgrad_c3, grouped_gemm_wgrad_c4 and those of
  // grouped_gemm_wgrad_squared and grouped_gemm_wgrad_accumulate; their others are traits
  ShapeMatcher shapes(op);
  return failure(failed(shapes.match("dy", op.getDy(), {"R", "N"})) ||
                 failed(shapes.match("x", op.getX(), {"R", "K"})) ||
                 failed(shapes.match("group_sizes", op.getGroupSizes(), {"E"})) ||
                 failed(shapes.match(dwName, dw, {"E", "N", "K"})) ||
                 failed(verifySumElement(op, dw, op.getDy())));
}

LogicalResult GroupedGemmWgradOp::verify() {
  return verifyWgrad(*this, "dw", getDw());
}

LogicalResult GroupedGemmWgradSquaredOp::verify() {
  return verifyWgrad(*this, "dw", getDw());
}

LogicalResult GroupedGemmWgradAccumulateOp::verify() {
  return verifyWgrad(*this, "accumulator", getAccumulator());
}

LogicalResult GatedActivationOp::inferReturnTypes(MLIRContext *, std::optional<Location> location,
                                                  Adaptor op, SmallVectorImpl<Type> &types) {
  // gated_activation_c2
  Extent columns = Extent::of(op.getGateUp(), 1);
  Extent half = columns.isStatic() ? Extent(columns.size() / 2) : Extent();
  return inferTensor(location, types, {Extent::of(op.getGateUp(), 0), half},
                     elementOf(op.getGateUp()));
}

LogicalResult GatedActivationOp::verify() {
  // gated_activation_c1
  int64_t columns = getGateUp().getType().getDimSize(1);
  return columns % 2 == 0
             ? success()
             : emitOpError("expects an even number of columns in gate_up, but got ") << columns;
}

/// Half of a static extent; invalid where it is none or odd.
static Extent halfOf(Extent extent) {
  return extent.isStatic() && extent.size() % 2 == 0 ? Extent(extent.size() / 2) : Extent();
}

/// Appends the types of gate_up [R, 2 F] and y [R, F] for `w` [E, 2 F, K].
static LogicalResult inferGated(std::optional<Location> location, Extent rows, Value w,
                                SmallVectorImpl<Type> &types) {
  // grouped_gemm_gated_c3, grouped_gemm_gated_c5, and those of grouped_gemm_gated_gather
  Extent columns = Extent::of(w, 1);
  if (columns.isStatic() && columns.size() % 2 != 0)
    return emitOptionalError(location, "expects an even number of rows in w, but got ",
                             columns.size());
  return failure(failed(inferTensor(location, types, {rows, columns}, elementOf(w))) ||
                 failed(inferTensor(location, types, {rows, halfOf(columns)}, elementOf(w))));
}

LogicalResult GroupedGemmGatedOp::inferReturnTypes(MLIRContext *, std::optional<Location> location,
                                                   Adaptor op, SmallVectorImpl<Type> &types) {
  return inferGated(location, Extent::of(op.getX(), 0), op.getW(), types);
}

LogicalResult GroupedGemmGatedOp::verify() {
  // grouped_gemm_gated_c1, grouped_gemm_gated_c2; grouped_gemm_gated_c4 is a trait
  ShapeMatcher shapes(*this);
  return failure(failed(shapes.match("x", getX(), {"R", "K"})) ||
                 failed(shapes.match("w", getW(), {"E", "N", "K"})) ||
                 failed(shapes.match("group_sizes", getGroupSizes(), {"E"})));
}

LogicalResult GroupedGemmDgradGatedOp::inferReturnTypes(MLIRContext *,
                                                        std::optional<Location> location,
                                                        Adaptor op, SmallVectorImpl<Type> &types) {
  // grouped_gemm_dgrad_gated_c5
  types.push_back(op.getGateUp().getType());
  return inferTensor(location, types, {Extent::of(op.getGateUp(), 0), Extent::of(op.getW(), 2)},
                     elementOf(op.getGateUp()));
}

LogicalResult GroupedGemmDgradGatedOp::verify() {
  ShapeMatcher shapes(*this);
  // grouped_gemm_dgrad_gated_c1, grouped_gemm_dgrad_gated_c2; grouped_gemm_dgrad_gated_c4 is a
  // trait
  if (failed(shapes.match("dy", getDy(), {"R", "N"})) ||
      failed(shapes.match("w", getW(), {"E", "N", "F"})) ||
      failed(shapes.match("group_sizes", getGroupSizes(), {"E"})))
    return failure();
  // grouped_gemm_dgrad_gated_c3
  return shapes.match("gate_up", getGateUp(), {"R", shapes["F"] * Extent(2)});
}

LogicalResult GatedActivationGradOp::verify() {
  ShapeMatcher shapes(*this);
  // gated_activation_grad_c1, gated_activation_grad_c2; the rest are traits
  if (failed(shapes.match("dy", getDy(), {"R", "F"})))
    return failure();
  return shapes.match("gate_up", getGateUp(), {"R", shapes["F"] * Extent(2)});
}

LogicalResult GroupedGemmGatedGatherOp::inferReturnTypes(MLIRContext *,
                                                         std::optional<Location> location,
                                                         Adaptor op, SmallVectorImpl<Type> &types) {
  return inferGated(location, Extent::of(op.getTokenOfRow(), 0), op.getW(), types);
}

LogicalResult GroupedGemmGatedGatherOp::verify() {
  // grouped_gemm_gated_gather_c1, grouped_gemm_gated_gather_c2; grouped_gemm_gated_gather_c4 is a
  // trait
  ShapeMatcher shapes(*this);
  return failure(failed(shapes.match("x", getX(), {"T", "K"})) ||
                 failed(shapes.match("w", getW(), {"E", "N", "K"})) ||
                 failed(shapes.match("group_sizes", getGroupSizes(), {"E"})));
}

/// Appends the types of dgate_up, y [R, F] and dweights [T, k] for the operands of `op`.
template <typename Adaptor>
static LogicalResult inferWeightedDgradGated(std::optional<Location> location, Adaptor op,
                                             SmallVectorImpl<Type> &types) {
  // grouped_gemm_dgrad_gated_gather_c6, grouped_gemm_dgrad_gated_weighted_c5
  Value slots = op.getRowOfSlot(), gateUp = op.getGateUp();
  types.push_back(gateUp.getType());
  return failure(
      failed(inferTensor(location, types, {Extent::of(gateUp, 0), Extent::of(op.getW(), 2)},
                         elementOf(gateUp))) ||
      failed(inferTensor(location, types, {Extent::of(slots, 0), Extent::of(slots, 1)},
                         elementOf(op.getWeightOfRow()))));
}

LogicalResult GroupedGemmDgradGatedGatherOp::inferReturnTypes(MLIRContext *,
                                                              std::optional<Location> location,
                                                              Adaptor op,
                                                              SmallVectorImpl<Type> &types) {
  return inferWeightedDgradGated(location, op, types);
}

LogicalResult GroupedGemmDgradGatedGatherOp::verify() {
  ShapeMatcher shapes(*this);
  // grouped_gemm_dgrad_gated_gather_c1, grouped_gemm_dgrad_gated_gather_c2 and
  // grouped_gemm_dgrad_gated_gather_c3; grouped_gemm_dgrad_gated_gather_c5 is a trait
  if (failed(shapes.match("dy", getDy(), {"T", "N"})) ||
      failed(shapes.match("row_of_slot", getRowOfSlot(), {"T", "k"})) ||
      failed(shapes.match("w", getW(), {"E", "N", "F"})) ||
      failed(shapes.match("group_sizes", getGroupSizes(), {"E"})))
    return failure();
  // grouped_gemm_dgrad_gated_gather_c4
  return failure(failed(shapes.match("token_of_row", getTokenOfRow(), {"R"})) ||
                 failed(shapes.match("weight_of_row", getWeightOfRow(), {"R"})) ||
                 failed(shapes.match("gate_up", getGateUp(), {"R", shapes["F"] * Extent(2)})));
}

LogicalResult GroupedGemmDgradGatedWeightedOp::inferReturnTypes(MLIRContext *,
                                                                std::optional<Location> location,
                                                                Adaptor op,
                                                                SmallVectorImpl<Type> &types) {
  return inferWeightedDgradGated(location, op, types);
}

LogicalResult GroupedGemmDgradGatedWeightedOp::verify() {
  ShapeMatcher shapes(*this);
  // grouped_gemm_dgrad_gated_weighted_c1, grouped_gemm_dgrad_gated_weighted_c2;
  // grouped_gemm_dgrad_gated_weighted_c4 is a trait
  if (failed(shapes.match("dy", getDy(), {"R", "N"})) ||
      failed(shapes.match("row_of_slot", getRowOfSlot(), {"T", "k"})) ||
      failed(shapes.match("w", getW(), {"E", "N", "F"})) ||
      failed(shapes.match("group_sizes", getGroupSizes(), {"E"})))
    return failure();
  // grouped_gemm_dgrad_gated_weighted_c3
  return failure(failed(shapes.match("weight_of_row", getWeightOfRow(), {"R"})) ||
                 failed(shapes.match("gate_up", getGateUp(), {"R", shapes["F"] * Extent(2)})));
}

/// dy [`rowsOfDy`, N] and x [`rowsOfX`, K], one of them by its tokens "T", against `sum` [E, N, K].
template <typename Op>
static LogicalResult verifyGatheredWgrad(Op op, const char *rowsOfDy, const char *rowsOfX,
                                         const char *name, Value sum) {
  // grouped_gemm_wgrad_gather_x_c1, grouped_gemm_wgrad_gather_x_c3, grouped_gemm_wgrad_gather_x_c4
  // and those of grouped_gemm_wgrad_gather_dy and of both that accumulate; their other ones are
  // traits
  ShapeMatcher shapes(op);
  return failure(failed(shapes.match("token_of_row", op.getTokenOfRow(), {"R"})) ||
                 failed(shapes.match("dy", op.getDy(), {rowsOfDy, "N"})) ||
                 failed(shapes.match("x", op.getX(), {rowsOfX, "K"})) ||
                 failed(shapes.match("group_sizes", op.getGroupSizes(), {"E"})) ||
                 failed(shapes.match(name, sum, {"E", "N", "K"})) ||
                 failed(verifySumElement(op, sum, op.getDy())));
}

LogicalResult GroupedGemmWgradGatherXOp::verify() {
  return verifyGatheredWgrad(*this, "R", "T", "dw", getDw());
}

LogicalResult GroupedGemmWgradGatherDyOp::verify() {
  return verifyGatheredWgrad(*this, "T", "R", "dw", getDw());
}

LogicalResult GroupedGemmWgradGatherXAccumulateOp::verify() {
  return verifyGatheredWgrad(*this, "R", "T", "accumulator", getAccumulator());
}

LogicalResult GroupedGemmWgradGatherDyAccumulateOp::verify() {
  return verifyGatheredWgrad(*this, "T", "R", "accumulator", getAccumulator());
}

} // namespace switchyard::moe
