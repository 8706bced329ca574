#include "compiler/import/Parameters.h"

namespace switchyard::compiler {

/// The expert index in TensorNames.
static constexpr const char *kExpertIndex = "e";

namespace {

/// The parameters of layer `layer`.
class LayerParameters {
public:
  LayerParameters(const Family &family, const ModelConfig &config, int64_t layer,
                  std::vector<Parameter> &list)
      : family_(family), config_(config), layer_(layer),
        state_("layers." + std::to_string(layer) + "."), hub_("model." + state_), list_(list) {}

  void add() {
    const int64_t hidden = config_.hiddenSize;
    const int64_t q = config_.numHeads * config_.headDim;
    const int64_t kv = config_.numKvHeads * config_.headDim;
    addLeaf("input_norm", {hidden}, "input_layernorm.weight").norm = true;
    append("attention.qkv", {q + 2 * kv, hidden},
           concatSource({leaf("self_attn.q_proj.weight"), leaf("self_attn.k_proj.weight"),
                         leaf("self_attn.v_proj.weight")},
                        {q, kv, kv}));
    if (config_.qkNorm) {
      addLeaf("attention.q_norm", {q}, "self_attn.q_norm.weight").norm = true;
      addLeaf("attention.k_norm", {kv}, "self_attn.k_norm.weight").norm = true;
    }
    addLeaf("attention.output", {hidden, q}, "self_attn.o_proj.weight");
    addLeaf("experts_norm", {hidden}, "post_attention_layernorm.weight").norm = true;
    Parameter &router = addLeaf("router", {config_.numExperts, hidden}, family_.names.router);
    if (!family_.names.routerModule.empty())
      router.moduleName = hub_ + family_.names.routerModule;
    addExperts();
  }

private:
  void addExperts() {
    const TensorNames &names = family_.names;
    const int64_t experts = config_.numExperts, inner = config_.expertSize;
    Source gateUp = concatSource({leaf(names.expertGate), leaf(names.expertUp)}, {inner, inner});
    append("experts.gate_up", {experts, 2 * inner, config_.hiddenSize},
           stackSource(kExpertIndex, 0, experts, std::move(gateUp)))
        .moduleName = hub_ + "mlp.experts.gate_up_proj";
    append("experts.down", {experts, config_.hiddenSize, inner},
           stackSource(kExpertIndex, 0, experts, leaf(names.expertDown)))
        .moduleName = hub_ + "mlp.experts.down_proj";
  }

  Source leaf(const std::string &name) const { return leafSource(hub_ + name); }

  Parameter &append(const std::string &name, std::vector<int64_t> shape, Source source) {
    list_.push_back({state_ + name, std::move(shape), layer_, false, "", std::move(source)});
    return list_.back();
  }
  Parameter &addLeaf(const std::string &name, std::vector<int64_t> shape, const std::string &hub) {
    return append(name, std::move(shape), leaf(hub));
  }

  const Family &family_;
  const ModelConfig &config_;
  int64_t layer_;
  std::string state_; // prefix of the states' names
  std::string hub_;   // prefix of the hub's names
  std::vector<Parameter> &list_;
};

} // namespace

std::vector<Parameter> modelParameters(const Family &family, const ModelConfig &config) {
  const std::vector<int64_t> table = {config.vocabSize, config.hiddenSize};
  std::vector<Parameter> list;
  list.push_back({"embed_tokens", table, -1, false, "", leafSource("model.embed_tokens.weight")});
  for (int64_t layer = 0; layer < config.numLayers; ++layer)
    LayerParameters(family, config, layer, list).add();
  list.push_back({"norm", {config.hiddenSize}, -1, true, "", leafSource("model.norm.weight")});
  if (!config.tiedEmbeddings)
    list.push_back({"lm_head", table, -1, false, "", leafSource("lm_head.weight")});
  return list;
}

int64_t activeParameters(const ModelConfig &config) {
  const int64_t q = config.numHeads * config.headDim;
  const int64_t kv = config.numKvHeads * config.headDim;
  const int64_t attention = config.hiddenSize * (q + 2 * kv) + q * config.hiddenSize;
  const int64_t experts = config.topK * 3 * config.expertSize * config.hiddenSize;
  const int64_t router = config.numExperts * config.hiddenSize;
  return config.numLayers * (attention + router + experts) + config.vocabSize * config.hiddenSize;
}

Status checkModelSize(const std::string &path, const std::vector<Parameter> &parameters) {
  constexpr int64_t kMaxElements = int64_t{1} << 40;
  int64_t total = 0;
  for (const Parameter &parameter : parameters) {
    int64_t elements = 1;
    for (int64_t extent : parameter.shape)
      if (__builtin_mul_overflow(elements, extent, &elements))
        elements = kMaxElements + 1;
    if (elements > kMaxElements - total)
      return Status::invalidInput(
          path + ": the sizes make a model of more than 2^40 parameters (at " + parameter.name +
          " " + shapeText(parameter.shape) +
          "); check hidden_size, intermediate_size and the number of experts");
    total += elements;
  }
  return {};
}

} // namespace switchyard::compiler
