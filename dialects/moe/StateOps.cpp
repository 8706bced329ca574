// Symbols and states: their assembly and their verification.

#include "dialects/moe/MoE.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;

namespace switchyard::moe {

LogicalResult SymbolOp::verify() {
  // symbol_c1
  if (getBound() < 1 || getBound() > kMaxExtent)
    return emitOpError("expects a bound in [1, 2^40], but got ") << getBound();
  // symbol_c2
  if (getMinimum() && (*getMinimum() < 1 || *getMinimum() > getBound()))
    return emitOpError("expects a minimum in [1, ")
           << getBound() << "], the bound, but got " << *getMinimum();
  // symbol_c4
  if (std::optional<APFloat> factor = getRowsPerToken()) {
    if (!factor->isFiniteNonZero() || factor->isNegative())
      return emitOpError("expects rows_per_token to be positive and finite, but got ")
             << factor->convertToDouble();
    if (getMinimum())
      return emitOpError("has a minimum, but its bound follows that of T");
  }
  // symbol_c3
  return RowsAttr::verify([&] { return emitOpError(); }, 1, getSymName(), 0);
}

void StateOp::build(OpBuilder &builder, OperationState &state, StringRef name,
                    RankedTensorType type, Attribute from, std::optional<int64_t> layer, bool decay,
                    StringRef moduleName) {
  build(builder, state, builder.getStringAttr(name), TypeAttr::get(type),
        StateKindAttr::get(builder.getContext(), StateKind::Parameter), FlatSymbolRefAttr(),
        layer ? builder.getI64IntegerAttr(*layer) : IntegerAttr(), builder.getBoolAttr(decay),
        moduleName.empty() ? StringAttr() : builder.getStringAttr(moduleName), from, IntegerAttr(),
        ShardingAttrInterface());
}

void StateOp::build(OpBuilder &builder, OperationState &state, StringRef name, StateKind kind,
                    StateOp parameter, Type elementType) {
  build(builder, state, builder.getStringAttr(name),
        TypeAttr::get(withElement(parameter.getType(), elementType)),
        StateKindAttr::get(builder.getContext(), kind),
        FlatSymbolRefAttr::get(parameter.getSymNameAttr()), parameter.getLayerAttr(),
        builder.getBoolAttr(false), StringAttr(), Attribute(), IntegerAttr(),
        parameter.getShardingAttr());
}

/// state ::= symbol-name `:` type `{` entry (`,` entry)* `}` (`from` attribute)?
/// entry ::= `kind` `=` keyword | name `=` attribute
ParseResult StateOp::parse(OpAsmParser &parser, OperationState &result) {
  MLIRContext *context = parser.getContext();
  StringAttr name;
  RankedTensorType type;
  if (parser.parseSymbolName(name, getSymNameAttrName(result.name), result.attributes) ||
      parser.parseColonType(type))
    return failure();
  result.addAttribute(getTypeAttrName(result.name), TypeAttr::get(type));

  auto parseEntry = [&]() -> ParseResult {
    llvm::SMLoc location = parser.getCurrentLocation();
    std::string key;
    if (parser.parseKeywordOrString(&key) || parser.parseEqual())
      return failure();
    if (result.attributes.get(key))
      return parser.emitError(location) << "gives \"" << key << "\" a second time";
    if (key != getKindAttrName(result.name)) {
      Attribute value;
      return parser.parseAttribute(value, key, result.attributes);
    }
    FailureOr<StateKind> kind = FieldParser<StateKind>::parse(parser);
    if (failed(kind))
      return failure();
    result.addAttribute(key, StateKindAttr::get(context, *kind));
    return success();
  };
  if (parser.parseCommaSeparatedList(OpAsmParser::Delimiter::Braces, parseEntry))
    return failure();
  Attribute from;
  if (succeeded(parser.parseOptionalKeyword("from")) &&
      parser.parseAttribute(from, getFromAttrName(result.name), result.attributes))
    return failure();
  // Else an attribute of the wrong kind would be dropped without a word.
  llvm::SMLoc location = parser.getNameLoc();
  return verifyInherentAttrs(result.name, result.attributes,
                             [&] { return parser.emitError(location); });
}

void StateOp::print(OpAsmPrinter &printer) {
  printer << ' ';
  printer.printSymbolName(getSymName());
  printer << " : " << getType() << " {kind = " << stringifyStateKind(getKind());
  for (NamedAttribute attribute : (*this)->getAttrs()) {
    StringRef name = attribute.getName();
    if (name == getSymNameAttrName() || name == getTypeAttrName() || name == getKindAttrName() ||
        name == getFromAttrName() || (name == getDecayAttrName() && !getDecay()))
      continue;
    printer << ", ";
    printer.printKeywordOrString(name);
    printer << " = ";
    auto integer = dyn_cast<IntegerAttr>(attribute.getValue());
    if (integer && integer.getType().isSignlessInteger(64))
      printer << integer.getInt();
    else
      printer << attribute.getValue();
  }
  printer << '}';
  if (getFromAttr())
    printer << " from " << getFromAttr();
}

/// Checks that `name` has each of `variables` in braces, and no other braces.
static LogicalResult verifyTensorName(StateOp op, StringRef name, ArrayRef<StringRef> variables) {
  llvm::SmallDenseSet<StringRef> used;
  for (StringRef rest = name; rest.find_first_of("{}") != StringRef::npos;) {
    auto [before, after] = rest.split('{');
    auto [variable, behind] = after.split('}');
    if (before.contains('}') || !after.contains('}') || !llvm::is_contained(variables, variable))
      return op.emitOpError("has the tensor \"")
             << name << "\" in from, with braces that hold no variable of a stack around it";
    used.insert(variable);
    rest = behind;
  }
  for (StringRef variable : variables)
    if (!used.contains(variable))
      return op.emitOpError("has the tensor \"") << name << "\" in from, without the variable {"
                                                 << variable << "} of a stack around it";
  if (name.empty())
    return op.emitOpError("has a tensor without a name in from");
  return success();
}

static LogicalResult verifySource(StateOp op, Attribute source, ArrayRef<int64_t> shape,
                                  SmallVectorImpl<StringRef> &variables);

/// Checks that the parts, by their rows or else in equal ones, fill the first extent of `shape`.
static LogicalResult verifyConcat(StateOp op, ConcatAttr concat, ArrayRef<int64_t> shape,
                                  SmallVectorImpl<StringRef> &variables) {
  int64_t count = concat.getParts().size();
  SmallVector<int64_t> rows(concat.getRows());
  if (rows.empty())
    rows.assign(count, shape.empty() ? 0 : shape[0] / count);
  int64_t sum = 0;
  for (int64_t part : rows)
    sum = std::min(sum + part, kMaxExtent + 1); // each is at most kMaxExtent
  // state_c5
  if (shape.empty() || sum != shape[0])
    return op.emitOpError("joins ")
           << count << " parts in from that do not fill " << (shape.empty() ? 1 : shape[0])
           << " rows of " << op.getType();
  SmallVector<int64_t> partShape(shape);
  for (auto [part, partRows] : llvm::zip_equal(concat.getParts(), rows)) {
    partShape[0] = partRows;
    if (failed(verifySource(op, part, partShape, variables)))
      return failure();
  }
  return success();
}

/// Checks the part `source` of `from`, which stands for a slice of `op`'s tensor of this shape,
/// inside stacks over `variables`.
static LogicalResult verifySource(StateOp op, Attribute source, ArrayRef<int64_t> shape,
                                  SmallVectorImpl<StringRef> &variables) {
  // state_c4
  if (auto name = dyn_cast<StringAttr>(source))
    return verifyTensorName(op, name.getValue(), variables);
  if (auto concat = dyn_cast<ConcatAttr>(source))
    return verifyConcat(op, concat, shape, variables);
  auto stack = dyn_cast<StackAttr>(source);
  if (!stack)
    return op.emitOpError("expects a string, a concat or a stack as from, but got ") << source;
  if (llvm::is_contained(variables, stack.getVariable()))
    return op.emitOpError("has a stack over ")
           << stack.getVariable() << " inside a stack over " << stack.getVariable();
  // state_c5
  int64_t count = stack.getEnd() - stack.getBegin();
  if (shape.empty() || shape[0] != count)
    return op.emitOpError("has a stack of ")
           << count << " in from, which is not an extent of " << op.getType() << " there";
  variables.push_back(stack.getVariable());
  LogicalResult result = verifySource(op, stack.getPart(), shape.drop_front(), variables);
  variables.pop_back();
  return result;
}

LogicalResult StateOp::verify() {
  bool isParameter = getKind() == StateKind::Parameter;
  // state_c1
  if (isParameter == static_cast<bool>(getOfAttr()))
    return emitOpError(isParameter ? "is a parameter and has `of`, which only other kinds have"
                                   : "is derived and needs `of`, the parameter it belongs to");
  // state_c3
  if (!isParameter && (getFromAttr() || getModuleNameAttr() || getDecay()))
    return emitOpError("is no parameter, and only a parameter has from, module_name or decay");
  // state_c6
  if ((getLayer() && *getLayer() < 0) || (getOffset() && *getOffset() < 0))
    return emitOpError("expects a layer and an offset that are not negative");
  if (!getFromAttr())
    return success();
  SmallVector<StringRef> variables;
  return verifySource(*this, getFromAttr(), getType().getShape(), variables);
}

/// The state that `op` names; fails, with a diagnostic, if it is not there.
static FailureOr<StateOp> lookup(Operation *op, FlatSymbolRefAttr name,
                                 SymbolTableCollection &symbols) {
  if (auto state = symbols.lookupNearestSymbolFrom<StateOp>(op, name))
    return state;
  return op->emitOpError("names ") << name << ", which is no moe.state of the module";
}

static FailureOr<StateOp> lookupParameter(Operation *op, FlatSymbolRefAttr name,
                                          SymbolTableCollection &symbols) {
  FailureOr<StateOp> state = lookup(op, name, symbols);
  if (succeeded(state) && state->getKind() != StateKind::Parameter)
    return op->emitOpError("names ")
           << name << ", a state of kind " << stringifyStateKind(state->getKind())
           << " where a parameter is expected";
  return state;
}

static LogicalResult verifyType(Operation *op, StateOp state, Type type,
                                SymbolTableCollection &symbols) {
  FailureOr<RankedTensorType> local = state.localType(&symbols);
  if (failed(local) || *local == type)
    return failure(failed(local));
  InFlightDiagnostic error = op->emitOpError("has the type ")
                             << type << ", but @" << state.getSymName() << " is of type "
                             << state.getType();
  if (state.getShardingAttr())
    error << ", of which each rank holds " << *local;
  return error;
}

/// Checks that no op of this kind that stands after `op` names the same state.
template <typename Op>
static LogicalResult verifyOnce(Op op, FlatSymbolRefAttr name,
                                function_ref<FlatSymbolRefAttr(Op)> nameOf) {
  for (Operation *other = op->getNextNode(); other; other = other->getNextNode())
    if (auto same = dyn_cast<Op>(other); same && nameOf(same) == name)
      return same.emitOpError("names ")
             << name << " a second time; a program does so once for each state";
  return success();
}

FailureOr<RankedTensorType> StateOp::localType(SymbolTableCollection *symbols) {
  return getShardingAttr() ? getShardingAttr().localType(getType(), *this, symbols) : getType();
}

LogicalResult StateOp::verifySymbolUses(SymbolTableCollection &symbols) {
  // state_c7
  if (failed(localType(&symbols)))
    return failure();
  if (!getOfAttr())
    return success();
  // state_c1
  FailureOr<StateOp> parameter = lookupParameter(*this, getOfAttr(), symbols);
  if (failed(parameter))
    return failure();
  // state_c2
  if (parameter->getType().getShape() != getType().getShape())
    return emitOpError("has the type ") << getType() << ", which is not of the shape of "
                                        << getOfAttr() << ", " << parameter->getType();
  if (getKind() == StateKind::Master && !getType().getElementType().isF32())
    return emitOpError("is a master, which is of f32, but has the type ") << getType();
  return success();
}

void ReadOp::build(OpBuilder &builder, OperationState &state, StateOp source) {
  FailureOr<RankedTensorType> local = source.localType();
  build(builder, state, succeeded(local) ? *local : source.getType(),
        FlatSymbolRefAttr::get(source.getSymNameAttr()));
}

LogicalResult ReadOp::verifySymbolUses(SymbolTableCollection &symbols) {
  // read_c1
  FailureOr<StateOp> state = lookup(*this, getStateAttr(), symbols);
  // read_c2
  return failure(failed(state) ||
                 failed(verifyType(*this, *state, getResult().getType(), symbols)));
}

LogicalResult WriteOp::verifySymbolUses(SymbolTableCollection &symbols) {
  // write_c1
  FailureOr<StateOp> state = lookup(*this, getStateAttr(), symbols);
  // write_c2
  if (failed(state) || failed(verifyType(*this, *state, getValue().getType(), symbols)))
    return failure();
  // write_c3
  return verifyOnce<WriteOp>(*this, getStateAttr(), [](WriteOp op) { return op.getStateAttr(); });
}

LogicalResult GradientOp::verifySymbolUses(SymbolTableCollection &symbols) {
  // gradient_c1
  FailureOr<StateOp> state = lookupParameter(*this, getParameterAttr(), symbols);
  if (failed(state))
    return failure();
  // gradient_c2
  FailureOr<RankedTensorType> local = state->localType(&symbols);
  if (failed(local))
    return failure();
  if (local->getShape() != getValue().getType().getShape())
    return emitOpError("has the type ") << getValue().getType() << ", which is not of the shape of "
                                        << getParameterAttr() << ", " << *local;
  // gradient_c3
  return verifyOnce<GradientOp>(*this, getParameterAttr(),
                                [](GradientOp op) { return op.getParameterAttr(); });
}

} // namespace switchyard::moe
