// verify-memory: refuses a plan whose certified peak is more than the memory there is, and says
// what to change.

#include "passes/KernelTypes.h"
#include "passes/Passes.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_VERIFYMEMORY
#include "passes/Passes.h.inc"

namespace {

/// With two decimals, in the largest unit of which there is one or more.
std::string sizeText(int64_t bytes) {
  double value = static_cast<double>(bytes);
  const char *unit = "bytes";
  for (const char *larger : {"KiB", "MiB", "GiB", "TiB"}) {
    if (value < 1024)
      break;
    value /= 1024;
    unit = larger;
  }
  return llvm::formatv(value == bytes ? "{0:f0} {1}" : "{0:f2} {1}", value, unit).str();
}

struct VerifyMemory : impl::VerifyMemoryBase<VerifyMemory> {
  using VerifyMemoryBase::VerifyMemoryBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto peak = module->getAttrOfType<IntegerAttr>(plan::kPeakAttr);
    auto arenas = module->getAttrOfType<DictionaryAttr>(plan::kArenasAttr);
    if (!peak || !arenas) {
      module.emitError(
          "verify-memory: the module has no addresses yet; run assign-addresses first");
      return signalPassFailure();
    }
    if (memory <= 0 || peak.getInt() <= memory)
      return markAllAnalysesPreserved();

    InFlightDiagnostic diagnostic = module.emitError("does not fit: the plan needs ")
                                    << sizeText(peak.getInt()) << " and the device has "
                                    << sizeText(memory) << " (";
    llvm::interleaveComma(arenas, diagnostic, [&](NamedAttribute arena) {
      diagnostic << arena.getName().getValue() << ' '
                 << sizeText(cast<IntegerAttr>(arena.getValue()).getInt());
    });
    diagnostic << "); ";
    int64_t fixed = cast<IntegerAttr>(arenas.get("state")).getInt();
    if (fixed > memory)
      diagnostic << "parameters, gradients and moments alone exceed it: divide them among more "
                    "ranks with --mesh, use a larger device, or --precision bf16";
    else
      diagnostic << "lower --max-seq-length, --per-device-train-batch-size or --coalesce, "
                    "divide states and experts among more ranks with --mesh, or use --precision "
                    "bf16";
    signalPassFailure();
  }
};

} // namespace
} // namespace switchyard::passes
