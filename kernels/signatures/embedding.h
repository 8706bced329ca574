// Embedding: rows of a table [V, D] by token id, and the table's gradient. Ids lie in [0, V).
#pragma once

#include "kernels/signatures/Signature.h"

namespace switchyard::kernels {

inline constexpr OperandSpec kEmbeddingOperands[] = {
    in("table", DTypeRule::A, "V, D"),
    in("ids", DTypeRule::I32, "T"),
    out("y", DTypeRule::A, "T, D"),
};
inline constexpr Signature kEmbedding = {"embedding", kEmbeddingOperands};

inline constexpr OperandSpec kEmbeddingGradOperands[] = {
    in("dy", DTypeRule::A, "T, D"),
    in("ids", DTypeRule::I32, "T"),
    out("dtable", DTypeRule::F32, "num_embeddings, D"),
};
inline constexpr AttributeSpec kEmbeddingGradAttributes[] = {integer("num_embeddings", 1)};
inline constexpr Signature kEmbeddingGrad = {"embedding_grad", kEmbeddingGradOperands,
                                             kEmbeddingGradAttributes};

} // namespace switchyard::kernels
