#include "dialects/dist/Dist.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace switchyard::dist;

#include "dialects/dist/Dialect.cpp.inc"
#include "dialects/dist/Interfaces.cpp.inc"

#define GET_OP_CLASSES
#include "dialects/dist/Ops.cpp.inc"

void DistDialect::initialize() {
  registerAttributes();
  addOperations<
#define GET_OP_LIST
#include "dialects/dist/Ops.cpp.inc"
      >();
}

namespace switchyard::dist {

LogicalResult DistDialect::verifyRegionArgAttribute(Operation *op, unsigned, unsigned,
                                                    NamedAttribute attribute) {
  if (attribute.getName() != kReplicatedAttr)
    return op->emitOpError("has an argument with ")
           << attribute.getName() << ", which the dist dialect does not know";
  auto axes = dyn_cast<AxesAttr>(attribute.getValue());
  if (!axes)
    return op->emitOpError("has a dist.replicated that is not a #dist.axes: ")
           << attribute.getValue();
  return failure(failed(lookupGroupSize(op, axes)));
}

int64_t flatShardElements(int64_t elements, int64_t ranks) {
  return static_cast<int64_t>(llvm::divideCeil(elements, ranks * kFlatAlignment)) * kFlatAlignment;
}

std::optional<int64_t> elementCount(RankedTensorType type) {
  int64_t count = 1;
  for (int64_t size : type.getShape())
    if (ShapedType::isDynamic(size) || __builtin_mul_overflow(count, size, &count) ||
        count > moe::kMaxExtent)
      return std::nullopt;
  return count;
}

MeshOp lookupMesh(Operation *from, SymbolTableCollection *symbols) {
  Operation *module = from;
  while (module && !isa<ModuleOp>(module))
    module = module->getParentOp();
  if (!module)
    return {};
  StringAttr name = StringAttr::get(from->getContext(), kMeshName);
  return dyn_cast_or_null<MeshOp>(symbols ? symbols->lookupSymbolIn(module, name)
                                          : SymbolTable::lookupSymbolIn(module, name));
}

FailureOr<int64_t> lookupGroupSize(Operation *op, AxesAttr axes, SymbolTableCollection *symbols) {
  MeshOp mesh = lookupMesh(op, symbols);
  if (!mesh)
    return op->emitOpError("is over axes of a mesh, but the module declares none; add dist.mesh "
                           "@mesh");
  for (Axis axis : axes.getAxes())
    if (!mesh.getMesh().sizeOf(axis))
      return op->emitOpError("is over the axis \"")
             << stringifyAxis(axis) << "\", which the mesh does not have; it is " << mesh.getMesh();
  return *mesh.getMesh().groupSize(axes);
}

bool isOverReceivedRows(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  auto rows = tensor ? dyn_cast_if_present<moe::RowsAttr>(tensor.getEncoding()) : moe::RowsAttr();
  return rows && rows.getSymbol() == kReceivedSymbol;
}

void MeshOp::build(OpBuilder &builder, OperationState &state, MeshAttr mesh) {
  build(builder, state, builder.getStringAttr(kMeshName), mesh);
}

LogicalResult MeshOp::verify() {
  // mesh_op_c1
  if (getSymName() != kMeshName)
    return emitOpError("is named @")
           << getSymName() << ", but a module's only mesh is named @" << kMeshName;
  return success();
}

} // namespace switchyard::dist
