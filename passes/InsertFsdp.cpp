#include "passes/Passes.h"
#include "passes/StateReads.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_INSERTFSDP
#include "passes/Passes.h.inc"

namespace {

/// Those of `candidates` that the mesh has and that `taken`, if not null, leaves; null for none.
dist::AxesAttr axesOf(dist::MeshAttr mesh, ArrayRef<dist::Axis> candidates, dist::AxesAttr taken) {
  SmallVector<dist::Axis> axes;
  for (dist::Axis axis : candidates)
    if (mesh.sizeOf(axis) && !(taken && taken.contains(axis)))
      axes.push_back(axis);
  return axes.empty() ? dist::AxesAttr() : dist::AxesAttr::get(mesh.getContext(), axes);
}

struct InsertFsdp : impl::InsertFsdpBase<InsertFsdp> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    dist::MeshOp mesh = dist::lookupMesh(module);
    if (mesh && failed(divide(module, mesh.getMesh())))
      signalPassFailure();
  }

  /// How a parameter reaches the ranks that use it.
  struct Division {
    RankedTensorType type;     // of what programs read so far
    dist::AxesAttr flat;       // over which it is divided now; null for none
    dist::AxesAttr replicated; // over which it is the same on ranks with different tokens
  };

  LogicalResult divide(ModuleOp module, dist::MeshAttr mesh) {
    if (failed(checkNothingDerived(module, getArgument())))
      return failure();
    SymbolTable symbols(module);
    llvm::DenseMap<moe::StateOp, Division> divisions;
    for (auto state : module.getOps<moe::StateOp>()) {
      FailureOr<Division> division = divide(state, mesh);
      if (failed(division))
        return failure();
      divisions[state] = *division;
    }
    for (auto function : module.getOps<func::FuncOp>()) {
      if (!function.getBody().hasOneBlock())
        return function.emitError("insert-fsdp: @")
               << function.getName() << " has " << function.getBody().getBlocks().size()
               << " blocks; a program is a single block";
      for (auto &[state, reads] : collectReads(function, symbols))
        makeWhole(state, reads, divisions.at(state));
    }
    return success();
  }

  FailureOr<Division> divide(moe::StateOp state, dist::MeshAttr mesh) {
    auto sharding = dyn_cast_if_present<dist::ShardingAttr>(state.getShardingAttr());
    if (sharding && sharding.getFlat())
      return state.emitOpError("@") << state.getSymName() << " is divided already: " << sharding;
    FailureOr<RankedTensorType> type = state.localType();
    if (failed(type))
      return failure();
    dist::AxesAttr dim0 = sharding ? sharding.getDim0() : dist::AxesAttr();
    Division division{*type, axesOf(mesh, {dist::Axis::Fsdp, dist::Axis::Ep}, dim0),
                      axesOf(mesh, {dist::Axis::Dp}, dim0)};
    if (division.flat)
      state.setShardingAttr(dist::ShardingAttr::get(state.getContext(), dim0, division.flat));
    return division;
  }

  void makeWhole(moe::StateOp state, const Reads &reads, const Division &division) {
    replaceReads(state, reads, [&](OpBuilder &builder, Value value) {
      Location location = value.getLoc();
      if (division.replicated)
        value = dist::ReplicateOp::create(builder, location, value, division.replicated);
      if (division.flat)
        value = dist::AllGatherOp::create(builder, location, division.type, value, division.flat);
      return value;
    });
  }
};

} // namespace
} // namespace switchyard::passes
