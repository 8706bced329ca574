// Vector-Jacobian products: what each differentiable op becomes in reverse. The loss is the sum
// over all ranks of what their programs yield; the cotangent of a value on a rank is the derivative
// of that sum by this rank's copy of the value (README.md).

#include "dialects/dist/Dist.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;

namespace switchyard::dist {

static Type elementOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getElementType();
}

SmallVector<Value> AllGatherOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  Type part = moe::withElement(getX().getType(), elementOf(cotangents[0]));
  return {ReduceScatterOp::create(builder, getLoc(), part, cotangents[0], getAxesAttr())};
}

SmallVector<Value> ReduceScatterOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  Type whole = moe::withElement(getX().getType(), elementOf(cotangents[0]));
  return {AllGatherOp::create(builder, getLoc(), whole, cotangents[0], getAxesAttr())};
}

SmallVector<Value> AllReduceOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  if (getReduction() != Reduction::Sum) {
    emitOpError("has no derivative by a ")
        << stringifyReduction(getReduction()) << ", but the loss depends on it";
    return {};
  }
  return {AllReduceOp::create(builder, getLoc(), cotangents[0], getAxesAttr(), getReductionAttr())};
}

SmallVector<Value> ReplicateOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  auto sum = ReductionAttr::get(getContext(), Reduction::Sum);
  return {AllReduceOp::create(builder, getLoc(), cotangents[0], getAxesAttr(), sum)};
}

SmallVector<Value> TokenExchangeOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  SmallVector<Value> results(getNumOperands());
  results[0] = TokenReturnOp::create(builder, getLoc(), getRows().getType(), cotangents[0],
                                     getAllCounts(), getRound(), Value(), getAxesAttr());
  return results;
}

SmallVector<Value> TokenReturnOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  SmallVector<Value> results(getNumOperands());
  auto exchange = TokenExchangeOp::create(builder, getLoc(), cotangents[0], getAllCounts(),
                                          getRound(), getAxesAttr());
  results.front() = exchange.getReceived();
  if (getInto())
    results.back() = cotangents[0];
  return results;
}

namespace {

/// The reverse of a dist.rounds, as a body with the arguments
///
///     round, sums of cotangents of the values of `with`, values of `with`, cotangents of the
///     results
///
/// that computes what the forward body does, once more, then its reverse.
class ReverseRounds {
public:
  ReverseRounds(RoundsOp forward, ValueRange cotangents)
      : forward_(forward), cotangents_(cotangents), block_(new Block()), builder_(forward) {
    region_.push_back(block_);
    builder_.setInsertionPointToEnd(block_);
  }

  /// The cotangents of the values of `with`, from a loop built at `builder`. Fails with a
  /// diagnostic.
  FailureOr<SmallVector<Value>> build(OpBuilder &builder) {
    recompute();
    seed();
    for (Operation *op : llvm::reverse(recomputed_))
      if (failed(visit(op)))
        return failure();
    return makeLoop(builder);
  }

private:
  /// Clones the forward body. It adds to zeros instead of the carried values: what it carries is
  /// not needed, and goes as dead code.
  void recompute() {
    block_->addArgument(forward_.getCount().getType(), forward_.getLoc());
    mapping_.map(forward_.getRoundArgument(), block_->getArgument(0));
    for (BlockArgument argument : forward_.getInvariantArguments()) {
      invariants_.push_back(block_->addArgument(argument.getType(), argument.getLoc()));
      mapping_.map(argument, invariants_.back());
    }
    for (BlockArgument argument : forward_.getCarriedArguments())
      mapping_.map(argument,
                   moe::ConstantOp::create(builder_, argument.getLoc(), argument.getType(), 0.0));
    for (Operation &op : forward_.getBody().front().without_terminator())
      recomputed_.push_back(builder_.clone(op, mapping_));
  }

  /// The cotangents of what a round yields are those of the results: each round adds to them.
  void seed() {
    for (auto [yielded, cotangent] :
         llvm::zip_equal(forward_.getYield().getValues(), cotangents_)) {
      if (!cotangent)
        continue;
      seeds_.push_back(cotangent);
      Value inside = block_->addArgument(cotangent.getType(), cotangent.getLoc());
      add(forward_.getLoc(), mapping_.lookup(yielded), inside);
    }
  }

  LogicalResult visit(Operation *op) {
    SmallVector<Value> cotangents;
    for (Value result : op->getResults())
      cotangents.push_back(sums_.lookup(result));
    if (op->getNumOperands() == 0 || llvm::none_of(cotangents, [](Value v) { return !!v; }))
      return success();
    auto differentiable = dyn_cast<DifferentiableOpInterface>(op);
    if (!differentiable)
      return op->emitOpError("is in the body of a dist.rounds on the way from the loss to the "
                             "parameters, but has no vector-Jacobian product");
    SmallVector<Value> products = differentiable.buildVjp(builder_, cotangents);
    if (products.size() != op->getNumOperands())
      return failure();
    for (auto [operand, product] : llvm::zip_equal(op->getOperands(), products))
      if (product)
        add(op->getLoc(), operand, product);
    return success();
  }

  void add(Location location, Value value, Value term) {
    Value &sum = sums_[value];
    sum = sum ? moe::AddOp::create(builder_, location, sum, term) : term;
  }

  /// Erases what the reverse does not use of the ops recomputed.
  void eraseDead() {
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(*block_)))
      if (isOpTriviallyDead(&op))
        op.erase();
  }

  /// Adds the yield and the arguments for what is carried, and makes the op.
  SmallVector<Value> makeLoop(OpBuilder &builder) {
    Location location = forward_.getLoc();
    SmallVector<Value> results(invariants_.size()), zeros, yielded;
    SmallVector<unsigned> places;
    for (auto [place, argument] : llvm::enumerate(invariants_)) {
      Value cotangent = sums_.lookup(argument);
      if (!cotangent)
        continue;
      places.push_back(place);
      zeros.push_back(moe::ConstantOp::create(builder, location, cotangent.getType(), 0.0));
      Value sum = block_->insertArgument(places.size(), cotangent.getType(), location);
      yielded.push_back(moe::AccumulateOp::create(builder_, location, sum, cotangent));
    }
    if (places.empty())
      return results;
    YieldOp::create(builder_, location, yielded);
    eraseDead();

    SmallVector<Value> inputs(forward_.getInvariants());
    inputs.append(seeds_);
    for (unsigned i = inputs.size(); i-- > 0;) {
      unsigned argument = 1 + zeros.size() + i;
      if (!block_->getArgument(argument).use_empty())
        continue;
      block_->eraseArgument(argument);
      inputs.erase(inputs.begin() + i);
    }
    auto loop =
        RoundsOp::create(builder, location, ValueRange(zeros).getTypes(), forward_.getCount(),
                         zeros, inputs, forward_.getAxesAttr(), forward_.getKnownAttr());
    loop.getBody().takeBody(region_);
    for (auto [place, result] : llvm::zip_equal(places, loop.getResults()))
      results[place] = result;
    return results;
  }

  RoundsOp forward_;
  ValueRange cotangents_; // of the results; null where the loss does not depend on one
  Region region_;
  Block *block_; // the region's
  OpBuilder builder_;
  IRMapping mapping_;
  SmallVector<BlockArgument> invariants_;
  SmallVector<Operation *> recomputed_;
  SmallVector<Value> seeds_;
  DenseMap<Value, Value> sums_; // of what has reached a value inside
};

} // namespace

SmallVector<Value> RoundsOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  FailureOr<SmallVector<Value>> products = ReverseRounds(*this, cotangents).build(builder);
  if (failed(products))
    return {};
  SmallVector<Value> results{Value()};
  llvm::append_range(results, cotangents);
  llvm::append_range(results, *products);
  return results;
}

} // namespace switchyard::dist
