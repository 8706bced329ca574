// The loop over rounds: its assembly, verification and canonicalization. Its derivative is in
// Vjps.cpp.

#include "dialects/dist/Dist.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;

namespace switchyard::dist {

YieldOp RoundsOp::getYield() {
  return cast<YieldOp>(getBody().front().getTerminator());
}

namespace {
/// What `carry` and `with` list: arguments of the body, and what they are at first.
struct Bindings {
  SmallVector<OpAsmParser::Argument> arguments;
  SmallVector<OpAsmParser::UnresolvedOperand> operands;
  SmallVector<Type> types;
};
} // namespace

/// bindings ::= `(` (argument `=` operand `:` type (`,` argument `=` operand `:` type)*)? `)`
static ParseResult parseBindings(OpAsmParser &parser, Bindings &bindings) {
  return parser.parseCommaSeparatedList(OpAsmParser::Delimiter::Paren, [&]() -> ParseResult {
    OpAsmParser::Argument &argument = bindings.arguments.emplace_back();
    if (parser.parseArgument(argument) || parser.parseEqual() ||
        parser.parseOperand(bindings.operands.emplace_back()) ||
        parser.parseColonType(bindings.types.emplace_back()))
      return failure();
    argument.type = bindings.types.back();
    return success();
  });
}

/// rounds ::= argument `of` operand `on` (`host` | `device`) `over` axes
///            `carry` bindings (`with` bindings)? attr-dict-with-keyword region
ParseResult RoundsOp::parse(OpAsmParser &parser, OperationState &result) {
  Builder &builder = parser.getBuilder();
  auto i32Scalar = RankedTensorType::get({}, builder.getI32Type());
  OpAsmParser::Argument round;
  OpAsmParser::UnresolvedOperand count;
  if (parser.parseArgument(round) || parser.parseKeyword("of") || parser.parseOperand(count) ||
      parser.parseKeyword("on"))
    return failure();
  round.type = i32Scalar;
  FailureOr<Knower> known = FieldParser<Knower>::parse(parser);
  AxesAttr axes;
  Bindings carried, invariants;
  if (failed(known) || parser.parseKeyword("over") || parseAxes(parser, axes) ||
      parser.parseKeyword("carry") || parseBindings(parser, carried) ||
      (succeeded(parser.parseOptionalKeyword("with")) && parseBindings(parser, invariants)) ||
      parser.parseOptionalAttrDictWithKeyword(result.attributes))
    return failure();
  for (StringAttr name : {getAxesAttrName(result.name), getKnownAttrName(result.name),
                          getOperandSegmentSizesAttrName(result.name)})
    if (result.attributes.get(name))
      return parser.emitError(parser.getNameLoc())
             << "has " << name << " among its attributes, which its assembly gives otherwise";
  Properties &properties = result.getOrAddProperties<Properties>();
  properties.axes = axes;
  properties.known = KnowerAttr::get(builder.getContext(), *known);
  properties.operandSegmentSizes = {1, static_cast<int32_t>(carried.operands.size()),
                                    static_cast<int32_t>(invariants.operands.size())};
  llvm::SMLoc location = parser.getCurrentLocation();
  if (parser.resolveOperand(count, i32Scalar, result.operands) ||
      parser.resolveOperands(carried.operands, carried.types, location, result.operands) ||
      parser.resolveOperands(invariants.operands, invariants.types, location, result.operands))
    return failure();
  result.addTypes(carried.types);

  SmallVector<OpAsmParser::Argument> arguments{round};
  arguments.append(carried.arguments);
  arguments.append(invariants.arguments);
  return parser.parseRegion(*result.addRegion(), arguments);
}

static void printBindings(OpAsmPrinter &printer, Block::BlockArgListType arguments,
                          ValueRange operands) {
  printer << '(';
  llvm::interleaveComma(llvm::zip_equal(arguments, operands), printer, [&](auto binding) {
    auto [argument, operand] = binding;
    printer << argument << " = " << operand << " : " << operand.getType();
  });
  printer << ')';
}

void RoundsOp::print(OpAsmPrinter &printer) {
  printer << ' ' << getRoundArgument() << " of " << getCount() << " on "
          << stringifyKnower(getKnown()) << " over ";
  printAxes(printer, *this, getAxesAttr());
  printer << " carry";
  printBindings(printer, getCarriedArguments(), getCarried());
  if (!getInvariants().empty()) {
    printer << " with";
    printBindings(printer, getInvariantArguments(), getInvariants());
  }
  printer.printOptionalAttrDictWithKeyword(
      (*this)->getAttrs(),
      {getAxesAttrName(), getKnownAttrName(), getOperandSegmentSizesAttrName()});
  printer << ' ';
  printer.printRegion(getBody(), /*printEntryBlockArgs=*/false);
}

LogicalResult RoundsOp::verify() {
  // rounds_c2
  if (getCarried().empty())
    return emitOpError("carries no value, so that it computes nothing");
  if (getCarried().getTypes() != getResultTypes())
    return emitOpError("expects results of the types of the carried values, ")
           << getCarried().getTypes() << ", but they are " << getResultTypes();
  // rounds_c3
  SmallVector<Type> expected{getCount().getType()};
  llvm::append_range(expected, getCarried().getTypes());
  llvm::append_range(expected, getInvariants().getTypes());
  if (getBody().empty() || TypeRange(getBody().getArgumentTypes()) != TypeRange(expected))
    return emitOpError("expects a body with the arguments ")
           << expected << ": the round, the carried values, those of `with`";
  return success();
}

/// Checks that the body only adds to the carried value `index`: from its argument one leads, by
/// uses as a term, to the yield.
static LogicalResult verifySum(RoundsOp op, unsigned index) {
  Value sum = op.getCarriedArguments()[index];
  while (sum.hasOneUse()) {
    OpOperand &use = *sum.getUses().begin();
    Operation *user = use.getOwner();
    if (user == op.getYield() && use.getOperandNumber() == index)
      return success();
    auto back = dyn_cast<TokenReturnOp>(user);
    auto product = dyn_cast<moe::GroupedGemmWgradAccumulateOp>(user);
    bool isTerm = isa<moe::AddOp>(user) ||
                  (isa<moe::AccumulateOp>(user) && use.getOperandNumber() == 0) ||
                  (product && use == product.getAccumulatorMutable()) ||
                  (back && back.getInto() == sum && back.getRows() != sum);
    if (!isTerm)
      break;
    sum = user->getResult(0);
  }
  return op.emitOpError("expects its body only to add to carried value ")
         << index << ", but it is used otherwise, or not yielded in its place";
}

/// Checks one op of the body.
static LogicalResult verifyInner(RoundsOp op, Operation &inner) {
  // rounds_c5
  if (inner.getNumRegions() > 0 || !isMemoryEffectFree(&inner) || isa<moe::ReadOp>(inner))
    return inner.emitOpError("is in the body of a dist.rounds, whose ops have no effects and no "
                             "regions, and get states through `with`");
  // rounds_c6
  auto collective = dyn_cast<CollectiveOpInterface>(inner);
  if (collective && !collective.getAxes().isSubsetOf(op.getAxesAttr()))
    return inner.emitOpError("is over ")
           << collective.getAxes()
           << " in the body of a dist.rounds, whose number of rounds is the "
           << "same only over " << op.getAxesAttr();
  return success();
}

LogicalResult RoundsOp::verifyRegions() {
  // rounds_c3
  auto yield = dyn_cast<YieldOp>(getBody().front().getTerminator());
  if (!yield || yield.getValues().getTypes() != getResultTypes())
    return emitOpError("expects a body that yields the carried values, ") << getResultTypes();
  for (Operation &inner : getBody().front())
    if (failed(verifyInner(*this, inner)))
      return failure();
  // rounds_c4
  for (unsigned i = 0; i < getCarried().size(); ++i)
    if (failed(verifySum(*this, i)))
      return failure();
  return success();
}

LogicalResult RoundsOp::verifySymbolUses(SymbolTableCollection &symbols) {
  // rounds_c1
  return failure(failed(lookupGroupSize(*this, getAxesAttr(), &symbols)));
}

/// Whether `op` may change places with the ops around it that it does not depend on. A write takes
/// effect when the program exits, wherever it stands.
static bool isMovable(Operation *op) {
  return isPure(op) || isa<moe::WriteOp, moe::GradientOp>(op);
}

/// Moves `loop`, and what depends on it, behind the op that computes `term`. Fails, with nothing
/// moved, if `term` depends on the loop, or if an op that would move must stay.
static LogicalResult moveBehind(RoundsOp loop, Value term, PatternRewriter &rewriter) {
  Operation *last = term.getDefiningOp();
  if (!last || last->getBlock() != loop->getBlock() || last->isBeforeInBlock(loop))
    return success();
  llvm::SetVector<Operation *> moved;
  moved.insert(loop);
  for (Operation *op = loop; op != last;) {
    op = op->getNextNode();
    bool depends = llvm::any_of(op->getOperands(), [&](Value operand) {
      return operand.getDefiningOp() && moved.contains(operand.getDefiningOp());
    });
    if (depends && (op == last || !isMovable(op)))
      return failure();
    if (depends)
      moved.insert(op);
  }
  for (Operation *op : moved) {
    rewriter.moveOpAfter(op, last);
    last = op;
  }
  return success();
}

/// add(a, the sum of rounds from zero) is the sum of the rounds from a.
struct StartAtTerm : OpRewritePattern<moe::AddOp> {
  /// Before a token_return among the terms takes the loop's sum as its `into`.
  StartAtTerm(MLIRContext *context) : OpRewritePattern(context, /*benefit=*/2) {}

  LogicalResult matchAndRewrite(moe::AddOp add, PatternRewriter &rewriter) const override {
    for (auto [sum, term] :
         {std::pair(add.getA(), add.getB()), std::pair(add.getB(), add.getA())}) {
      auto loop = sum.getDefiningOp<RoundsOp>();
      if (!loop || loop->getBlock() != add->getBlock() || !sum.hasOneUse() ||
          term.getDefiningOp() == loop)
        continue;
      OpOperand &start = loop.getCarriedMutable()[cast<OpResult>(sum).getResultNumber()];
      auto zero = start.get().getDefiningOp<moe::ConstantOp>();
      if (!zero || zero.getValue() != 0 || failed(moveBehind(loop, term, rewriter)))
        continue;
      rewriter.modifyOpInPlace(loop, [&] { start.assign(term); });
      rewriter.replaceOp(add, sum);
      return success();
    }
    return failure();
  }
};

void RoundsOp::getCanonicalizationPatterns(RewritePatternSet &patterns, MLIRContext *context) {
  patterns.add<StartAtTerm>(context);
}

} // namespace switchyard::dist
