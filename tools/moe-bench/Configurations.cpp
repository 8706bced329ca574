#include "tools/moe-bench/Configurations.h"

#include "runtime/core/File.h"
#include "runtime/core/Json.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>

namespace switchyard::bench {

namespace {

using Kind = YamlValue::Kind;

constexpr int64_t kMaxDegree = 1024;

class Reader {
public:
  Reader(const std::string &path, Configuration &configuration)
      : path_(path), configuration_(configuration) {}

  Status read(const YamlValue &file) {
    const YamlValue *plugins = file.find("plugins");
    if (!plugins || file.members.size() != 1 || plugins->kind != Kind::Map)
      return Status::invalidInput(path_ + ": expected one mapping \"plugins:\" with \"training:\"");
    for (const YamlValue::Member &member : plugins->members) {
      if (member.key != "training")
        return unknown(member, "plugins");
      SY_RETURN_IF_ERROR(readTraining(member));
    }
    return {};
  }

private:
  Status readTraining(const YamlValue::Member &training) {
    SY_RETURN_IF_ERROR(checkMap(training));
    for (const YamlValue::Member &plugin : training.value.members) {
      if (plugin.key == "moe") {
        SY_RETURN_IF_ERROR(readMoe(plugin));
      } else if (plugin.key == "attention") {
        SY_RETURN_IF_ERROR(checkKeys(plugin, {"padding_free"}));
        note("padding_free is what is always done: sequences are never padded");
      } else if (plugin.key == "fused_ops_and_kernels") {
        SY_RETURN_IF_ERROR(
            checkKeys(plugin, {"fast_loss", "fast_rms_layernorm", "fast_rope_embeddings"}));
        note("fused_ops_and_kernels is what is always done: losses, norms and rotary embeddings "
             "are one kernel each");
      } else {
        return unknown(plugin, "plugins: training");
      }
    }
    return {};
  }

  Status readMoe(const YamlValue::Member &moe) {
    SY_RETURN_IF_ERROR(checkKeys(moe, {"scattermoe"}));
    const YamlValue::Member &plugin = moe.value.members.front();
    SY_RETURN_IF_ERROR(checkKeys(plugin, {"ep_degree", "disable_distributed"}));
    const YamlValue *degree = plugin.value.find("ep_degree");
    if (degree && !degree->isNull())
      SY_RETURN_IF_ERROR(readDegree(*degree));
    const YamlValue *disabled = plugin.value.find("disable_distributed");
    if (!disabled)
      return {};
    const std::optional<bool> value = truthValue(*disabled);
    if (!value)
      return error(disabled->line,
                   "disable_distributed is " + disabled->describe() + ", expected true or false");
    if (*value && configuration_.epDegree > 1)
      return error(disabled->line, "disable_distributed is true, but ep_degree is " +
                                       std::to_string(configuration_.epDegree) +
                                       ", which distributes the experts; set one of them back");
    return {};
  }

  Status readDegree(const YamlValue &value) {
    int64_t degree = 0;
    const char *end = value.text.data() + value.text.size();
    auto [stop, problem] = std::from_chars(value.text.data(), end, degree);
    if (value.kind != Kind::Text || problem != std::errc() || stop != end || degree < 1 ||
        degree > kMaxDegree)
      return error(value.line, "ep_degree is " + value.describe() +
                                   ", expected an integer from 1 to " + std::to_string(kMaxDegree));
    configuration_.epDegree = degree;
    return {};
  }

  Status checkMap(const YamlValue::Member &member) const {
    if (member.value.kind == Kind::Map && !member.value.members.empty())
      return {};
    return error(member.line,
                 member.key + " is " + member.value.describe() + ", expected a mapping");
  }

  Status checkKeys(const YamlValue::Member &plugin,
                   std::initializer_list<std::string_view> known) const {
    SY_RETURN_IF_ERROR(checkMap(plugin));
    for (const YamlValue::Member &member : plugin.value.members)
      if (std::ranges::find(known, member.key) == known.end())
        return unknown(member, plugin.key);
    return {};
  }

  Status unknown(const YamlValue::Member &member, const std::string &in) const {
    return error(member.line, "unknown " + quoteJson(member.key) + " in " + in +
                                  "; known are plugins: training: moe (scattermoe: ep_degree, "
                                  "disable_distributed), attention (padding_free) or "
                                  "fused_ops_and_kernels (fast_loss, fast_rms_layernorm, "
                                  "fast_rope_embeddings)");
  }

  Status error(int line, const std::string &what) const {
    return Status::invalidInput(place(path_, line) + ": " + what);
  }

  void note(const std::string &what) { configuration_.notes.push_back(what); }

  const std::string &path_;
  Configuration &configuration_;
};

} // namespace

Result<Configuration> loadConfiguration(const std::string &folder, const PlacedText &name) {
  Configuration configuration;
  if (name.text.empty())
    return configuration;
  configuration.name = name.text;
  if (name.text.find('/') != std::string::npos || name.text == "none")
    return Status::invalidInput(
        name.where + ": framework_config has " + quoteJson(name.text) +
        (name.text == "none" ? ", which is what results call an empty entry; leave the entry empty"
                             : ", expected the name of a configuration, not a path"));
  const std::string path = joinPath(folder, name.text + ".yaml");
  const std::string sample = joinPath(folder, name.text + "-sample-configuration.yaml");
  const std::string &found = fileExists(path) ? path : sample;
  if (!fileExists(found))
    return Status::invalidInput(name.where + ": framework_config has " + quoteJson(name.text) +
                                ", but there is neither " + path + " nor " + sample +
                                "; give the folder of configurations by --configurations");
  SY_ASSIGN_OR_RETURN(YamlValue file, readYaml(found));
  SY_RETURN_IF_ERROR(Reader(found, configuration).read(file));
  return configuration;
}

} // namespace switchyard::bench
