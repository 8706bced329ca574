#include "passes/StateReads.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

namespace switchyard::passes {

llvm::MapVector<moe::StateOp, Reads> collectReads(func::FuncOp function,
                                                  const SymbolTable &symbols) {
  llvm::MapVector<moe::StateOp, Reads> reads;
  for (auto read : function.getOps<moe::ReadOp>())
    if (auto state = symbols.lookup<moe::StateOp>(read.getState()))
      reads[state].push_back(read);
  return reads;
}

void replaceReads(moe::StateOp state, const Reads &reads,
                  function_ref<Value(OpBuilder &, Value)> makeWhole) {
  Operation *first = nullptr;
  for (moe::ReadOp read : reads)
    for (Operation *user : read->getUsers())
      if (!first || user->isBeforeInBlock(first))
        first = user;
  if (first) {
    OpBuilder builder(first);
    Value part = moe::ReadOp::create(builder, reads.front()->getLoc(), state);
    Value whole = makeWhole(builder, part);
    for (moe::ReadOp read : reads)
      read.getResult().replaceAllUsesWith(whole);
  }
  for (moe::ReadOp read : reads)
    read->erase();
}

LogicalResult checkNothingDerived(ModuleOp module, StringRef pass) {
  for (auto state : module.getOps<moe::StateOp>())
    if (state.getOfAttr())
      return state.emitError(pass)
             << ": @" << state.getSymName() << " belongs to " << state.getOfAttr()
             << " already, and would not be divided with it; run " << pass << " before accumulate";
  return success();
}

} // namespace switchyard::passes
