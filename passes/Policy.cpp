#include "passes/Policy.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

namespace switchyard::passes {

FailureOr<Policy> Policy::of(ModuleOp module) {
  MLIRContext *context = module.getContext();
  Type f32 = Float32Type::get(context);
  Type bf16 = BFloat16Type::get(context);
  auto model = module->getAttrOfType<DictionaryAttr>(kModelAttr);
  auto precision = model ? model.getAs<StringAttr>("precision") : StringAttr();
  auto sync = model ? model.getAs<BoolAttr>("sync_each_batch") : BoolAttr();
  auto step = model ? model.getAs<StringAttr>("step_program") : StringAttr();
  const bool syncEachBatch = !sync || sync.getValue(), fused = step && step == "fused";
  if (step && !fused && step != "split")
    return module.emitError("moe.model: step_program is ")
           << step << ", expected \"split\" or \"fused\"";
  if (!precision || precision == "f32")
    return Policy{f32, f32, false, syncEachBatch, fused};
  if (precision == "bf16")
    return Policy{bf16, bf16, false, syncEachBatch, fused};
  if (precision == "bf16_f32_state")
    return Policy{f32, f32, true, syncEachBatch, fused};
  return module.emitError("moe.model: precision is ")
         << precision << ", expected \"f32\", \"bf16\" or \"bf16_f32_state\"";
}

DerivedStates::DerivedStates(ModuleOp module) : symbols_(module) {
  for (auto state : module.getOps<moe::StateOp>())
    last_ = state;
}

FailureOr<moe::StateOp> DerivedStates::declare(moe::StateOp parameter, StringRef suffix,
                                               moe::StateKind kind, Type element) {
  std::string name = (parameter.getSymName() + suffix).str();
  if (symbols_.lookup(name))
    return parameter.emitOpError("has a derived state already: @") << name << " is taken";
  OpBuilder builder(parameter.getContext());
  builder.setInsertionPointAfter(last_);
  last_ = moe::StateOp::create(builder, parameter.getLoc(), name, kind, parameter, element);
  symbols_.insert(last_);
  return last_;
}

} // namespace switchyard::passes
