#include "compiler/import/Family.h"

#include <algorithm>
#include <array>

namespace switchyard::compiler {

std::span<const Family> allFamilies() {
  static const std::array<Family, 2> families = {mixtralFamily(), olmoeFamily()};
  return families;
}

const Family *findFamily(std::string_view modelType) {
  for (const Family &family : allFamilies())
    if (family.modelType == modelType)
      return &family;
  return nullptr;
}

static std::string knownFamilies() {
  std::string list;
  for (const Family &family : allFamilies())
    list += (list.empty() ? "" : ", ") + std::string(family.modelType);
  return list;
}

void readSharedFields(ConfigReader &reader, ModelConfig &config) {
  config.dtype = reader.dtype();
  config.vocabSize = reader.integer("vocab_size", 1, kMaxVocabSize);
  config.hiddenSize = reader.integer("hidden_size", 1, kMaxHiddenSize);
  config.expertSize = reader.integer("intermediate_size", 1, kMaxHiddenSize);
  config.numLayers = reader.integer("num_hidden_layers", 1, kMaxLayers);
  config.numHeads = reader.integer("num_attention_heads", 1, kMaxHeads);
  config.numKvHeads = reader.integer("num_key_value_heads", 1, kMaxHeads, config.numHeads);
  config.topK = reader.integer("num_experts_per_tok", 1, kMaxExperts);
  config.rmsNormEps = reader.number("rms_norm_eps", 0, 1, 1e-5);
  config.tiedEmbeddings = reader.boolean("tie_word_embeddings", false);
  config.auxLossEnabled = reader.boolean("output_router_logits", false);
  if (std::string act = reader.string("hidden_act", "silu"); act != "silu")
    reader.refuse("hidden_act", "\"" + act + "\"", "\"silu\"");
  reader.requireZero("attention_dropout");
  reader.checkPadToken(config.vocabSize);

  const int64_t headDim = config.hiddenSize / config.numHeads;
  if (!reader.has("head_dim") && headDim * config.numHeads != config.hiddenSize)
    reader.fail("hidden_size " + std::to_string(config.hiddenSize) +
                " is not a multiple of num_attention_heads " + std::to_string(config.numHeads) +
                ", and head_dim is not given");
  config.headDim = reader.integer("head_dim", 1, 4096, std::max<int64_t>(headDim, 1));
  if (config.headDim % 2)
    reader.fail("head_dim is " + std::to_string(config.headDim) +
                ", expected an even number: rotary embeddings turn its two halves");
  if (config.numHeads % config.numKvHeads)
    reader.fail("num_attention_heads " + std::to_string(config.numHeads) +
                " is not a multiple of num_key_value_heads " + std::to_string(config.numKvHeads));
}

Result<ModelConfig> readModelConfig(const std::string &path, const Json &object) {
  ConfigReader reader(path, object);
  ModelConfig config;
  config.modelType = reader.string("model_type");
  SY_RETURN_IF_ERROR(reader.status());
  const Family *family = findFamily(config.modelType);
  if (!family)
    return Status::invalidInput(path + ": model_type is \"" + config.modelType +
                                "\", which can't be imported; known are " + knownFamilies());
  reader.requireArchitecture(family->architecture);
  readSharedFields(reader, config);
  family->read(reader, config);
  if (config.topK > config.numExperts)
    reader.fail("num_experts_per_tok is " + std::to_string(config.topK) + ", but there are only " +
                std::to_string(config.numExperts) + " experts");
  reader.finish();
  SY_RETURN_IF_ERROR(reader.status());
  return config;
}

} // namespace switchyard::compiler
