// Verification of the instructions in which ranks meet, against the mesh.

#include "dialects/plan/Plan.h"

using namespace mlir;

namespace switchyard::plan {

namespace {

RankedTensorType tensorOf(Value buffer) {
  return cast<BufferType>(buffer.getType()).getTensor();
}

bool isI32(RankedTensorType type) {
  return type.getElementType().isInteger(32);
}

/// Whether `type` is i32 [ranks, E] with E a multiple of `ranks`.
bool isAllCounts(RankedTensorType type, int64_t ranks) {
  return isI32(type) && type.getRank() == 2 && type.hasStaticShape() &&
         type.getDimSize(0) == ranks && type.getDimSize(1) % ranks == 0;
}

bool isRound(RankedTensorType type) {
  return isI32(type) && type.getRank() == 0;
}

/// Whether the `part` of each of `ranks` ranks makes up `whole`: slice i of dimension 0, equally
/// many rows of it, or a flat shard.
bool isPartOf(RankedTensorType part, RankedTensorType whole, int64_t ranks) {
  std::optional<int64_t> elements = dist::elementCount(whole);
  if (!elements || !part.hasStaticShape() || part.getElementType() != whole.getElementType())
    return false;
  ArrayRef<int64_t> inner = part.getShape(), outer = whole.getShape();
  if (outer.size() == inner.size() + 1 && outer[0] == ranks && outer.drop_front() == inner)
    return true;
  if (outer.size() == inner.size() && !inner.empty() && outer[0] == ranks * inner[0] &&
      outer.drop_front() == inner.drop_front())
    return true;
  return inner.size() == 1 && inner[0] == dist::flatShardElements(*elements, ranks);
}

/// The verification of a collective over groups of `ranks`.
class CollectiveVerifier {
public:
  CollectiveVerifier(CollectiveOp op, int64_t ranks) : op_(op), ranks_(ranks) {}

  LogicalResult run() {
    switch (op_.getKind()) {
    case CollectiveKind::AllGather:
    case CollectiveKind::ReduceScatter:
    case CollectiveKind::AllReduce:
      return verifyPairs();
    case CollectiveKind::TokenExchange:
      return verifyExchange();
    case CollectiveKind::TokenReturn:
      return verifyReturn();
    }
    llvm_unreachable("not a CollectiveKind");
  }

private:
  LogicalResult verifyPairs();
  LogicalResult verifyPair(Value in, Value out);
  LogicalResult verifyExchange();
  LogicalResult verifyReturn();
  LogicalResult verifyRowsAndCounts(RankedTensorType sent, RankedTensorType received);
  InFlightDiagnostic countError(StringRef expected);

  CollectiveOp op_;
  int64_t ranks_;
};

// collective_c2
InFlightDiagnostic CollectiveVerifier::countError(StringRef expected) {
  return op_.emitOpError("expects of ")
         << stringifyCollectiveKind(op_.getKind()) << ' ' << expected << ", but has "
         << op_.getIns().size() << " inputs, " << op_.getUpdates().size() << " updates and "
         << op_.getOuts().size() << " outputs";
}

LogicalResult CollectiveVerifier::verifyPairs() {
  if (op_.getIns().empty() || op_.getIns().size() != op_.getOuts().size() ||
      !op_.getUpdates().empty())
    return countError("an output for each input, and no updates");
  for (auto [in, out] : llvm::zip_equal(op_.getIns(), op_.getOuts()))
    if (failed(verifyPair(in, out)))
      return failure();
  return success();
}

LogicalResult CollectiveVerifier::verifyPair(Value in, Value out) {
  RankedTensorType from = tensorOf(in), to = tensorOf(out);
  // collective_c3
  if (op_.getKind() == CollectiveKind::AllReduce) {
    if (from != to)
      return op_.emitOpError("reduces ") << from << " to " << to << "; both have the same type";
    if (dist::isOverReceivedRows(from))
      return op_.emitOpError("reduces ") << from << ", rows over \"" << dist::kReceivedSymbol
                                         << "\", whose number differs between ranks";
    return success();
  }
  bool gathers = op_.getKind() == CollectiveKind::AllGather;
  RankedTensorType part = gathers ? from : to, whole = gathers ? to : from;
  if (!isPartOf(part, whole, ranks_))
    return op_.emitOpError("expects a part of ")
           << whole << " on each of " << ranks_ << " ranks, but it is " << part;
  if (!gathers && isI32(whole))
    return op_.emitOpError("sums ") << whole << "; sums over ranks are of f32 or bf16";
  // collective_c6
  int64_t room = ranks_ * *dist::elementCount(part);
  auto buffer = (gathers ? out : in).getDefiningOp<BufferOp>();
  if (room > buffer.roomInElements())
    return op_.emitOpError("has flat shards of ")
           << room << " elements in all, padding included, but the buffer of " << whole
           << " has room for " << buffer.roomInElements() << "; give it `reserve " << room << '`';
  return success();
}

/// What an exchange and a return have in common: `sent` [A, D] and `received` [R, D], the counts
/// and the round.
LogicalResult CollectiveVerifier::verifyRowsAndCounts(RankedTensorType sent,
                                                      RankedTensorType received) {
  // collective_c3
  bool areRows = sent.getRank() == 2 && received.getRank() == 2 &&
                 sent.getDimSize(1) == received.getDimSize(1) &&
                 sent.getElementType() == received.getElementType() && !isI32(sent);
  if (!areRows || dist::isOverReceivedRows(sent) || !dist::isOverReceivedRows(received))
    return op_.emitOpError("expects rows [A, D] that are sent and [R, D] that are received, but "
                           "they are ")
           << sent << " and " << received;
  RankedTensorType counts = tensorOf(op_.getIns()[1]);
  if (!isAllCounts(counts, ranks_))
    return op_.emitOpError("expects all_counts, i32 [n, E], of n = ")
           << ranks_ << " ranks with equally many of E experts each, but it is " << counts;
  if (op_.getIns().size() == 3 && !isRound(tensorOf(op_.getIns()[2])))
    return op_.emitOpError("expects a round that is an i32 scalar, but it is ")
           << tensorOf(op_.getIns()[2]);
  return success();
}

LogicalResult CollectiveVerifier::verifyExchange() {
  size_t ins = op_.getIns().size();
  if (ins < 2 || ins > 3 || op_.getOuts().size() != 2 || !op_.getUpdates().empty())
    return countError("rows, all_counts and perhaps a round, and received and group_sizes as "
                      "outputs");
  if (failed(verifyRowsAndCounts(tensorOf(op_.getIns()[0]), tensorOf(op_.getOuts()[0]))))
    return failure();
  RankedTensorType sizes = tensorOf(op_.getOuts()[1]);
  int64_t experts = tensorOf(op_.getIns()[1]).getDimSize(1) / ranks_;
  if (!isI32(sizes) || sizes.getShape() != ArrayRef<int64_t>{experts})
    return op_.emitOpError("expects group_sizes, i32 [")
           << experts << "], one for each expert of a rank, but it is " << sizes;
  return success();
}

LogicalResult CollectiveVerifier::verifyReturn() {
  size_t ins = op_.getIns().size();
  if (ins < 2 || ins > 3 || op_.getOuts().size() + op_.getUpdates().size() != 1)
    return countError("rows, all_counts and perhaps a round, and one output or update");
  Value returned = op_.getOuts().empty() ? op_.getUpdates()[0] : op_.getOuts()[0];
  return verifyRowsAndCounts(tensorOf(returned), tensorOf(op_.getIns()[0]));
}

LogicalResult verifyReceivedSymbol(Operation *op, SymbolTableCollection &symbols) {
  auto name = StringAttr::get(op->getContext(), dist::kReceivedSymbol);
  if (symbols.lookupNearestSymbolFrom<moe::SymbolOp>(op, name))
    return success();
  return op->emitOpError("needs the bound of the rows received, but the module has no moe.symbol @")
         << dist::kReceivedSymbol;
}

} // namespace

LogicalResult CollectiveOp::verify() {
  // collective_c4
  if (getReduction() != dist::Reduction::Sum && getKind() != CollectiveKind::AllReduce)
    return emitOpError("has the reduction ")
           << dist::stringifyReduction(getReduction()) << ", which only an all_reduce has";
  // collective_c5
  return verifyWritesApart(*this, getUpdates(), getOuts());
}

LogicalResult CollectiveOp::verifySymbolUses(SymbolTableCollection &symbols) {
  // collective_c1
  FailureOr<int64_t> ranks = dist::lookupGroupSize(*this, getAxesAttr(), &symbols);
  if (failed(ranks))
    return failure();
  return CollectiveVerifier(*this, *ranks).run();
}

LogicalResult RepeatOp::verify() {
  for (Operation &inner : getBody().front()) {
    // repeat_c3
    auto collective = dyn_cast<CollectiveOp>(inner);
    if (collective && !collective.getAxesAttr().isSubsetOf(getAxesAttr()))
      return collective.emitOpError("is over ")
             << collective.getAxes()
             << " in a repeat, whose number of rounds is the same only over " << getAxes();
    // repeat_c4
    if (isa<RepeatOp, RecordOp, WaitOp>(inner))
      return inner.emitOpError("is in the body of a repeat; a repeat is one level of launches, "
                               "copies and collectives");
    // repeat_c5
    for (Value written : writtenBuffers(&inner))
      if (written == getRound() || written == getAllCounts())
        return inner.emitOpError("writes the ")
               << (written == getRound() ? "round" : "counts") << " of the repeat around it";
  }
  return success();
}

LogicalResult RepeatOp::verifySymbolUses(SymbolTableCollection &symbols) {
  // repeat_c1
  FailureOr<int64_t> ranks = dist::lookupGroupSize(*this, getAxesAttr(), &symbols);
  if (failed(ranks) || failed(verifyReceivedSymbol(*this, symbols)))
    return failure();
  // repeat_c2
  if (!isAllCounts(tensorOf(getAllCounts()), *ranks))
    return emitOpError("expects all_counts, i32 [n, E], of n = ")
           << *ranks << " ranks with equally many of E experts each, but it is "
           << tensorOf(getAllCounts());
  if (!isRound(tensorOf(getRound())))
    return emitOpError("expects a round that is an i32 scalar, but it is ") << tensorOf(getRound());
  return success();
}

} // namespace switchyard::plan
