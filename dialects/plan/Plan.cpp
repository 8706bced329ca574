#include "dialects/plan/Plan.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace switchyard;
using switchyard::dist::parseAxes;
using switchyard::dist::printAxes;

#include "dialects/plan/Dialect.cpp.inc"
#include "dialects/plan/Enums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/plan/Attributes.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialects/plan/Types.cpp.inc"

void plan::PlanDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/plan/Attributes.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialects/plan/Types.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/plan/Ops.cpp.inc"
      >();
}

void plan::ProgramOp::build(OpBuilder &builder, OperationState &state, StringRef name) {
  state.addAttribute("sym_name", builder.getStringAttr(name));
  state.addRegion()->emplaceBlock();
}

void plan::BufferOp::build(OpBuilder &builder, OperationState &state, RankedTensorType tensor) {
  build(builder, state, BufferType::get(tensor.getContext(), tensor), Arena::Transient,
        FlatSymbolRefAttr(), PortAttr(), StringAttr(), IntegerAttr(), IntegerAttr());
}

void plan::BufferOp::build(OpBuilder &builder, OperationState &state, RankedTensorType tensor,
                           FlatSymbolRefAttr symbol) {
  build(builder, state, BufferType::get(tensor.getContext(), tensor), Arena::State, symbol,
        PortAttr(), StringAttr(), IntegerAttr(), IntegerAttr());
}

void plan::BufferOp::build(OpBuilder &builder, OperationState &state, RankedTensorType tensor,
                           Port port, StringRef portName) {
  build(builder, state, BufferType::get(tensor.getContext(), tensor), Arena::Io,
        FlatSymbolRefAttr(), PortAttr::get(tensor.getContext(), port),
        builder.getStringAttr(portName), IntegerAttr(), IntegerAttr());
}

/// buffer ::= arena (`@`state | port string)? (`at` integer)? (`reserve` integer)? attr-dict `:`
///            tensor-type
ParseResult plan::BufferOp::parse(OpAsmParser &parser, OperationState &result) {
  Builder &builder = parser.getBuilder();
  FailureOr<Arena> arena = FieldParser<Arena>::parse(parser);
  if (failed(arena))
    return failure();
  result.addAttribute("arena", ArenaAttr::get(builder.getContext(), *arena));

  if (*arena == Arena::State) {
    StringAttr symbol;
    if (parser.parseSymbolName(symbol))
      return failure();
    result.addAttribute("state", FlatSymbolRefAttr::get(symbol));
  } else if (*arena == Arena::Io) {
    FailureOr<Port> port = FieldParser<Port>::parse(parser);
    std::string name;
    if (failed(port) || parser.parseString(&name))
      return failure();
    result.addAttribute("port", PortAttr::get(builder.getContext(), *port));
    result.addAttribute("port_name", builder.getStringAttr(name));
  }
  for (auto [keyword, name] : {std::pair("at", "offset"), std::pair("reserve", "reserve")}) {
    if (failed(parser.parseOptionalKeyword(keyword)))
      continue;
    int64_t value;
    if (parser.parseInteger(value))
      return failure();
    result.addAttribute(name, builder.getI64IntegerAttr(value));
  }
  RankedTensorType tensor;
  if (parser.parseOptionalAttrDict(result.attributes) || parser.parseColonType(tensor))
    return failure();
  // Else an attribute of the wrong kind would be dropped without a word.
  llvm::SMLoc location = parser.getNameLoc();
  if (failed(verifyInherentAttrs(result.name, result.attributes,
                                 [&] { return parser.emitError(location); })))
    return failure();
  result.addTypes(BufferType::get(builder.getContext(), tensor));
  return success();
}

void plan::BufferOp::print(OpAsmPrinter &printer) {
  printer << ' ' << stringifyArena(getArena());
  if (getStateAttr())
    printer << ' ' << getStateAttr();
  if (getPort())
    printer << ' ' << stringifyPort(*getPort()) << ' ' << getPortNameAttr();
  if (getOffset())
    printer << " at " << *getOffsetValue();
  if (getReserve())
    printer << " reserve " << getReserveAttr().getInt();
  printer.printOptionalAttrDict((*this)->getAttrs(),
                                {"arena", "state", "port", "port_name", "offset", "reserve"});
  printer << " : " << getTensorType();
}

LogicalResult plan::BufferOp::verify() {
  // buffer_c1
  if ((getArena() == Arena::State) != static_cast<bool>(getStateAttr()))
    return emitOpError("names a state if, and only if, it is in the state arena");
  // buffer_c2
  bool isIo = getArena() == Arena::Io;
  if (isIo != static_cast<bool>(getPortAttr()) || isIo != static_cast<bool>(getPortNameAttr()))
    return emitOpError("has a port and a name if, and only if, it is in the io arena");
  // buffer_c4
  std::optional<int64_t> offset = getOffsetValue();
  if (offset && (getStateAttr() || *offset < 0 || *offset % 256))
    return emitOpError("has the offset ")
           << *offset
           << (getStateAttr() ? ", but a state's buffer has the state's"
                              : ", which is not a multiple of 256 from 0 on");
  // buffer_c5
  if (getReserve()) {
    std::optional<int64_t> elements = dist::elementCount(getTensorType());
    int64_t reserve = getReserveAttr().getInt();
    if (isIo)
      return emitOpError("reserves ")
             << reserve << " elements, but a port has no more than its own";
    if (!elements || reserve <= *elements || reserve > moe::kMaxExtent)
      return emitOpError("reserves ")
             << reserve << " elements, which is not more than those of " << getTensorType();
  }
  return success();
}

LogicalResult plan::BufferOp::verifySymbolUses(SymbolTableCollection &symbols) {
  // buffer_c3
  if (!getStateAttr())
    return success();
  auto state = symbols.lookupNearestSymbolFrom<moe::StateOp>(*this, getStateAttr());
  if (!state)
    return emitOpError("names ") << getStateAttr() << ", which is not a moe.state of the module";
  FailureOr<RankedTensorType> local = state.localType(&symbols);
  if (failed(local) || *local == getTensorType())
    return failure(failed(local));
  return emitOpError("is of type ")
         << getTensorType() << ", but " << getStateAttr() << " is of type " << *local;
}

int64_t plan::BufferOp::roomInElements() {
  return getReserve() ? getReserveAttr().getInt() : dist::elementCount(getTensorType()).value_or(0);
}

LogicalResult plan::LaunchOp::verify() {
  // launch_c1
  return verifyWritesApart(*this, getUpdates(), getOuts());
}

LogicalResult plan::verifyWritesApart(Operation *op, ValueRange updates, ValueRange outs) {
  llvm::SmallDenseMap<Value, unsigned> uses;
  for (Value operand : op->getOperands())
    ++uses[operand];
  auto isShared = [&](Value value) { return uses[value] > 1; };
  if (llvm::any_of(updates, isShared) || llvm::any_of(outs, isShared))
    return op->emitOpError("writes a buffer that is also another of its operands");
  return success();
}

SmallVector<Value> plan::writtenBuffers(Operation *instruction) {
  SmallVector<Value> written;
  if (auto launch = dyn_cast<LaunchOp>(instruction)) {
    llvm::append_range(written, launch.getUpdates());
    llvm::append_range(written, launch.getOuts());
    if (launch.getWorkspace())
      written.push_back(launch.getWorkspace());
  } else if (auto collective = dyn_cast<CollectiveOp>(instruction)) {
    llvm::append_range(written, collective.getUpdates());
    llvm::append_range(written, collective.getOuts());
  } else if (auto copy = dyn_cast<CopyOp>(instruction)) {
    written.push_back(copy.getTo());
  } else if (auto repeat = dyn_cast<RepeatOp>(instruction)) {
    written.push_back(repeat.getRound());
  }
  return written;
}

/// The keyword of a collective's kind.
static ParseResult parseKind(OpAsmParser &parser, plan::CollectiveKindAttr &kind) {
  FailureOr<plan::CollectiveKind> keyword = FieldParser<plan::CollectiveKind>::parse(parser);
  if (failed(keyword))
    return failure();
  kind = plan::CollectiveKindAttr::get(parser.getContext(), *keyword);
  return success();
}

static void printKind(OpAsmPrinter &printer, Operation *, plan::CollectiveKindAttr kind) {
  printer << plan::stringifyCollectiveKind(kind.getValue());
}

#define GET_OP_CLASSES
#include "dialects/plan/Ops.cpp.inc"
