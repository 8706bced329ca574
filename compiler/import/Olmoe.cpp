// OLMoE (Muennighoff et al. 2024), as transformers' OlmoeForCausalLM: RMSNorm over the whole query
// and key projections, top-k weights renormalized only where norm_topk_prob says so and cast to the
// logits' dtype.
#include "compiler/import/Family.h"

namespace switchyard::compiler {

static void readOlmoe(ConfigReader &reader, ModelConfig &config) {
  config.numExperts = reader.integer("num_experts", 1, kMaxExperts);
  config.renormalize = reader.boolean("norm_topk_prob", false);
  reader.requireFalse("attention_bias");
  reader.requireNull("clip_qkv");
  config.auxLossCoef = reader.number("router_aux_loss_coef", 0, 1e6, 0.01);
  config.ropeTheta = reader.ropeTheta(1e4);
  config.qkNorm = true;
  if (config.headDim * config.numHeads != config.hiddenSize)
    reader.fail("head_dim is " + std::to_string(config.headDim) + " with " +
                std::to_string(config.numHeads) + " heads and hidden_size " +
                std::to_string(config.hiddenSize) +
                "; OLMoE's q_norm has hidden_size elements, so head_dim must be hidden_size / "
                "num_attention_heads");
}

Family olmoeFamily() {
  return {.modelType = "olmoe",
          .architecture = "OlmoeForCausalLM",
          .read = readOlmoe,
          .names = {.router = "mlp.gate.weight",
                    .expertGate = "mlp.experts.{e}.gate_proj.weight",
                    .expertUp = "mlp.experts.{e}.up_proj.weight",
                    .expertDown = "mlp.experts.{e}.down_proj.weight",
                    .routerModule = ""}};
}

} // namespace switchyard::compiler
