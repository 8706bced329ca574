#include "runtime/plan/ModelFingerprint.h"

#include "runtime/core/Fingerprint.h"

#include <algorithm>

namespace switchyard {

static constexpr std::string_view kWithoutEffect[] = {
    "_attn_implementation",
    "_name_or_path",
    "architectures",
    "bos_token_id",
    "eos_token_id",
    "id2label",
    "initializer_range",
    "label2id",
    "max_position_embeddings",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "transformers_version",
    "use_cache",
};

std::span<const std::string_view> configKeysWithoutEffect() {
  return kWithoutEffect;
}

static void appendCanonical(const Json &value, std::string &text);

/// Members sorted by key, without those that are null.
static void appendObject(const Json &object, bool isConfig, std::string &text) {
  std::vector<const Json::Member *> members;
  for (const Json::Member &member : object.members()) {
    bool skipped = isConfig && (std::ranges::binary_search(kWithoutEffect, member.key) ||
                                member.key == "dtype" || member.key == "torch_dtype");
    if (!member.value.isNull() && !skipped)
      members.push_back(&member);
  }
  std::ranges::sort(members, {}, &Json::Member::key);
  text += '{';
  for (const Json::Member *member : members) {
    text += quoteJson(member->key) + ':';
    appendCanonical(member->value, text);
    text += ',';
  }
  text += '}';
}

static void appendCanonical(const Json &value, std::string &text) {
  if (value.isObject())
    return appendObject(value, /*isConfig=*/false, text);
  if (!value.isArray()) {
    text += value.dump();
    return;
  }
  text += '[';
  for (const Json &item : value.items()) {
    appendCanonical(item, text);
    text += ',';
  }
  text += ']';
}

std::string modelFingerprint(const Json &config) {
  std::string text;
  appendObject(config, /*isConfig=*/true, text);
  return fingerprintText(fingerprint(text));
}

} // namespace switchyard
