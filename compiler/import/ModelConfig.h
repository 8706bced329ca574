// What the importer knows of a model after its family has read config.json: the same fields for
// every family, and how the hub names its tensors.
#pragma once

#include <cstdint>
#include <string>

namespace switchyard::compiler {

/// The sizes, constants and switches of a decoder with attention and a mixture of experts in every
/// layer.
struct ModelConfig {
  std::string modelType;  // "mixtral"
  std::string dtype;      // the checkpoint's: "float32", "bfloat16" or "" (not said)
  int64_t vocabSize = 0;  // V
  int64_t hiddenSize = 0; // D
  int64_t expertSize = 0; // F, the inner size of one expert
  int64_t numLayers = 0;
  int64_t numHeads = 0;
  int64_t numKvHeads = 0;
  int64_t headDim = 0;
  int64_t numExperts = 0; // E
  int64_t topK = 0;
  double rmsNormEps = 0;
  double ropeTheta = 0;
  int64_t window = 0; // 0: attention sees the whole segment
  bool tiedEmbeddings = false;
  bool qkNorm = false;             // RMSNorm of the whole q and k projections
  bool renormalize = false;        // the top-k weights are made to sum to 1
  bool routerWeightsInF32 = false; // else they are cast to the logits' dtype
  double auxLossCoef = 0;          // of the config; counts only where auxLossEnabled
  bool auxLossEnabled = false;
};

/// The hub's names of one layer's tensors, after "model.layers.N.".
struct TensorNames {
  std::string router;     // "block_sparse_moe.gate.weight"
  std::string expertGate; // with {e} for the expert: "block_sparse_moe.experts.{e}.w1.weight"
  std::string expertUp;
  std::string expertDown;
  std::string routerModule; // transformers' in-memory name of the router where it differs, else ""
};

/// Largest values that config.json may name: far above any model, and low enough that no product of
/// the few that make up a tensor's size overflows.
inline constexpr int64_t kMaxVocabSize = 1 << 24;
inline constexpr int64_t kMaxHiddenSize = 1 << 18;
inline constexpr int64_t kMaxLayers = 256;
inline constexpr int64_t kMaxHeads = 4096;
inline constexpr int64_t kMaxExperts = 4096;

} // namespace switchyard::compiler
