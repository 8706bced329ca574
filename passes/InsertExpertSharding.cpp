#include "passes/Passes.h"
#include "passes/StateReads.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_INSERTEXPERTSHARDING
#include "passes/Passes.h.inc"

namespace {

struct InsertExpertSharding : impl::InsertExpertShardingBase<InsertExpertSharding> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    dist::MeshOp mesh = dist::lookupMesh(module);
    if (mesh && mesh.getMesh().sizeOf(dist::Axis::Ep) && failed(divide(module, mesh.getMesh())))
      signalPassFailure();
  }

  LogicalResult divide(ModuleOp module, dist::MeshAttr mesh) {
    if (failed(checkNothingDerived(module, getArgument())))
      return failure();
    SymbolTable symbols(module);
    auto ep = dist::AxesAttr::get(module.getContext(), dist::Axis::Ep);
    llvm::SetVector<moe::StateOp> experts;
    WalkResult walk = module.walk([&](moe::ExpertsOp op) {
      for (Value weight : {op.getGateUp(), op.getDown()}) {
        auto read = weight.getDefiningOp<moe::ReadOp>();
        if (!read) {
          op.emitOpError("has a weight that no moe.read yields; only the experts of a state can be "
                         "divided among ranks");
          return WalkResult::interrupt();
        }
        experts.insert(symbols.lookup<moe::StateOp>(read.getState()));
      }
      return WalkResult::advance();
    });
    if (walk.wasInterrupted())
      return failure();
    for (moe::StateOp state : experts)
      if (failed(divide(state, ep, *mesh.sizeOf(dist::Axis::Ep))))
        return failure();
    for (auto function : module.getOps<func::FuncOp>())
      for (auto &[state, reads] : collectReads(function, symbols))
        if (experts.contains(state))
          gather(state, reads, ep);
    return success();
  }

  LogicalResult divide(moe::StateOp state, dist::AxesAttr ep, int64_t ranks) {
    if (state.getShardingAttr())
      return state.emitOpError("@")
             << state.getSymName() << " is divided already: " << state.getShardingAttr();
    const int64_t count = state.getType().getDimSize(0);
    if (count % ranks != 0)
      return state.emitOpError("@")
             << state.getSymName() << " has " << count << " experts, which \"ep\"=" << ranks
             << " does not divide; choose a mesh whose \"ep\" is a divisor of " << count;
    state.setShardingAttr(dist::ShardingAttr::get(state.getContext(), ep, dist::AxesAttr()));
    return success();
  }

  void gather(moe::StateOp state, const Reads &reads, dist::AxesAttr ep) {
    replaceReads(state, reads, [&](OpBuilder &builder, Value part) {
      return dist::AllGatherOp::create(builder, part.getLoc(), state.getType(), part, ep);
    });
  }
};

} // namespace
} // namespace switchyard::passes
