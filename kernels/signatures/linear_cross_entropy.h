// Cross entropy of the logits x w^T, at most chunk_rows rows at a time, so that [T, V] is never
// held: loss = sum_t loss_weights[t] * (logsumexp(logits_t) - logits_t[labels_t]); a row whose
// label is negative gives 0. The gradient recomputes the logits and yields the loss too, so a
// training step computes them once.
#pragma once

#include "kernels/signatures/Workspace.h"

namespace switchyard::kernels {

/// Rows of one chunk on a CPU: its float32 logits take 32 MiB at most, unless that is less than 32
/// rows. A GPU's products want all that chunk_rows allows.
constexpr int64_t cpuCrossEntropyRows(int64_t chunkRows, int64_t v) {
  int64_t rows = 1024;
  while (rows > 32 && rows * v > int64_t{8} << 20)
    rows /= 2;
  return chunkRows < rows ? chunkRows : rows;
}

/// Columns of one tile of the logits: a tile, its gradient and its part of w stay in a core's
/// cache. At least D, so that a tile's memory can hold its share of dx.
constexpr int64_t crossEntropyColumns(int64_t d, int64_t v) {
  int64_t columns = v >= 8192 ? 512 : 256;
  return columns < d ? d : columns;
}

/// On a GPU: GEMM scratch; for the rows of one chunk, each at a multiple of 256 bytes: float32
/// logits, which their gradient overwrites, and the rows of x; the rows' losses.
constexpr int64_t cudaCrossEntropyWorkspace(const Dims &dims) {
  int64_t rows = dims["chunk_rows"] < dims["T"] ? dims["chunk_rows"] : dims["T"];
  int64_t bytes = dims.elementBytes(DTypeRule::A);
  return kCudaGemmScratch + rows * (dims["V"] * 4 + dims["D"] * bytes) + dims["T"] * 4 + 1024;
}

/// On a CPU: GEMM scratch; for the rows of one chunk: float32 logits in tiles (then each tile's
/// share of dx), the rows of x, per tile a maximum and a sum; for each thread the logits' gradient
/// of one tile; the list of rows that have a label; padding between these.
constexpr int64_t crossEntropyWorkspace(const Dims &dims, Target target) {
  if (target.kind == Target::Kind::Cuda)
    return cudaCrossEntropyWorkspace(dims);
  int64_t d = dims["D"], v = dims["V"];
  int64_t chunk = cpuCrossEntropyRows(dims["chunk_rows"], v);
  int64_t rows = chunk < dims["T"] ? chunk : dims["T"];
  int64_t bytes = dims.elementBytes(DTypeRule::A);
  int64_t tile = crossEntropyColumns(d, v) * bytes;
  return gemmWorkspace(dims, target) + dims["T"] * 4 + 1024 +
         rows * ((v + d) * 4 + d * bytes + (v / 256 + 1) * 8 + 8 + target.threads * tile);
}

inline constexpr OperandSpec kLinearCrossEntropyOperands[] = {
    in("x", DTypeRule::A, "T, D"),     in("w", DTypeRule::A, "V, D"),
    in("labels", DTypeRule::I32, "T"), in("loss_weights", DTypeRule::F32, "T"),
    out("loss", DTypeRule::F32, ""),
};
inline constexpr AttributeSpec kLinearCrossEntropyAttributes[] = {integer("chunk_rows", 1, 65536)};
inline constexpr Signature kLinearCrossEntropy = {
    "linear_cross_entropy", kLinearCrossEntropyOperands, kLinearCrossEntropyAttributes,
    crossEntropyWorkspace};

inline constexpr OperandSpec kLinearCrossEntropyGradOperands[] = {
    in("x", DTypeRule::A, "T, D"),     in("w", DTypeRule::A, "V, D"),
    in("labels", DTypeRule::I32, "T"), in("loss_weights", DTypeRule::F32, "T"),
    in("dloss", DTypeRule::F32, ""),   out("loss", DTypeRule::F32, ""),
    out("dx", DTypeRule::A, "T, D"),   out("dw", DTypeRule::F32, "V, D"),
};
inline constexpr AttributeSpec kLinearCrossEntropyGradAttributes[] = {
    integer("chunk_rows", 1, 65536)};
inline constexpr Signature kLinearCrossEntropyGrad = {
    "linear_cross_entropy_grad", kLinearCrossEntropyGradOperands, kLinearCrossEntropyGradAttributes,
    crossEntropyWorkspace};

} // namespace switchyard::kernels
