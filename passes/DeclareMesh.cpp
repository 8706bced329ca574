#include "passes/MeshOption.h"
#include "passes/Passes.h"
#include "passes/Policy.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_DECLAREMESH
#include "passes/Passes.h.inc"

namespace {

struct DeclareMesh : impl::DeclareMeshBase<DeclareMesh> {
  using DeclareMeshBase::DeclareMeshBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (!mesh.empty() && failed(declare(module)))
      return signalPassFailure();
    dist::MeshOp declared = dist::lookupMesh(module);
    auto model = module->getAttrOfType<DictionaryAttr>(kModelAttr);
    auto scope = model ? model.getAs<StringAttr>("aux_loss_scope") : StringAttr();
    if (declared && scope && scope == "pass")
      module.walk([&](moe::LoadBalanceLossOp op) { balanceOverRanks(op, declared.getMesh()); });
  }

  LogicalResult declare(ModuleOp module) {
    MeshSizes sizes;
    if (std::optional<std::string> fault = parseMesh(mesh, sizes))
      return module.emitError("declare-mesh: mesh: ") << *fault;
    if (dist::MeshOp other = dist::lookupMesh(module))
      return other.emitError("declare-mesh: the module declares a mesh already");
    if (dist::MeshAttr declared = meshOf(sizes, module.getContext())) {
      OpBuilder builder = OpBuilder::atBlockBegin(module.getBody());
      dist::MeshOp::create(builder, module.getLoc(), declared);
    }
    return success();
  }

  /// Sums the statistics over all ranks. Each rank then computes the loss and the counts of all, of
  /// which 1/n is its share: what programs yield is summed over ranks. It is the weights of the
  /// loss that are scaled, as a scaled loss would be folded with its coefficient, and 1/n be lost
  /// from sight (verify-gradient-reduction). The host weighs a pass alike on all ranks.
  void balanceOverRanks(moe::LoadBalanceLossOp op, dist::MeshAttr mesh) {
    auto isSum = [](Value statistics) { return !!statistics.getDefiningOp<dist::AllReduceOp>(); };
    if (llvm::all_of(op.getStatistics(), isSum))
      return;
    OpBuilder builder(op);
    auto axes = dist::AxesAttr::get(op.getContext(), mesh.getAxes());
    auto sum = dist::ReductionAttr::get(op.getContext(), dist::Reduction::Sum);
    for (OpOperand &statistics : op.getStatisticsMutable())
      statistics.set(dist::AllReduceOp::create(builder, op.getLoc(), statistics.get(), axes, sum));
    const double share = 1.0 / static_cast<double>(mesh.numRanks());
    OpOperand &weights = op.getAuxWeightsMutable();
    auto input = dyn_cast<BlockArgument>(weights.get());
    if (auto program = input ? dyn_cast<func::FuncOp>(input.getOwner()->getParentOp()) : nullptr)
      program.setArgAttr(input.getArgNumber(), dist::kReplicatedAttr, axes);
    weights.set(moe::ScaleOp::create(builder, op.getLoc(), weights.get(), share));
    Value counts = op.getExpertCounts();
    if (counts.use_empty())
      return;
    builder.setInsertionPointAfter(op);
    auto scaled = moe::ScaleOp::create(builder, op.getLoc(), counts, share);
    counts.replaceAllUsesExcept(scaled, scaled);
  }
};

} // namespace
} // namespace switchyard::passes
