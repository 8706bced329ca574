#include "passes/AxisFlow.h"

#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

using namespace mlir;

namespace switchyard::passes {

namespace {

bool isZero(Operation *op) {
  FloatAttr value;
  return matchPattern(op, m_Constant(&value)) && value.getValue().isZero();
}

/// The bit of `axis` in AxisKinds::chosen; none for integers, which are never summed terms.
unsigned chosenBit(Value value, dist::Axis axis) {
  bool isFloat = isa<FloatType>(getElementTypeOrSelf(value));
  return isFloat ? 1u << static_cast<unsigned>(axis) : 0;
}

/// Whether `part` can be a flat shard of `whole`.
bool isFlatShard(RankedTensorType part, RankedTensorType whole, int64_t ranks) {
  std::optional<int64_t> elements = dist::elementCount(whole);
  return elements && part.getRank() == 1 &&
         part.getDimSize(0) == dist::flatShardElements(*elements, ranks);
}

/// Whether rows are tokens: row t of one rank has nothing to do with row t of another.
bool isOverTokens(Type type) {
  auto rows = dyn_cast_if_present<moe::RowsAttr>(cast<RankedTensorType>(type).getEncoding());
  return rows && rows.getSymbol() == "T";
}

} // namespace

InFlightDiagnostic AxisFlow::refuse(Operation *op, dist::Axis axis) const {
  return op->emitOpError("for ") << subjectOf(op) << " over \"" << dist::stringifyAxis(axis)
                                 << "\": ";
}

LogicalResult AxisFlow::run(func::FuncOp program, AxisKind inputs) {
  const bool isUpdate = isAlike(inputs);
  if (!program.getBody().hasOneBlock())
    return program.emitOpError("expects one block");
  for (BlockArgument argument : program.getArguments()) {
    AxisKinds &kinds = kinds_[argument] = AxisKinds(inputs);
    auto replicated =
        program.getArgAttrOfType<dist::AxesAttr>(argument.getArgNumber(), dist::kReplicatedAttr);
    for (dist::Axis axis : replicated ? replicated.getAxes() : ArrayRef<dist::Axis>())
      kinds[axis] = AxisKind::Same;
  }
  for (Operation &op : program.getBody().front().without_terminator()) {
    updates_ =
        isUpdate || llvm::any_of(op.getOperands(), [&](Value value) { return isOfUpdate(value); });
    if (failed(visit(&op)))
      return failure();
    if (auto gradient = dyn_cast<moe::GradientOp>(op)) {
      ofUpdate_.insert(gradient.getValue());
      // Its squares were made before the mark, with it.
      if (auto squared = gradient.getValue().getDefiningOp<moe::GroupedGemmWgradSquaredOp>())
        ofUpdate_.insert(squared.getSquares());
    } else if (updates_) {
      ofUpdate_.insert_range(op.getResults());
    }
  }
  return success();
}

LogicalResult AxisFlow::visit(Operation *op) {
  return llvm::TypeSwitch<Operation *, LogicalResult>(op)
      .Case([&](moe::ReadOp read) { return kinds_[read.getResult()] = read_(read), success(); })
      .Case<moe::WriteOp, moe::GradientOp>(
          [&](auto sink) { return sink_(op, kindsOf(sink.getValue())); })
      .Case([&](dist::AllGatherOp gather) { return visitGather(gather); })
      .Case([&](dist::ReduceScatterOp reduce) { return visitReduceScatter(reduce); })
      .Case([&](dist::AllReduceOp reduce) { return visitAllReduce(reduce); })
      .Case([&](dist::ReplicateOp replicate) { return visitReplicate(replicate); })
      .Case([&](dist::TokenExchangeOp exchange) { return visitExchange(exchange); })
      .Case([&](dist::TokenReturnOp back) { return visitReturn(back); })
      .Case([&](dist::RoundsOp rounds) { return visitRounds(rounds); })
      .Case<moe::UnpermuteAddOp, moe::PermuteGradAddOp>([&](auto sum) { return visitAdd(sum); })
      .Default([&](Operation *) -> LogicalResult {
        if (isa<dist::CollectiveOpInterface>(op) || op->getNumRegions() > 0 ||
            !isMemoryEffectFree(op))
          return op->emitOpError("is a collective, has a region or has effects, and "
                                 "verify-gradient-reduction has no rule for it");
        auto linear = dyn_cast<LinearOpInterface>(op);
        return linear ? visitLinear(op, linear.getLinearOperands())
                      : visitOther(op, op->getOperands());
      });
}

void AxisFlow::set(ValueRange values, AxisKinds kinds) {
  for (Value value : values) {
    AxisKinds &entry = kinds_[value] = kinds;
    auto tensor = dyn_cast<RankedTensorType>(value.getType());
    if (!tensor || tensor.getRank() > 0)
      continue;
    // A scalar is no part of anything: what is computed from a part is a term.
    for (AxisKind &kind : entry.kinds)
      kind = isPart(kind) ? AxisKind::Own : kind;
  }
}

unsigned AxisFlow::chosenOf(ValueRange values) const {
  unsigned chosen = 0;
  for (Value value : values)
    chosen |= kindsOf(value).chosen;
  return chosen;
}

AxisFlow::Result AxisFlow::gather(dist::AllGatherOp op, dist::Axis axis) {
  AxisKind kind = kindsOf(op.getX())[axis];
  if (kind == AxisKind::Zero)
    return AxisKind::Zero;
  if (isAlike(kind))
    return refuse(op, axis) << "gathers " << originOf(op.getX())
                            << ", which all ranks have alike already: what is read is no part; "
                               "drop the gather, or divide the state";
  if (kind == AxisKind::Share)
    return refuse(op, axis) << "gathers shares that wait to be summed; use dist.all_reduce";
  return AxisKind::Same;
}

LogicalResult AxisFlow::visitGather(dist::AllGatherOp op) {
  AxisKinds kinds = kindsOf(op.getX());
  for (dist::Axis axis : op.getAxes().getAxes()) {
    if (kinds[axis] == AxisKind::Own)
      kinds.chosen |= chosenBit(op.getX(), axis);
    Result kind = gather(op, axis);
    if (failed(kind))
      return failure();
    kinds[axis] = *kind;
  }
  return set(op->getResults(), kinds), success();
}

AxisFlow::Result AxisFlow::makeSum(Operation *op, dist::Axis axis, AxisKind kind, AxisKind sum) {
  if (kind == AxisKind::Zero || isTerm(kind))
    return kind == AxisKind::Zero && isAlike(sum) ? kind : sum;
  InFlightDiagnostic diagnostic = refuse(op, axis);
  Value operand = op->getOperand(0);
  if (isPart(kind))
    diagnostic << "sums " << originOf(operand) << ", of which each rank has another part";
  else if (kind == AxisKind::Held)
    diagnostic << "sums " << originOf(operand) << ", the copies of one state, so that it counts "
               << *mesh_.sizeOf(axis) << " times";
  else if (operand.getDefiningOp<dist::CollectiveOpInterface>())
    diagnostic << "sums a second time what is a total already, so that it counts "
               << *mesh_.sizeOf(axis) << " times";
  else
    diagnostic << "sums what is the same on all ranks, so that it counts " << *mesh_.sizeOf(axis)
               << " times";
  diagnostic << "; drop " << axesText(axis) << " from its axes";
  return failure();
}

LogicalResult AxisFlow::visitReduceScatter(dist::ReduceScatterOp op) {
  AxisKinds kinds = kindsOf(op.getX());
  bool flat =
      isFlatShard(op.getY().getType(), op.getX().getType(), *mesh_.groupSize(op.getAxesAttr()));
  for (dist::Axis axis : op.getAxes().getAxes()) {
    Result kind = makeSum(op, axis, kinds[axis], flat ? AxisKind::Flat : AxisKind::Slice);
    if (failed(kind))
      return failure();
    kinds[axis] = *kind;
  }
  return set(op->getResults(), kinds), success();
}

LogicalResult AxisFlow::visitAllReduce(dist::AllReduceOp op) {
  AxisKinds kinds = kindsOf(op.getX());
  for (dist::Axis axis : op.getAxes().getAxes()) {
    AxisKind kind = kinds[axis];
    if (op.getReduction() == dist::Reduction::Sum) {
      if (kind == AxisKind::Own && isOverTokens(op.getX().getType()))
        return refuse(op, axis) << "adds up rows of different tokens, which are no terms of one "
                                   "sum; sum the gradients of parameters, not of tokens";
      Result sum = makeSum(op, axis, kind, AxisKind::Same);
      if (failed(sum))
        return failure();
      kinds[axis] = *sum;
    } else {
      if (kind == AxisKind::Share)
        return refuse(op, axis) << "takes the maximum of shares that wait to be summed; use a sum";
      if (kind == AxisKind::Own || isPart(kind))
        kinds.chosen |= chosenBit(op.getX(), axis);
      kinds[axis] = AxisKind::Same;
    }
  }
  return set(op->getResults(), kinds), success();
}

LogicalResult AxisFlow::visitReplicate(dist::ReplicateOp op) {
  AxisKinds kinds = kindsOf(op.getX());
  for (dist::Axis axis : op.getAxes().getAxes()) {
    if (kinds[axis] == AxisKind::Same)
      return refuse(op, axis) << "replicates " << originOf(op.getX())
                              << " a second time, so that its gradient would be summed twice; drop "
                              << axesText(axis) << " from its axes";
    if (kinds[axis] != AxisKind::Held && kinds[axis] != AxisKind::Zero)
      return refuse(op, axis) << "expects copies of one state, but " << originOf(op.getX())
                              << " is " << describe(kinds[axis])
                              << "; gather a part, and replicate over the other axes";
    kinds[axis] = AxisKind::Same;
  }
  return set(op->getResults(), kinds), success();
}

LogicalResult AxisFlow::checkCounts(Operation *op, Value counts, dist::Axis axis) {
  AxisKind kind = kindsOf(counts)[axis];
  if (isAlike(kind) || kind == AxisKind::Zero)
    return success();
  return refuse(op, axis) << "expects counts that the ranks have alike, or they send and receive "
                             "different rows, but they are "
                          << describe(kind) << "; gather them first (dist.all_gather)";
}

LogicalResult AxisFlow::visitMove(Operation *op, dist::AxesAttr axes, MoveRule rule) {
  AxisKinds kinds;
  for (dist::Axis axis : mesh_.getAxes()) {
    Result kind = axes.contains(axis) ? rule(axis) : meet(op, op->getOperands(), axis);
    if (failed(kind))
      return failure();
    kinds[axis] = *kind;
  }
  return set(op->getResults(), kinds), success();
}

LogicalResult AxisFlow::visitExchange(dist::TokenExchangeOp op) {
  return visitMove(op, op.getAxesAttr(), [&](dist::Axis axis) -> Result {
    AxisKind rows = kindsOf(op.getRows())[axis];
    if (isPart(rows))
      return refuse(op, axis) << "sends rows that came by an exchange and were not sent back; put "
                                 "the dist.token_return of that exchange before it";
    if (rows != AxisKind::Own && rows != AxisKind::Zero)
      return refuse(op, axis) << "expects each rank's own rows, but they are " << describe(rows)
                              << ", so that each would be computed and counted "
                              << *mesh_.sizeOf(axis) << " times";
    if (failed(checkCounts(op, op.getAllCounts(), axis)))
      return failure();
    return AxisKind::Slice;
  });
}

LogicalResult AxisFlow::visitReturn(dist::TokenReturnOp op) {
  return visitMove(op, op.getAxesAttr(), [&](dist::Axis axis) -> Result {
    AxisKind rows = kindsOf(op.getRows())[axis];
    if (rows != AxisKind::Slice && rows != AxisKind::Zero)
      return refuse(op, axis) << "sends back rows that did not come by an exchange: they are "
                              << describe(rows) << "; return what has become of rows received";
    if (failed(checkCounts(op, op.getAllCounts(), axis)))
      return failure();
    AxisKind into = op.getInto() ? kindsOf(op.getInto())[axis] : AxisKind::Zero;
    if (into != AxisKind::Own && into != AxisKind::Zero)
      return refuse(op, axis) << "adds each rank's own rows to what is " << describe(into)
                              << "; return into zeros or rows of this rank";
    return AxisKind::Own;
  });
}

LogicalResult AxisFlow::visitRounds(dist::RoundsOp op) {
  for (dist::Axis axis : op.getAxes().getAxes())
    if (AxisKind kind = kindsOf(op.getCount())[axis]; !isAlike(kind))
      return refuse(op, axis)
             << "expects a count of rounds that the ranks have alike, or some wait "
                "for others that are done, but it is "
             << describe(kind) << "; compute it from gathered counts";
  set(op.getRoundArgument(), kindsOf(op.getCount()));
  // A sum over rounds: each adds to what is carried, and the terms must agree with it.
  for (BlockArgument argument : op.getCarriedArguments())
    set(argument, AxisKinds(AxisKind::Zero));
  for (auto [argument, value] : llvm::zip_equal(op.getInvariantArguments(), op.getInvariants()))
    set(argument, kindsOf(value));
  for (Operation &inner : op.getBody().front().without_terminator())
    if (failed(visit(&inner)))
      return failure();

  for (auto [result, carried, yielded] :
       llvm::zip_equal(op.getResults(), op.getCarried(), op.getYield().getValues())) {
    AxisKinds kinds;
    kinds.chosen = kindsOf(carried).chosen | kindsOf(yielded).chosen;
    for (dist::Axis axis : mesh_.getAxes()) {
      Result sum = meetTerms(op, {carried, yielded}, axis);
      if (failed(sum))
        return failure();
      // Other groups run another number of rounds.
      bool differs = kindsOf(op.getCount())[axis] == AxisKind::Own && isAlike(*sum);
      kinds[axis] = differs ? AxisKind::Own : *sum;
    }
    set(result, kinds);
  }
  return success();
}

void AxisFlow::share(moe::ScaleOp op, AxisKinds &kinds) const {
  int64_t ranks = 1;
  for (dist::Axis axis : mesh_.getAxes())
    if (isAlike(kinds[axis]))
      ranks *= *mesh_.sizeOf(axis);
  if (ranks == 1 || std::abs(op.getFactor() * static_cast<double>(ranks) - 1) > 1e-12)
    return;
  for (dist::Axis axis : mesh_.getAxes())
    if (isAlike(kinds[axis]))
      kinds[axis] = AxisKind::Share;
}

LogicalResult AxisFlow::visitLinear(Operation *op, OperandRange terms) {
  SmallVector<Value> factors;
  for (OpOperand &operand : op->getOpOperands())
    if (operand.getOperandNumber() - terms.getBeginOperandIndex() >= terms.size())
      factors.push_back(operand.get());
  AxisKinds kinds, others;
  kinds.chosen = chosenOf(op->getOperands());
  others.chosen = chosenOf(factors);
  for (dist::Axis axis : mesh_.getAxes()) {
    Result sum = meetTerms(op, terms, axis), other = meet(op, factors, axis);
    if (failed(sum) || failed(other))
      return failure();
    kinds[axis] = *sum;
    others[axis] = *other;
    if (factors.empty())
      continue;
    // A sum of shares may be made behind the op if all ranks multiply theirs by the same.
    if (*sum == AxisKind::Share && !isAlike(*other))
      return refuse(op, axis) << "multiplies a share that waits to be summed by what is "
                              << describe(*other) << "; sum it first (dist.all_reduce)";
    if (*sum == AxisKind::Share)
      continue;
    Result product = meet(op, op->getOperands(), axis);
    if (failed(product))
      return failure();
    kinds[axis] = *product;
  }
  if (auto scale = dyn_cast<moe::ScaleOp>(op))
    share(scale, kinds);
  set(op->getResults().drop_front(), others);
  return set(op->getResults().front(), kinds), success();
}

LogicalResult AxisFlow::visitAdd(Operation *op) {
  // Until the two have met the result is the term that the op makes.
  if (failed(visitOther(op, op->getOperands().drop_back())))
    return failure();
  Value addend = op->getOperands().back(), result = op->getResult(0);
  AxisKinds kinds;
  kinds.chosen = chosenOf({addend, result});
  for (dist::Axis axis : mesh_.getAxes()) {
    Result kind = meetTerms(op, {addend, result}, axis);
    if (failed(kind))
      return failure();
    kinds[axis] = *kind;
  }
  return set(result, kinds), success();
}

LogicalResult AxisFlow::visitOther(Operation *op, ValueRange operands) {
  AxisKinds kinds(isZero(op) ? AxisKind::Zero : AxisKind::Same);
  // Gathered counts are in all that is computed of tokens; an update is of sums alone.
  kinds.chosen = updates_ ? chosenOf(operands) : 0;
  if (operands.empty())
    return set(op->getResults(), kinds), success();
  for (dist::Axis axis : mesh_.getAxes()) {
    Result kind = meet(op, operands, axis);
    if (failed(kind))
      return failure();
    kinds[axis] = *kind;
  }
  return set(op->getResults(), kinds), success();
}

AxisFlow::Result AxisFlow::meet(Operation *op, ValueRange values, dist::Axis axis) {
  // The first value of each kind.
  std::array<Value, kNumAxisKinds> first{};
  for (Value value : values) {
    Value &place = first[static_cast<size_t>(kindsOf(value)[axis])];
    place = place ? place : value;
  }
  auto get = [&](AxisKind kind) { return first[static_cast<size_t>(kind)]; };
  Value own = get(AxisKind::Own), slice = get(AxisKind::Slice), flat = get(AxisKind::Flat);
  Value part = slice ? slice : flat, held = get(AxisKind::Held), share = get(AxisKind::Share);
  if (share)
    return refuse(op, axis) << "uses " << originOf(share)
                            << ", a share that waits to be summed, in what is not known to be "
                               "linear in it; sum it first (dist.all_reduce)";
  if (slice && flat)
    return refuse(op, axis) << "brings together " << originOf(slice) << ", cut along dimension 0, "
                            << "and " << originOf(flat) << ", cut flat: they are parts of "
                            << "different elements; divide both states alike";
  if (own && part)
    return refuseOwnBesidePart(op, axis, own, part);
  if (held && (own || part))
    return refuseHeldBeside(op, axis, held, own ? own : part);
  if (own)
    return AxisKind::Own;
  if (part)
    return slice ? AxisKind::Slice : AxisKind::Flat;
  return held ? AxisKind::Held : AxisKind::Same;
}

InFlightDiagnostic AxisFlow::refuseOwnBesidePart(Operation *op, dist::Axis axis, Value own,
                                                 Value part) const {
  InFlightDiagnostic diagnostic = refuse(op, axis);
  if (cast<RankedTensorType>(own.getType()).getRank() == 0)
    diagnostic << "uses " << originOf(own) << ", a scalar that each rank computed of its own part, "
               << "beside the part " << originOf(part) << "; sum it over all ranks first "
               << "(dist.all_reduce)";
  else
    diagnostic << "brings together " << originOf(own) << ", which is each rank's own, and "
               << originOf(part) << ", of which each rank has another part; exchange tokens and "
               << "return them (dist.token_exchange, dist.token_return), or gather the part "
               << "(dist.all_gather)";
  return diagnostic;
}

InFlightDiagnostic AxisFlow::refuseHeldBeside(Operation *op, dist::Axis axis, Value held,
                                              Value other) const {
  InFlightDiagnostic diagnostic = refuse(op, axis);
  if (updates_)
    diagnostic << "updates " << originOf(held) << ", of which the ranks hold copies, by "
               << originOf(other) << ", which is " << describe(kindsOf(other)[axis])
               << ": the copies would differ; sum it first (dist.all_reduce)";
  else
    diagnostic << "uses " << originOf(held) << ", of which the ranks hold copies, beside "
               << originOf(other) << ", which is " << describe(kindsOf(other)[axis])
               << ": nothing would sum its gradient; put dist.replicate over " << axesText(axis)
               << " behind the moe.read";
  return diagnostic;
}

AxisFlow::Result AxisFlow::meetTerms(Operation *op, ValueRange terms, dist::Axis axis) {
  Value first, other;
  AxisKind sum = AxisKind::Zero;
  for (Value term : terms) {
    AxisKind kind = kindsOf(term)[axis];
    if (kind == AxisKind::Zero || kind == sum)
      continue;
    if (sum == AxisKind::Zero) {
      first = term;
      sum = kind;
    } else if (isAlike(sum) && isAlike(kind)) {
      sum = AxisKind::Same;
    } else if (isTerm(sum) && isTerm(kind)) {
      sum = AxisKind::Share;
    } else {
      other = term;
      break;
    }
  }
  if (!other)
    return sum;
  AxisKind kind = kindsOf(other)[axis];
  if (isAlike(sum))
    std::swap(first, other), std::swap(sum, kind);
  if (!isTerm(sum) || !isAlike(kind))
    return refuse(op, axis) << "adds " << originOf(first) << ", which is " << describe(sum)
                            << ", to " << originOf(other) << ", which is " << describe(kind)
                            << "; make both the same before";
  if (isa_and_present<dist::AllReduceOp>(other.getDefiningOp()))
    return refuse(op, axis) << "adds " << originOf(first) << ", which is " << describe(sum)
                            << ", to a total (dist.all_reduce): the one is not summed over ranks, "
                               "or the other is twice; sum both or none";
  return refuse(op, axis) << "adds " << originOf(other) << ", which is the same on all ranks, to "
                          << originOf(first) << ", which is " << describe(sum)
                          << ": the sum over ranks counts it " << *mesh_.sizeOf(axis)
                          << " times; weight it by 1/n for the n ranks that have it (moe.scale)";
}

} // namespace switchyard::passes
