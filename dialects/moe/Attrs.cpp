#include "dialects/moe/Extents.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace switchyard::moe;

#include "dialects/moe/Enums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/moe/Attrs.cpp.inc"

void MoEDialect::registerAttributes() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/moe/Attrs.cpp.inc"
      >();
}

static bool isIdentifier(StringRef text) {
  return !text.empty() && !llvm::isDigit(text.front()) &&
         llvm::all_of(text, [](char c) { return llvm::isAlnum(c) || c == '_'; });
}

/// rows ::= `<` (integer `*`)? string (`+` integer)? `>`
Attribute RowsAttr::parse(AsmParser &parser, Type) {
  int64_t scale = 1, offset = 0;
  std::string symbol;
  llvm::SMLoc start = parser.getCurrentLocation();
  if (parser.parseLess())
    return {};
  OptionalParseResult hasScale = parser.parseOptionalInteger(scale);
  if (hasScale.has_value() && (failed(*hasScale) || parser.parseStar()))
    return {};
  if (parser.parseString(&symbol) ||
      (succeeded(parser.parseOptionalPlus()) && parser.parseInteger(offset)) ||
      parser.parseGreater())
    return {};
  return parser.getChecked<RowsAttr>(start, parser.getContext(), scale, StringRef(symbol), offset);
}

void RowsAttr::print(AsmPrinter &printer) const {
  printer << '<';
  if (getScale() != 1)
    printer << getScale() << " * ";
  printer << '"' << getSymbol() << '"';
  if (getOffset() != 0)
    printer << " + " << getOffset();
  printer << '>';
}

LogicalResult RowsAttr::verify(function_ref<InFlightDiagnostic()> emitError, int64_t scale,
                               StringRef symbol, int64_t offset) {
  // rows_c1
  if (!isIdentifier(symbol))
    return emitError() << "#moe.rows: expects an identifier as the symbol, but got \"" << symbol
                       << '"';
  // rows_c2
  if (scale < 1 || scale > kMaxExtent)
    return emitError() << "#moe.rows: expects a scale in [1, 2^40], but got " << scale;
  if (offset < 0 || offset > kMaxExtent)
    return emitError() << "#moe.rows: expects an offset in [0, 2^40], but got " << offset;
  return success();
}

LogicalResult RowsAttr::verifyEncoding(ArrayRef<int64_t> shape, Type,
                                       function_ref<InFlightDiagnostic()> emitError) const {
  // rows_c3
  if (shape.empty() || !ShapedType::isDynamic(shape.front()) ||
      llvm::any_of(shape.drop_front(), ShapedType::isDynamic))
    return emitError()
           << "#moe.rows: expects a tensor whose first extent, and no other, is dynamic";
  return success();
}

RowsAttr RowsAttr::scaled(int64_t factor) const {
  return (Extent(*this) * Extent(factor)).rows(getContext());
}

static bool isSource(Attribute attribute) {
  return isa_and_present<StringAttr, ConcatAttr, StackAttr>(attribute);
}

LogicalResult ConcatAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                 ArrayRef<Attribute> parts, ArrayRef<int64_t> rows) {
  // concat_c1
  if (parts.empty())
    return emitError() << "#moe.concat: expects at least one part";
  for (Attribute part : parts)
    if (!isSource(part))
      return emitError() << "#moe.concat: expects strings, concats and stacks, but got " << part;
  // concat_c2
  if (!rows.empty() && rows.size() != parts.size())
    return emitError() << "#moe.concat: expects the rows of " << parts.size()
                       << " parts, but got those of " << rows.size();
  for (int64_t count : rows)
    if (count < 1 || count > kMaxExtent)
      return emitError() << "#moe.concat: expects rows in [1, 2^40], but got " << count;
  return success();
}

/// stack ::= `<` identifier `=` integer `to` integer `,` attribute `>`
Attribute StackAttr::parse(AsmParser &parser, Type) {
  std::string variable;
  int64_t begin, end;
  Attribute part;
  llvm::SMLoc start = parser.getCurrentLocation();
  if (parser.parseLess() || parser.parseKeywordOrString(&variable) || parser.parseEqual() ||
      parser.parseInteger(begin) || parser.parseKeyword("to") || parser.parseInteger(end) ||
      parser.parseComma() || parser.parseAttribute(part) || parser.parseGreater())
    return {};
  return parser.getChecked<StackAttr>(start, parser.getContext(), StringRef(variable), begin, end,
                                      part);
}

void StackAttr::print(AsmPrinter &printer) const {
  printer << '<' << getVariable() << " = " << getBegin() << " to " << getEnd() << ", " << getPart()
          << '>';
}

LogicalResult StackAttr::verify(function_ref<InFlightDiagnostic()> emitError, StringRef variable,
                                int64_t begin, int64_t end, Attribute part) {
  // stack_c1
  if (!isIdentifier(variable))
    return emitError() << "#moe.stack: expects an identifier as the variable, but got \""
                       << variable << '"';
  // stack_c2
  if (begin < 0 || begin >= end || end > 65536)
    return emitError() << "#moe.stack: expects 0 <= begin < end <= 65536, but got " << begin
                       << " to " << end;
  // stack_c3
  if (!isSource(part))
    return emitError() << "#moe.stack: expects a string, a concat or a stack, but got " << part;
  return success();
}
