#include "tools/moe-bench/Scenarios.h"

#include "runtime/core/Json.h"

#include <set>

namespace switchyard::bench {

namespace {

using Kind = YamlValue::Kind;

Status invalid(const std::string &path, int line, const std::string &what) {
  return Status::invalidInput(place(path, line) + ": " + what);
}

/// The prompts that datasets are made into are Alpaca's: a stanza that asks for these is heeded,
/// any other refused.
Status checkDataProcessing(const YamlValue &stanza, const std::string &path) {
  if (stanza.isNull())
    return {};
  if (stanza.kind != Kind::Map)
    return invalid(path, stanza.line,
                   "data_processing is " + stanza.describe() + ", expected a mapping");
  for (const YamlValue::Member &member : stanza.members) {
    const std::string &text = member.value.text;
    const bool isKnown = member.value.isNull() || member.key == "dataset_name" ||
                         member.key == "dataset_split" || member.key == "tokenize" ||
                         (member.key == "formatting" && text == "instruct") ||
                         (member.key == "input_field" && text == "input") ||
                         (member.key == "dataset_text_field" && text == "output");
    if (!isKnown)
      return invalid(
          path, member.line,
          "data_processing: " + quoteJson(member.key) + " is " + member.value.describe() +
              ", but records are always Alpaca's, formatted as instructions (formatting: "
              "instruct, input_field: input, dataset_text_field: output); remove it, and "
              "give records of that form by --training_data_path");
  }
  return {};
}

/// The texts of a list or of a single value. An empty entry is an empty text where `takesEmpty`.
Result<std::vector<PlacedText>> textsOf(const YamlValue::Member &member, bool takesEmpty,
                                        const std::string &path) {
  const std::vector<YamlValue> single =
      member.value.kind == Kind::List ? std::vector<YamlValue>() : std::vector{member.value};
  const std::vector<YamlValue> &values =
      member.value.kind == Kind::List ? member.value.items : single;
  std::vector<PlacedText> texts;
  std::set<std::string> seen;
  for (const YamlValue &value : values) {
    const int line = value.line > 0 ? value.line : member.line;
    const bool isText = value.kind == Kind::Text && !value.text.empty();
    if (!isText && !(takesEmpty && value.isNull()))
      return invalid(path, line,
                     member.key + " has " + value.describe() + ", expected a list of names");
    if (!seen.insert(value.text).second)
      return invalid(path, line, member.key + " has " + value.describe() + " twice");
    texts.push_back({value.text, place(path, line)});
  }
  if (texts.empty())
    return invalid(path, member.line, member.key + " is an empty list, expected at least one name");
  return texts;
}

Status readArguments(const YamlValue::Member &member, const std::string &path, Scenario &scenario) {
  if (member.value.kind != Kind::Map)
    return invalid(path, member.line,
                   "arguments is " + member.value.describe() +
                       ", expected a mapping such as \"learning_rate: 5e-5\"");
  for (const YamlValue::Member &argument : member.value.members) {
    if (argument.key == "model_name_or_path") {
      SY_ASSIGN_OR_RETURN(scenario.models, textsOf(argument, false, path));
    } else {
      scenario.arguments.push_back({argument.key, argument.value, place(path, argument.line)});
    }
  }
  return {};
}

Status readMember(const YamlValue::Member &member, const std::string &path, Scenario &scenario) {
  if (member.key == "name") {
    if (member.value.kind != Kind::Text || member.value.text.empty())
      return invalid(path, member.line, "name is " + member.value.describe() + ", expected a text");
    scenario.name = member.value.text;
    return {};
  }
  if (member.key == "framework_config") {
    SY_ASSIGN_OR_RETURN(scenario.configurations, textsOf(member, true, path));
    return {};
  }
  if (member.key == "slow") {
    std::optional<bool> slow = truthValue(member.value);
    if (!slow)
      return invalid(path, member.line,
                     "slow is " + member.value.describe() + ", expected True or False");
    scenario.slow = *slow;
    return {};
  }
  if (member.key == "arguments")
    return readArguments(member, path, scenario);
  return invalid(path, member.line,
                 "unknown key " + quoteJson(member.key) +
                     " of a scenario, expected name, framework_config, slow or arguments");
}

Result<Scenario> readScenario(const YamlValue &value, const std::string &path) {
  if (value.kind != Kind::Map)
    return invalid(path, value.line,
                   "a scenario is " + value.describe() +
                       ", expected a mapping with name, framework_config and arguments");
  Scenario scenario;
  scenario.where = place(path, value.line);
  scenario.configurations = {{"", scenario.where}};
  for (const YamlValue::Member &member : value.members)
    SY_RETURN_IF_ERROR(readMember(member, path, scenario));
  if (scenario.name.empty())
    return invalid(path, value.line, "a scenario has no name; add \"name: ...\"");
  if (scenario.models.empty())
    return invalid(path, value.line,
                   "the scenario " + quoteJson(scenario.name) +
                       " has no arguments with model_name_or_path, expected a list of models");
  return scenario;
}

} // namespace

Result<std::vector<Scenario>> loadScenarios(const std::string &path) {
  SY_ASSIGN_OR_RETURN(YamlValue file, readYaml(path));
  for (const YamlValue::Member &member : file.members) {
    if (member.key == "data_processing") {
      SY_RETURN_IF_ERROR(checkDataProcessing(member.value, path));
    } else if (member.key != "scenarios") {
      return invalid(path, member.line,
                     "unknown key " + quoteJson(member.key) + ", expected scenarios");
    }
  }
  const YamlValue *list = file.find("scenarios");
  if (!list || list->kind != Kind::List || list->items.empty())
    return Status::invalidInput(path + ": has no list \"scenarios:\", expected one such as "
                                       "examples/scenarios/accelerated-moe.yaml has");
  std::vector<Scenario> scenarios;
  std::set<std::string> names;
  for (const YamlValue &item : list->items) {
    SY_ASSIGN_OR_RETURN(Scenario scenario, readScenario(item, path));
    if (!names.insert(scenario.name).second)
      return invalid(path, item.line,
                     "the scenario " + quoteJson(scenario.name) + " is there twice; rename one");
    scenarios.push_back(std::move(scenario));
  }
  return scenarios;
}

Result<std::vector<ScenarioArgument>> loadDefaults(const std::string &path) {
  SY_ASSIGN_OR_RETURN(YamlValue file, readYaml(path));
  if (file.kind != Kind::Map && !file.isNull())
    return invalid(path, file.line,
                   "is " + file.describe() +
                       ", expected a mapping of arguments such as \"max_steps: 100\"");
  std::vector<ScenarioArgument> arguments;
  for (const YamlValue::Member &member : file.members)
    arguments.push_back({member.key, member.value, place(path, member.line)});
  return arguments;
}

} // namespace switchyard::bench
