// moe-bench layer: times one MoE layer (MoeLayer.h), forward and with all gradients.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard::bench {

struct LayerArguments {
  std::vector<std::string> shapes; // T,D,F,E,K
  std::string target = "cuda";     // cpu, cuda
  std::string precision = "bf16";  // f32, bf16
  int64_t runs = 30;               // that are timed
  int64_t warmup = 10;             // before these
  int64_t threads = 0;             // of the CPU; 0: as many as it has cores
  std::string json;                // the file that the figures are appended to; empty: none
};

/// For each shape prints a line (Report.h) for "forward", "forward+backward" and "backward", the
/// difference of their medians. Times are of the host's clock from the first launch to the last
/// one's end, the GPU's cache overwritten before each. TFLOP/s count the experts' products alone,
/// 6 T D F K and twice that for the gradients, as SonicMoE's benchmark does. kept_bytes is what
/// forward keeps for backward. Usage: a shape that is none; otherwise fails as MoeLayer does.
Status runLayerBenchmark(const LayerArguments &arguments);

} // namespace switchyard::bench
