#include "passes/GroupedExperts.h"
#include "passes/Passes.h"

#include <cmath>
#include <limits>

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_INSERTTOKENEXCHANGE
#include "passes/Passes.h.inc"

namespace {

constexpr double kMaxSlotFactor = 65536;
/// Row indices are 32-bit.
constexpr int64_t kMaxRows = std::numeric_limits<int32_t>::max();
constexpr llvm::StringLiteral kTokens = "T";

/// The gather over "ep" that made a weight of `op` whole; null where its experts are not divided.
dist::AllGatherOp gatherOfExperts(Value weight) {
  auto gather = weight.getDefiningOp<dist::AllGatherOp>();
  bool divides = gather && gather.getAxes().getAxes() == ArrayRef(dist::Axis::Ep) &&
                 gather.getX().getType().getRank() == gather.getY().getType().getRank() &&
                 gather.getX().getType().getRank() > 1;
  return divides ? gather : dist::AllGatherOp();
}

/// Rewrites one moe.experts whose experts are divided over `axes`.
class ExchangeBuilder {
public:
  ExchangeBuilder(moe::ExpertsOp op, ExpertWeights local, dist::AxesAttr axes, int64_t ranks)
      : op_(op), local_(local), axes_(axes), ranks_(ranks), builder_(op), loc_(op.getLoc()) {}

  void rewrite() {
    const int64_t numExperts = cast<RankedTensorType>(op_.getGateUp().getType()).getDimSize(0);
    auto sorted = moe::SortByExpertOp::create(builder_, loc_, op_.getExperts(), numExperts);
    Value rows = moe::PermuteOp::create(builder_, loc_, op_.getX(), sorted.getRowOfSlot());
    auto countsType = RankedTensorType::get({ranks_, numExperts}, builder_.getI32Type());
    Value allCounts =
        dist::AllGatherOp::create(builder_, loc_, countsType, sorted.getGroupSizes(), axes_);
    Value returned = buildRound(rows, allCounts, local_, Value(), Value());
    Value all = buildOverflow(returned, rows, allCounts);
    Value y =
        moe::UnpermuteOp::create(builder_, loc_, all, op_.getWeights(), sorted.getRowOfSlot());
    op_.getResult().replaceAllUsesWith(y);
    op_.erase();
  }

private:
  /// Sends rows, computes, sends back: round 0 where `round` is null. Adds to `into` if given.
  Value buildRound(Value rows, Value allCounts, const ExpertWeights &weights, Value round,
                   Value into) {
    auto exchange = dist::TokenExchangeOp::create(builder_, loc_, rows, allCounts, round, axes_);
    Value computed = buildGroupedExperts(builder_, loc_, exchange.getReceived(), weights,
                                         exchange.getGroupSizes(), op_.getActivation());
    return dist::TokenReturnOp::create(builder_, loc_, rows.getType(), computed, allCounts, round,
                                       into, axes_);
  }

  /// The rounds for the rows that round 0 left.
  Value buildOverflow(Value returned, Value rows, Value allCounts) {
    Value count = dist::OverflowRoundsOp::create(builder_, loc_, allCounts);
    SmallVector<Value> invariants{rows, allCounts, local_.gateUp, local_.down};
    auto loop =
        dist::RoundsOp::create(builder_, loc_, returned.getType(), count, returned, invariants,
                               axes_, dist::KnowerAttr::get(op_.getContext(), dist::Knower::Host));
    SmallVector<Type> types{count.getType(), returned.getType()};
    llvm::append_range(types, ValueRange(invariants).getTypes());
    OpBuilder::InsertionGuard guard(builder_);
    Block *body =
        builder_.createBlock(&loop.getBody(), {}, types, SmallVector<Location>(types.size(), loc_));
    Value next = buildRound(body->getArgument(2), body->getArgument(3),
                            {body->getArgument(4), body->getArgument(5)}, body->getArgument(0),
                            body->getArgument(1));
    dist::YieldOp::create(builder_, loc_, next);
    return loop.getResult(0);
  }

  moe::ExpertsOp op_;
  ExpertWeights local_;
  dist::AxesAttr axes_;
  int64_t ranks_;
  OpBuilder builder_;
  Location loc_;
};

struct InsertTokenExchange : impl::InsertTokenExchangeBase<InsertTokenExchange> {
  using InsertTokenExchangeBase::InsertTokenExchangeBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (!(slotFactor > 0) || slotFactor > kMaxSlotFactor) {
      module.emitError("insert-token-exchange: slot-factor is ")
          << slotFactor << ", expected a number above 0 and at most " << kMaxSlotFactor;
      return signalPassFailure();
    }
    if (failed(insert(module)))
      signalPassFailure();
  }

  LogicalResult insert(ModuleOp module) {
    SmallVector<moe::ExpertsOp> divided;
    WalkResult walk = module.walk([&](moe::ExpertsOp op) {
      dist::AllGatherOp gateUp = gatherOfExperts(op.getGateUp());
      dist::AllGatherOp down = gatherOfExperts(op.getDown());
      if (!gateUp && !down)
        return WalkResult::advance();
      divided.push_back(op);
      if (gateUp && down)
        return WalkResult(checkTokens(op));
      op.emitOpError("has experts that are divided over \"ep\" in ")
          << (gateUp ? "gate_up" : "down") << " and whole in " << (gateUp ? "down" : "gate_up")
          << "; divide both or none";
      return WalkResult::interrupt();
    });
    if (walk.wasInterrupted())
      return failure();
    if (divided.empty())
      return success();
    auto axes = gatherOfExperts(divided.front().getGateUp()).getAxesAttr();
    FailureOr<int64_t> ranks = dist::lookupGroupSize(divided.front(), axes);
    if (failed(ranks) || failed(declareReceived(module, divided, *ranks)))
      return failure();
    for (moe::ExpertsOp op : divided) {
      dist::AllGatherOp gateUp = gatherOfExperts(op.getGateUp());
      dist::AllGatherOp down = gatherOfExperts(op.getDown());
      ExchangeBuilder(op, {gateUp.getX(), down.getX()}, axes, *ranks).rewrite();
      for (dist::AllGatherOp gather : {gateUp, down})
        if (gather->use_empty())
          gather.erase();
    }
    return success();
  }

  /// The rows received follow T, so the tokens must.
  LogicalResult checkTokens(moe::ExpertsOp op) {
    auto type = cast<RankedTensorType>(op.getX().getType());
    auto rows = dyn_cast_if_present<moe::RowsAttr>(type.getEncoding());
    if (rows && rows.getSymbol() == kTokens && rows.getScale() == 1 && rows.getOffset() == 0)
      return success();
    return op.emitOpError("has tokens of the type ")
           << type << "; to be exchanged, their number has to be the symbol \"T\"";
  }

  /// Declares R: how many rows a rank can receive in a round.
  LogicalResult declareReceived(ModuleOp module, ArrayRef<moe::ExpertsOp> divided, int64_t ranks) {
    int64_t topK = 0;
    for (moe::ExpertsOp op : divided)
      topK = std::max(topK, cast<RankedTensorType>(op.getExperts().getType()).getDimSize(1));
    SymbolTable symbols(module);
    auto tokens = symbols.lookup<moe::SymbolOp>(kTokens);
    if (!tokens)
      return module.emitError("insert-token-exchange: the module has no moe.symbol @") << kTokens;
    if (Operation *other = symbols.lookup(dist::kReceivedSymbol))
      return other->emitError("insert-token-exchange: the name @")
             << dist::kReceivedSymbol << " is taken, which is the symbol of the rows received";
    const double rowsPerToken =
        std::min<double>(slotFactor, static_cast<double>(ranks)) * static_cast<double>(topK);
    const double rows = std::ceil(rowsPerToken * static_cast<double>(tokens.getBound()));
    OpBuilder builder(tokens->getContext());
    builder.setInsertionPointAfter(tokens);
    while (isa_and_present<moe::SymbolOp>(&*builder.getInsertionPoint()))
      builder.setInsertionPointAfter(&*builder.getInsertionPoint());
    moe::SymbolOp::create(builder, tokens.getLoc(), dist::kReceivedSymbol,
                          static_cast<int64_t>(std::min<double>(rows, kMaxRows)), IntegerAttr(),
                          builder.getF64FloatAttr(rowsPerToken));
    return success();
  }
};

} // namespace
} // namespace switchyard::passes
