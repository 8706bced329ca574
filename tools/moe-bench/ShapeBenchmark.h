// moe-bench layer and moe-bench grouped-gemm: time kernels on the shapes of MoE layers, on random
// numbers.
#pragma once

#include "tools/moe-bench/ShapeTimer.h"

namespace switchyard::bench {

/// Where tokens choose experts; both flags' names are those of MoeLayer.h.
struct LayerArguments : ShapeArguments {
  bool fuse = true;
  bool gather = true;   // with fuse
  bool kernels = false; // each of its kernels by itself, too
};

struct ProductArguments : ShapeArguments {
  std::vector<std::string> routings = {"random"}; // names of Routing.h
  std::vector<std::string> cases;                 // of productCases(); empty: all
};

/// For each shape prints a line (Report.h) of one MoE layer (MoeLayer.h) for "forward",
/// "forward+backward" and "backward", the difference of two runs behind each other. TFLOP/s count
/// the experts' products alone, 6 T D F K and twice that for the gradients, as SonicMoE's benchmark
/// does. kept_bytes is MoeLayer::keptBytes(). With `kernels` each kernel follows, timed by itself.
///
/// Times, here and below, are the device's from the first kernel to the last one's end, its cache
/// overwritten before each. Usage: a shape that is none. DoesNotFit: the memory.
Status runLayerBenchmark(const LayerArguments &arguments);

/// The names that cases are chosen by: those of ExpertProducts.h, then "copy".
std::vector<std::string> productCases();

/// For each shape prints a line of the cases (ExpertProducts.h) of gate_up (D to 2 F) and of down
/// (F to D) for each routing, with the bytes that have to move once, and the result's error. Where
/// "dense" is among the cases, it also times a large square product, and with "copy" a copy within
/// the device's memory, by bytes read and written: once each. Failed, behind all that is printed:
/// results that are wrong.
Status runGroupedGemmBenchmark(const ProductArguments &arguments);

} // namespace switchyard::bench
