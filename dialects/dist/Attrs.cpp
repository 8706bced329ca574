// Axes, meshes and shardings: their assembly, their verification, and the arithmetic of ranks.

#include "dialects/dist/Dist.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace switchyard::dist;

#include "dialects/dist/Enums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/dist/Attrs.cpp.inc"

void DistDialect::registerAttributes() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/dist/Attrs.cpp.inc"
      >();
}

/// axis ::= string
static ParseResult parseAxis(AsmParser &parser, SmallVectorImpl<Axis> &axes) {
  llvm::SMLoc location = parser.getCurrentLocation();
  std::string name;
  if (parser.parseString(&name))
    return failure();
  std::optional<Axis> axis = symbolizeAxis(name);
  if (!axis)
    return parser.emitError(location)
           << "expects \"dp\", \"fsdp\" or \"ep\" as an axis, but got \"" << name << '"';
  axes.push_back(*axis);
  return success();
}

/// Checks that each axis is there once, in the order of the enumeration.
static LogicalResult verifyOrder(function_ref<InFlightDiagnostic()> emitError, StringRef what,
                                 ArrayRef<Axis> axes) {
  for (size_t i = 1; i < axes.size(); ++i)
    if (axes[i] <= axes[i - 1])
      return emitError() << what << ": expects each axis once, in the order \"dp\", \"fsdp\", "
                         << "\"ep\", but got \"" << stringifyAxis(axes[i]) << "\" after \""
                         << stringifyAxis(axes[i - 1]) << '"';
  return success();
}

namespace switchyard::dist {

/// axes ::= `[` (axis (`,` axis)*)? `]`
ParseResult parseAxes(AsmParser &parser, AxesAttr &axes) {
  llvm::SMLoc location = parser.getCurrentLocation();
  SmallVector<Axis> list;
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square,
                                     [&] { return parseAxis(parser, list); }))
    return failure();
  axes = parser.getChecked<AxesAttr>(location, parser.getContext(), list);
  return success(static_cast<bool>(axes));
}

static void printAxes(AsmPrinter &printer, AxesAttr axes) {
  printer << '[';
  llvm::interleaveComma(axes.getAxes(), printer,
                        [&](Axis axis) { printer << '"' << stringifyAxis(axis) << '"'; });
  printer << ']';
}

void printAxes(AsmPrinter &printer, Operation *, AxesAttr axes) {
  printAxes(printer, axes);
}

Attribute AxesAttr::parse(AsmParser &parser, Type) {
  AxesAttr axes;
  if (parser.parseLess() || parseAxes(parser, axes) || parser.parseGreater())
    return {};
  return axes;
}

void AxesAttr::print(AsmPrinter &printer) const {
  printer << '<';
  printAxes(printer, *this);
  printer << '>';
}

LogicalResult AxesAttr::verify(function_ref<InFlightDiagnostic()> emitError, ArrayRef<Axis> axes) {
  // axes_c1
  if (axes.empty())
    return emitError() << "#dist.axes: expects at least one axis";
  // axes_c2
  return verifyOrder(emitError, "#dist.axes", axes);
}

bool AxesAttr::isSubsetOf(AxesAttr other) const {
  return llvm::all_of(getAxes(), [&](Axis axis) { return other.contains(axis); });
}

/// mesh ::= `<` `[` (axis `=` integer (`,` axis `=` integer)*)? `]` `>`
Attribute MeshAttr::parse(AsmParser &parser, Type) {
  llvm::SMLoc location = parser.getCurrentLocation();
  SmallVector<Axis> axes;
  SmallVector<int64_t> sizes;
  auto parseEntry = [&]() -> ParseResult {
    return failure(parseAxis(parser, axes) || parser.parseEqual() ||
                   parser.parseInteger(sizes.emplace_back()));
  };
  if (parser.parseLess() ||
      parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, parseEntry) ||
      parser.parseGreater())
    return {};
  return parser.getChecked<MeshAttr>(location, parser.getContext(), axes, sizes);
}

void MeshAttr::print(AsmPrinter &printer) const {
  printer << "<[";
  llvm::interleaveComma(llvm::zip_equal(getAxes(), getSizes()), printer, [&](auto entry) {
    auto [axis, size] = entry;
    printer << '"' << stringifyAxis(axis) << "\"=" << size;
  });
  printer << "]>";
}

LogicalResult MeshAttr::verify(function_ref<InFlightDiagnostic()> emitError, ArrayRef<Axis> axes,
                               ArrayRef<int64_t> sizes) {
  // mesh_c1
  if (failed(verifyOrder(emitError, "#dist.mesh", axes)))
    return failure();
  if (axes.size() != sizes.size())
    return emitError() << "#dist.mesh: expects a size for each of " << axes.size()
                       << " axes, but got " << sizes.size();
  // mesh_c2
  int64_t ranks = 1;
  for (auto [axis, size] : llvm::zip_equal(axes, sizes)) {
    if (size < 1)
      return emitError() << "#dist.mesh: expects sizes of at least 1, but \"" << stringifyAxis(axis)
                         << "\" has size " << size;
    if (__builtin_mul_overflow(ranks, size, &ranks) || ranks > kMaxRanks)
      return emitError() << "#dist.mesh: has more than " << kMaxRanks << " ranks";
  }
  return success();
}

int64_t MeshAttr::numRanks() const {
  int64_t ranks = 1;
  for (int64_t size : getSizes())
    ranks *= size;
  return ranks;
}

std::optional<int64_t> MeshAttr::sizeOf(Axis axis) const {
  for (auto [other, size] : llvm::zip_equal(getAxes(), getSizes()))
    if (other == axis)
      return size;
  return std::nullopt;
}

std::optional<int64_t> MeshAttr::groupSize(AxesAttr axes) const {
  int64_t ranks = 1;
  for (Axis axis : axes.getAxes()) {
    std::optional<int64_t> size = sizeOf(axis);
    if (!size)
      return std::nullopt;
    ranks *= *size;
  }
  return ranks;
}

int64_t MeshAttr::coordinate(int64_t rank, Axis axis) const {
  for (auto [other, size] : llvm::reverse(llvm::zip_equal(getAxes(), getSizes()))) {
    if (other == axis)
      return rank % size;
    rank /= size;
  }
  return 0;
}

int64_t MeshAttr::indexInGroup(int64_t rank, AxesAttr axes) const {
  int64_t index = 0;
  for (Axis axis : axes.getAxes())
    index = index * *sizeOf(axis) + coordinate(rank, axis);
  return index;
}

SmallVector<int64_t> MeshAttr::groupOf(int64_t rank, AxesAttr axes) const {
  // From the last axis to the first: the ranks found so far, once for each coordinate, at the
  // distance that the axis has between neighbours.
  SmallVector<int64_t> group{0};
  int64_t stride = 1;
  for (auto [axis, size] : llvm::reverse(llvm::zip_equal(getAxes(), getSizes()))) {
    if (axes.contains(axis)) {
      SmallVector<int64_t> wider;
      for (int64_t i = 0; i < size; ++i)
        for (int64_t other : group)
          wider.push_back(other + i * stride);
      group = std::move(wider);
    } else {
      for (int64_t &other : group)
        other += coordinate(rank, axis) * stride;
    }
    stride *= size;
  }
  return group;
}

/// sharding ::= `<` (`dim` `0` `over` axes)? `,`? (`flat` `over` axes)? `>`
Attribute ShardingAttr::parse(AsmParser &parser, Type) {
  llvm::SMLoc location = parser.getCurrentLocation();
  AxesAttr dim0, flat;
  if (parser.parseLess())
    return {};
  if (succeeded(parser.parseOptionalKeyword("dim"))) {
    llvm::SMLoc place = parser.getCurrentLocation();
    int64_t dimension;
    if (parser.parseInteger(dimension))
      return {};
    if (dimension != 0) {
      parser.emitError(place) << "expects dimension 0, but got " << dimension
                              << ": a rank's part is one range of the state's elements";
      return {};
    }
    if (parser.parseKeyword("over") || parseAxes(parser, dim0) ||
        (succeeded(parser.parseOptionalComma()) &&
         (parser.parseKeyword("flat") || parser.parseKeyword("over") || parseAxes(parser, flat))))
      return {};
  } else if (succeeded(parser.parseOptionalKeyword("flat")) &&
             (parser.parseKeyword("over") || parseAxes(parser, flat))) {
    return {};
  }
  if (parser.parseGreater())
    return {};
  return parser.getChecked<ShardingAttr>(location, parser.getContext(), dim0, flat);
}

void ShardingAttr::print(AsmPrinter &printer) const {
  printer << '<';
  if (getDim0()) {
    printer << "dim 0 over ";
    printAxes(printer, getDim0());
  }
  if (getFlat()) {
    printer << (getDim0() ? ", flat over " : "flat over ");
    printAxes(printer, getFlat());
  }
  printer << '>';
}

LogicalResult ShardingAttr::verify(function_ref<InFlightDiagnostic()> emitError, AxesAttr dim0,
                                   AxesAttr flat) {
  // sharding_c1
  if (!dim0 && !flat)
    return emitError() << "#dist.sharding: expects axes that divide dimension 0, or a flat "
                          "division, or both";
  // sharding_c2
  if (dim0 && flat)
    for (Axis axis : flat.getAxes())
      if (dim0.contains(axis))
        return emitError() << "#dist.sharding: divides over \"" << stringifyAxis(axis)
                           << "\" twice";
  return success();
}

FailureOr<RankedTensorType> ShardingAttr::localType(RankedTensorType logical, Operation *state,
                                                    SymbolTableCollection *symbols) const {
  SmallVector<int64_t> shape(logical.getShape());
  if (getDim0()) {
    // sharding_c3
    FailureOr<int64_t> ranks = lookupGroupSize(state, getDim0(), symbols);
    if (failed(ranks))
      return failure();
    // sharding_c4
    if (shape.empty() || shape[0] % *ranks != 0)
      return state->emitOpError("is divided along dimension 0 among ")
             << *ranks << " ranks (" << *this << "), which do not divide "
             << (shape.empty() ? 1 : shape[0]) << ", its extent in " << logical;
    shape[0] /= *ranks;
  }
  auto left = RankedTensorType::get(shape, logical.getElementType());
  // sharding_c5; what is left of no more elements has no more
  if (!elementCount(logical))
    return state->emitOpError("has more than 2^40 elements, too many to be divided: ") << logical;
  if (!getFlat())
    return left;
  // sharding_c3
  FailureOr<int64_t> ranks = lookupGroupSize(state, getFlat(), symbols);
  if (failed(ranks))
    return failure();
  return RankedTensorType::get({flatShardElements(*elementCount(left), *ranks)},
                               logical.getElementType());
}

ElementRange ShardingAttr::localRange(MeshAttr mesh, RankedTensorType logical, int64_t rank) const {
  ElementRange range{0, *elementCount(logical)};
  if (getDim0()) {
    int64_t part = range.end / *mesh.groupSize(getDim0());
    range.begin = mesh.indexInGroup(rank, getDim0()) * part;
    range.end = range.begin + part;
  }
  if (getFlat()) {
    int64_t part = flatShardElements(range.end - range.begin, *mesh.groupSize(getFlat()));
    int64_t end = range.end;
    range.begin = std::min(range.begin + mesh.indexInGroup(rank, getFlat()) * part, end);
    range.end = std::min(range.begin + part, end);
  }
  return range;
}

} // namespace switchyard::dist
