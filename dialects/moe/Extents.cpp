#include "dialects/moe/Extents.h"

using namespace mlir;

namespace switchyard::moe {

Extent::Extent(int64_t size)
    : valid_(size >= 0 && size <= kMaxExtent), offset_(valid_ ? size : 0) {}

Extent::Extent(RowsAttr rows)
    : valid_(true), scale_(rows.getScale()), symbol_(rows.getSymbol()), offset_(rows.getOffset()) {}

Extent Extent::of(Type type, unsigned dim) {
  auto tensor = dyn_cast_if_present<RankedTensorType>(type);
  if (!tensor || dim >= tensor.getRank())
    return {};
  if (!tensor.isDynamicDim(dim))
    return Extent(tensor.getDimSize(dim));
  auto rows = dyn_cast_if_present<RowsAttr>(tensor.getEncoding());
  return rows && dim == 0 ? Extent(rows) : Extent();
}

bool Extent::operator==(const Extent &other) const {
  return valid_ && other.valid_ && scale_ == other.scale_ && symbol_ == other.symbol_ &&
         offset_ == other.offset_;
}

/// a * b, or -1 where that is more than kMaxExtent. Neither is negative.
static int64_t boundedProduct(int64_t a, int64_t b) {
  int64_t product;
  return __builtin_mul_overflow(a, b, &product) || product > kMaxExtent ? -1 : product;
}

Extent Extent::operator*(const Extent &other) const {
  if (!isStatic())
    return other.isStatic() ? other * *this : Extent();
  Extent product = other;
  product.scale_ = boundedProduct(other.scale_, offset_);
  product.offset_ = boundedProduct(other.offset_, offset_);
  if (!other.valid_ || product.scale_ < 0 || product.offset_ < 0)
    return {};
  if (product.scale_ == 0)
    product.symbol_ = {};
  return product;
}

Extent Extent::operator+(const Extent &other) const {
  return isStatic() && other.isStatic() ? Extent(offset_ + other.offset_) : Extent();
}

int64_t Extent::size() const {
  return isStatic() ? offset_ : ShapedType::kDynamic;
}

RowsAttr Extent::rows(MLIRContext *context) const {
  return valid_ && !symbol_.empty() ? RowsAttr::get(context, scale_, symbol_, offset_) : RowsAttr();
}

llvm::raw_ostream &operator<<(llvm::raw_ostream &stream, const Extent &extent) {
  if (!extent.valid_)
    return stream << "no valid extent";
  if (extent.symbol_.empty())
    return stream << extent.offset_;
  if (extent.scale_ != 1)
    stream << extent.scale_ << " * ";
  stream << '"' << extent.symbol_ << '"';
  return extent.offset_ ? stream << " + " << extent.offset_ : stream;
}

RankedTensorType tensorType(ArrayRef<Extent> extents, Type element) {
  if (!element)
    return {};
  SmallVector<int64_t> shape;
  RowsAttr rows;
  for (const Extent &extent : extents) {
    if (!extent.isValid() || (!shape.empty() && !extent.isStatic()))
      return {};
    if (shape.empty())
      rows = extent.rows(element.getContext());
    shape.push_back(extent.size());
  }
  return RankedTensorType::get(shape, element, rows);
}

Type elementOf(Value value) {
  auto tensor = dyn_cast<RankedTensorType>(value.getType());
  return tensor ? tensor.getElementType() : Type();
}

LogicalResult inferTensor(std::optional<Location> location, SmallVectorImpl<Type> &types,
                          ArrayRef<Extent> extents, Type element) {
  RankedTensorType type = tensorType(extents, element);
  if (!type)
    return emitOptionalError(location, "cannot infer the type of result #", types.size(),
                             "; expects operands with static extents, but for a first one given "
                             "by #moe.rows, and results with extents up to 2^40");
  types.push_back(type);
  return success();
}

LogicalResult verifySumElement(Operation *op, Value sum, Value operand) {
  if (elementOf(sum).isF32() || elementOf(sum) == elementOf(operand))
    return success();
  return op->emitOpError("expects a sum in f32 or rounded to ")
         << elementOf(operand) << ", the operands' element type, but it is in " << elementOf(sum);
}

Extent ShapeMatcher::operator[](StringRef name) const {
  const auto *found = llvm::find_if(bindings_, [&](const Binding &b) { return b.name == name; });
  return found == bindings_.end() ? Extent() : found->extent;
}

static std::string toString(const Extent &extent) {
  std::string text;
  llvm::raw_string_ostream(text) << extent;
  return text;
}

LogicalResult ShapeMatcher::match(StringRef what, Value value, ArrayRef<Expected> dims) {
  for (auto [dim, expected] : llvm::enumerate(dims)) {
    Extent found = Extent::of(value, dim);
    std::string where = ("dimension " + Twine(dim) + " of " + what).str();
    if (expected.name.empty()) {
      if (found != expected.extent)
        return op_->emitOpError("expects ") << where << " to be " << toString(expected.extent)
                                            << ", but it is " << toString(found);
      continue;
    }
    const auto *bound =
        llvm::find_if(bindings_, [&](const Binding &b) { return b.name == expected.name; });
    if (bound == bindings_.end())
      bindings_.push_back({expected.name, found, where});
    else if (found != bound->extent)
      return op_->emitOpError("expects ")
             << where << " to be " << expected.name << " = " << toString(bound->extent) << ", as "
             << bound->where << " is, but it is " << toString(found);
  }
  return success();
}

} // namespace switchyard::moe
