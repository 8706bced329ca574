// Embedding: rows of a table [V, D] by token id, and the table's gradient. Ids lie in [0, V).
#pragma once

#include "kernels/signatures/Workspace.h"

namespace switchyard::kernels {

inline constexpr OperandSpec kEmbeddingOperands[] = {
    in("table", DTypeRule::A, "V, D"),
    in("ids", DTypeRule::I32, "T"),
    out("y", DTypeRule::A, "T, D"),
};
inline constexpr Signature kEmbedding = {"embedding", kEmbeddingOperands};

/// On a GPU, the tokens are listed by ranges of the table's rows.
inline constexpr int64_t kEmbeddingBuckets = 256;

/// On a GPU, each token and its row, and where each range's list begins.
constexpr int64_t embeddingGradWorkspace(const Dims &dims, Target target) {
  return target.kind == Target::Kind::Cuda ? dims["T"] * 8 + (kEmbeddingBuckets + 1) * 4 : 0;
}

inline constexpr OperandSpec kEmbeddingGradOperands[] = {
    in("dy", DTypeRule::A, "T, D"),
    in("ids", DTypeRule::I32, "T"),
    out("dtable", DTypeRule::F32, "num_embeddings, D"),
};
inline constexpr AttributeSpec kEmbeddingGradAttributes[] = {integer("num_embeddings", 1)};
inline constexpr Signature kEmbeddingGrad = {"embedding_grad", kEmbeddingGradOperands,
                                             kEmbeddingGradAttributes, embeddingGradWorkspace};

} // namespace switchyard::kernels
