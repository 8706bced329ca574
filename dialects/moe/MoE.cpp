#include "dialects/moe/MoE.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace switchyard::moe;

#include "dialects/moe/Dialect.cpp.inc"

#define GET_OP_CLASSES
#include "dialects/moe/Ops.cpp.inc"

void MoEDialect::initialize() {
  registerAttributes();
  addOperations<
#define GET_OP_LIST
#include "dialects/moe/Ops.cpp.inc"
      >();
}

namespace switchyard::moe {

static unsigned elementsOf(Type element) {
  if (element.isF32())
    return kF32;
  if (element.isBF16())
    return kBF16;
  return element.isSignlessInteger(32) ? unsigned(kI32) : 0;
}

bool isTensor(Type type, unsigned elements, int rank) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor || (rank < 0 ? tensor.getRank() > kMaxRank : tensor.getRank() != rank) ||
      !(elementsOf(tensor.getElementType()) & elements))
    return false;
  if (llvm::any_of(tensor.getShape(), [](int64_t size) { return size > kMaxExtent; }))
    return false;
  // RowsAttr's own verification has seen to it that the first extent is the only dynamic one.
  return tensor.getEncoding() ? isa<RowsAttr>(tensor.getEncoding()) : tensor.hasStaticShape();
}

bool isStaticTensor(Type type, unsigned elements, int rank) {
  return isTensor(type, elements, rank) && cast<RankedTensorType>(type).hasStaticShape();
}

Type withElement(Type type, Type element) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor ? tensor.clone(element) : type;
}

} // namespace switchyard::moe

Operation *MoEDialect::materializeConstant(OpBuilder &builder, Attribute value, Type type,
                                           Location location) {
  auto real = dyn_cast<FloatAttr>(value);
  if (!real || !real.getType().isF64() || !isTensor(type, kF32 | kBF16, -1))
    return nullptr;
  return ConstantOp::create(builder, location, type, real);
}

LogicalResult MoEDialect::verifyOperationAttribute(Operation *op, NamedAttribute attribute) {
  if (attribute.getName() != kModelAttr)
    return op->emitOpError("has an attribute ")
           << attribute.getName() << ", which the moe dialect does not know";
  if (!isa<ModuleOp>(op) || !isa<DictionaryAttr>(attribute.getValue()))
    return op->emitOpError("has moe.model, which is a dictionary of a module");
  return success();
}

static LogicalResult verifyName(Operation *op, NamedAttribute attribute) {
  if (attribute.getName() != kNameAttr)
    return op->emitOpError("has an argument or a result with ")
           << attribute.getName() << ", which the moe dialect does not know";
  auto name = dyn_cast<StringAttr>(attribute.getValue());
  if (!name || name.empty())
    return op->emitOpError("has a moe.name that is not a string with something in it: ")
           << attribute.getValue();
  return success();
}

LogicalResult MoEDialect::verifyRegionArgAttribute(Operation *op, unsigned, unsigned,
                                                   NamedAttribute attribute) {
  return verifyName(op, attribute);
}

LogicalResult MoEDialect::verifyRegionResultAttribute(Operation *op, unsigned, unsigned,
                                                      NamedAttribute attribute) {
  return verifyName(op, attribute);
}
