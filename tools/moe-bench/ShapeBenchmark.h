// moe-bench layer and moe-bench grouped-gemm: time kernels on the shapes of MoE layers, on random
// numbers.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard::bench {

struct ShapeArguments {
  std::vector<std::string> shapes; // T,D,F,E,K
  std::string target = "cuda";     // cpu, cuda
  std::string precision = "bf16";  // f32, bf16
  int64_t runs = 30;               // that are timed
  int64_t warmup = 10;             // before these
  bool fuse = true;                // a layer's kernels, as moe-compile does
  bool gather = true;              // with fuse: tokens where they stand
  int64_t threads = 0;             // of the CPU; 0: as many as it has cores
  std::string json;                // the file that the figures are appended to; empty: none
};

/// For each shape prints a line (Report.h) of one MoE layer (MoeLayer.h) for "forward",
/// "forward+backward" and "backward", the difference of their medians. TFLOP/s count the experts'
/// products alone, 6 T D F K and twice that for the gradients, as SonicMoE's benchmark does.
/// kept_bytes is what forward keeps for backward.
///
/// Times, here and below, are of the host's clock from the first launch to the last one's end, the
/// GPU's cache overwritten before each. Usage: a shape that is none. DoesNotFit: the memory.
Status runLayerBenchmark(const ShapeArguments &arguments);

/// For each shape prints a line of the grouped GEMM of gate_up (D to 2 F) and of down (F to D) for
/// "forward", "dgrad" and "wgrad", whose result has the operands' dtype, and with what `fuse` adds
/// to them: "gated" of gate_up, "dgrad_gated" of down. Each token chooses K experts at random.
Status runGroupedGemmBenchmark(const ShapeArguments &arguments);

} // namespace switchyard::bench
