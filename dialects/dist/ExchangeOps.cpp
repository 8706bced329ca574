// The exchange of tokens: inferred types, verifiers, canonicalization.

#include "dialects/dist/Dist.h"
#include "dialects/moe/Extents.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using switchyard::moe::Extent;

namespace switchyard::dist {

/// The extent of the rows that a rank receives.
static Extent receivedRows(MLIRContext *context) {
  return Extent(moe::RowsAttr::get(context, kReceivedSymbol));
}

/// Checks that the experts of all_counts [n, E] are evenly divided among n ranks.
static LogicalResult verifyCounts(Operation *op, Value allCounts) {
  auto type = cast<RankedTensorType>(allCounts.getType());
  int64_t ranks = type.getDimSize(0), experts = type.getDimSize(1);
  // token_exchange_c2, token_return_c2, overflow_rounds_c1
  if (ranks > 0 && experts % ranks == 0)
    return success();
  return op->emitOpError("expects all_counts [n, E] with n ranks among which E experts can be "
                         "divided evenly, but got ")
         << type;
}

/// Checks that the module declares how many rows a rank can receive.
static LogicalResult verifyReceivedSymbol(Operation *op, SymbolTableCollection &symbols) {
  // token_exchange_c3, token_return_c3, overflow_rounds_c2
  auto name = StringAttr::get(op->getContext(), kReceivedSymbol);
  if (symbols.lookupNearestSymbolFrom<moe::SymbolOp>(op, name))
    return success();
  return op->emitOpError("needs the bound of the rows received, but the module has no moe.symbol @")
         << kReceivedSymbol;
}

template <typename Op>
static LogicalResult verifyExchange(Op op, SymbolTableCollection &symbols) {
  // token_exchange_c1, token_return_c1
  FailureOr<int64_t> ranks = lookupGroupSize(op, op.getAxesAttr(), &symbols);
  if (failed(ranks))
    return failure();
  // token_exchange_c2, token_return_c2
  if (op.getAllCounts().getType().getDimSize(0) != *ranks)
    return op.emitOpError("expects the counts of ")
           << *ranks << " ranks, those of a group, but all_counts is "
           << op.getAllCounts().getType();
  return verifyReceivedSymbol(op, symbols);
}

LogicalResult TokenExchangeOp::inferReturnTypes(MLIRContext *context,
                                                std::optional<Location> location, Adaptor op,
                                                SmallVectorImpl<Type> &types) {
  // token_exchange_c4
  if (failed(moe::inferTensor(location, types, {receivedRows(context), Extent::of(op.getRows(), 1)},
                              moe::elementOf(op.getRows()))))
    return failure();
  Extent ranks = Extent::of(op.getAllCounts(), 0), experts = Extent::of(op.getAllCounts(), 1);
  // Where there are no ranks the verifier, which runs later, says so.
  bool isDivided = ranks.isStatic() && experts.isStatic() && ranks.size() > 0;
  return moe::inferTensor(location, types,
                          {isDivided ? Extent(experts.size() / ranks.size()) : Extent(0)},
                          IntegerType::get(context, 32));
}

LogicalResult TokenExchangeOp::verify() {
  return verifyCounts(*this, getAllCounts());
}

LogicalResult TokenExchangeOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyExchange(*this, symbols);
}

LogicalResult TokenReturnOp::verify() {
  if (failed(verifyCounts(*this, getAllCounts())))
    return failure();
  // token_return_c4; token_return_c5 is a trait
  moe::ShapeMatcher shapes(*this);
  if (failed(shapes.match("rows", getRows(), {receivedRows(getContext()), "D"})) ||
      failed(shapes.match("returned", getReturned(), {"A", "D"})))
    return failure();
  if (moe::elementOf(getRows()) != moe::elementOf(getReturned()))
    return emitOpError("returns elements of ")
           << moe::elementOf(getReturned()) << " where rows are of " << moe::elementOf(getRows());
  if (isOverReceivedRows(getReturned().getType()))
    return emitOpError("returns rows over \"")
           << kReceivedSymbol << "\", where those that were sent are expected";
  return success();
}

LogicalResult TokenReturnOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyExchange(*this, symbols);
}

LogicalResult OverflowRoundsOp::verify() {
  return verifyCounts(*this, getAllCounts());
}

LogicalResult OverflowRoundsOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyReceivedSymbol(*this, symbols);
}

/// Replaces `sum`, of `other` and `returned`, by a token_return into `other`: no second tensor of
/// all rows is needed.
static LogicalResult returnInto(Operation *sum, Value other, Value returned,
                                PatternRewriter &rewriter) {
  auto op = returned.getDefiningOp<TokenReturnOp>();
  if (!op || op.getInto() || !op->hasOneUse() || op->getBlock() != sum->getBlock() ||
      other.getType() != returned.getType())
    return failure();
  rewriter.replaceOpWithNewOp<TokenReturnOp>(sum, returned.getType(), op.getRows(),
                                             op.getAllCounts(), op.getRound(), other,
                                             op.getAxesAttr());
  rewriter.eraseOp(op);
  return success();
}

/// add(x, token_return(...)) is token_return(... into x).
struct ReturnIntoSum : OpRewritePattern<moe::AddOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(moe::AddOp add, PatternRewriter &rewriter) const override {
    if (succeeded(returnInto(add, add.getA(), add.getB(), rewriter)))
      return success();
    return returnInto(add, add.getB(), add.getA(), rewriter);
  }
};

/// So is accumulate(x, token_return(...)), of elements of one type.
struct ReturnIntoAccumulator : OpRewritePattern<moe::AccumulateOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(moe::AccumulateOp op, PatternRewriter &rewriter) const override {
    return returnInto(op, op.getAccumulator(), op.getValue(), rewriter);
  }
};

void TokenReturnOp::getCanonicalizationPatterns(RewritePatternSet &patterns, MLIRContext *context) {
  patterns.add<ReturnIntoSum, ReturnIntoAccumulator>(context);
}

} // namespace switchyard::dist
