#include "tools/moe-bench/YamlFile.h"

#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "runtime/training/YamlDocument.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <set>

namespace switchyard::bench {

namespace {

constexpr uint64_t kMaxBytes = uint64_t{1} << 20;
constexpr int kMaxDepth = 32;
constexpr int kMaxValues = 1 << 16;

class Converter {
public:
  explicit Converter(const std::string &file) : file_(file) {}

  Status convert(const YAML::Node &node, int depth, YamlValue &value) {
    value.line = node.Mark().line + 1;
    if (depth > kMaxDepth)
      return error(value.line, "is nested deeper than " + std::to_string(kMaxDepth) +
                                   " levels, expected a file of scenarios or configurations");
    if (++values_ > kMaxValues)
      return error(value.line, "the file has more than " + std::to_string(kMaxValues) +
                                   " values, expected a file of scenarios or configurations");
    if (node.IsScalar()) {
      value.kind = YamlValue::Kind::Text;
      value.text = node.Scalar();
    } else if (node.IsSequence()) {
      value.kind = YamlValue::Kind::List;
      for (const YAML::Node &item : node)
        SY_RETURN_IF_ERROR(convert(item, depth + 1, value.items.emplace_back()));
    } else if (node.IsMap()) {
      value.kind = YamlValue::Kind::Map;
      return convertMap(node, depth, value);
    }
    return {};
  }

private:
  Status convertMap(const YAML::Node &node, int depth, YamlValue &value) {
    std::set<std::string> seen;
    for (const auto &member : node) {
      const int line = member.first.Mark().line + 1;
      if (!member.first.IsScalar())
        return error(line, "a key is no text, expected one like learning_rate");
      if (!seen.insert(member.first.Scalar()).second)
        return error(line, quoteJson(member.first.Scalar()) + " is given twice, expected it once");
      YamlValue::Member &added = value.members.emplace_back();
      added.key = member.first.Scalar();
      added.line = line;
      SY_RETURN_IF_ERROR(convert(member.second, depth + 1, added.value));
    }
    return {};
  }

  Status error(int line, const std::string &what) const {
    return Status::invalidInput(place(file_, line) + ": " + what);
  }

  const std::string &file_;
  int values_ = 0;
};

} // namespace

const YamlValue *YamlValue::find(std::string_view key) const {
  for (const Member &member : members)
    if (member.key == key)
      return &member.value;
  return nullptr;
}

std::string YamlValue::describe() const {
  constexpr size_t kShown = 40;
  switch (kind) {
  case Kind::Text:
    return quoteJson(text.size() > kShown ? text.substr(0, kShown) + "..." : text);
  case Kind::List:
    return "a list";
  case Kind::Map:
    return "a mapping";
  case Kind::Null:
    break;
  }
  return "nothing";
}

Result<YamlValue> readYaml(const std::string &path) {
  SY_ASSIGN_OR_RETURN(std::string text, readFile(path, kMaxBytes));
  YamlValue value;
  try {
    if (!isOneYamlDocument(text))
      return Status::invalidInput(path + ": is more than one document, or broken, expected one");
    SY_RETURN_IF_ERROR(Converter(path).convert(YAML::Load(text), 0, value));
  } catch (const YAML::Exception &error) {
    return Status::invalidInput(place(path, error.mark.line + 1) + ": not readable as YAML (" +
                                error.msg + ")");
  } catch (const std::exception &error) {
    return Status::invalidInput(path + ": not readable as YAML (" + error.what() + ")");
  }
  return value;
}

std::optional<bool> truthValue(const YamlValue &value) {
  if (value.kind != YamlValue::Kind::Text)
    return std::nullopt;
  std::string text = value.text;
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  if (text == "true" || text == "yes" || text == "on")
    return true;
  if (text == "false" || text == "no" || text == "off")
    return false;
  return std::nullopt;
}

std::string place(const std::string &file, int line) {
  return file + ": line " + std::to_string(line);
}

} // namespace switchyard::bench
