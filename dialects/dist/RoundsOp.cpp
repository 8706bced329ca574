// The loop over rounds: its assembly and its verification. Its derivative is in Vjps.cpp.

#include "dialects/dist/Dist.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"

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
    bool isTerm = isa<moe::AddOp>(user) ||
                  (isa<moe::AccumulateOp>(user) && use.getOperandNumber() == 0) ||
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

} // namespace switchyard::dist
