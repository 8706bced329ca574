// Mixtral (Jiang et al. 2024), as transformers' MixtralForCausalLM: top-k weights renormalized and
// kept in float32, an optional sliding window.
#include "compiler/import/Family.h"

namespace switchyard::compiler {

static void readMixtral(ConfigReader &reader, ModelConfig &config) {
  config.numExperts = reader.integer("num_local_experts", 1, kMaxExperts);
  config.window = reader.integer("sliding_window", 1, int64_t{1} << 40, 0);
  reader.requireZero("router_jitter_noise");
  config.auxLossCoef = reader.number("router_aux_loss_coef", 0, 1e6, 0.001);
  config.ropeTheta = reader.ropeTheta(1e6);
  config.renormalize = true;
  config.routerWeightsInF32 = true;
}

Family mixtralFamily() {
  return {.modelType = "mixtral",
          .architecture = "MixtralForCausalLM",
          .read = readMixtral,
          .names = {.router = "block_sparse_moe.gate.weight",
                    .expertGate = "block_sparse_moe.experts.{e}.w1.weight",
                    .expertUp = "block_sparse_moe.experts.{e}.w3.weight",
                    .expertDown = "block_sparse_moe.experts.{e}.w2.weight",
                    .routerModule = "mlp.gate.weight"}};
}

} // namespace switchyard::compiler
