#include "tools/moe-bench/ScenarioArguments.h"

#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "runtime/training/TrainingArguments.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

namespace switchyard::bench {

namespace {

using Kind = YamlValue::Kind;

/// Above any number of steps: moe-run then saves at the end alone.
constexpr char kNeverSaves[] = "1000000000";

/// An argument that says what is done anyway, or that cannot be otherwise.
struct FixedArgument {
  const char *name;
  std::vector<const char *> values; // accepted; empty: true and false
  const char *why;                  // what is done, for the refusal of another value
  const char *note = nullptr;       // printed where the argument is given as true
};

const std::vector<FixedArgument> &fixedArguments() {
  static const std::vector<FixedArgument> arguments = {
      {"use_flash_attn", {}, "", nullptr},
      {"gradient_checkpointing",
       {},
       "",
       "gradient_checkpointing has no effect: nothing is computed twice, which takes more memory "
       "and "
       "gives the same results"},
      {"include_tokens_per_second", {}, "", nullptr},
      {"include_num_input_tokens_seen", {}, "", nullptr},
      {"skip_memory_metrics", {}, "", nullptr},
      {"evaluation_strategy", {"no"}, "a benchmark trains only", nullptr},
      {"eval_strategy", {"no"}, "a benchmark trains only", nullptr},
      {"logging_strategy", {"steps"}, "each step is logged", nullptr},
      {"optim", {"adamw_torch", "adamw_torch_fused"}, "the optimizer is AdamW", nullptr},
      {"dataset_text_field", {"output"}, "records are Alpaca's", nullptr},
      {"response_template",
       {"\n### Response:", "### Response:"},
       "the loss counts Alpaca's responses",
       nullptr},
  };
  return arguments;
}

/// What each run gets from elsewhere.
struct ElsewhereArgument {
  const char *name;
  const char *from;
};

constexpr ElsewhereArgument kElsewhere[] = {
    {"plan", "each run compiles its own"},
    {"model", "use model_name_or_path"},
    {"output_dir", "use --results_output_path"},
    {"resume_from_checkpoint", "each run starts anew"},
    {"ranks", "use --num_gpus_matrix"},
    {"num_gpus", "use --num_gpus_matrix"},
    {"mesh", "it follows from the GPUs and the configuration's ep_degree"},
    {"precision", "use torch_dtype, and bf16: True for float32 states"},
    {"target", "use --target"},
    {"effective_batch_size", "use --effective_batch_size_matrix"},
};

bool isNo(const YamlValue &value) {
  return truthValue(value) == false;
}

class Translator {
public:
  explicit Translator(const std::string &file) : file_(file) {}

  Status add(const ScenarioArgument &argument) {
    if (argument.value.isNull())
      return {};
    if (argument.value.kind != Kind::Text)
      return error(argument, "a single value");
    for (const ElsewhereArgument &elsewhere : kElsewhere)
      if (argument.name == elsewhere.name)
        return Status::invalidInput(argument.where + ": " + argument.name +
                                    " is not for scenarios: " + elsewhere.from);
    for (const FixedArgument &fixed : fixedArguments())
      if (argument.name == fixed.name)
        return addFixed(argument, fixed);
    if (argument.name == "torch_dtype" || argument.name == "dtype" || argument.name == "bf16" ||
        argument.name == "fp16")
      return addDtype(argument);
    if (argument.name == "save_strategy")
      return addSaveStrategy(argument);
    if (argument.name == "accelerator_config")
      return addAcceleratorConfig(argument);
    if (argument.name == "training_data_path" || argument.name == "data")
      return addFile(argument, "data");
    if (argument.name == "tokenizer")
      return addFile(argument, "tokenizer");
    if (argument.name == "max_seq_len")
      return addKey(argument, "max_seq_length");
    return addKey(argument, argument.name);
  }

  Result<RunArguments> finish() && {
    SY_RETURN_IF_ERROR(choosePrecision());
    if (!arguments_.keepsCheckpoints)
      arguments_.values["save_steps"] = kNeverSaves;
    auto take = [&](const char *key, std::optional<int64_t> &to) {
      if (auto found = arguments_.values.find(key); found != arguments_.values.end()) {
        to = std::stoll(found->second); // setArgument() took it
        arguments_.values.erase(found);
      }
    };
    take("per_device_train_batch_size", arguments_.perDeviceTrainBatchSize);
    take("gradient_accumulation_steps", arguments_.gradientAccumulationSteps);
    take("max_seq_length", arguments_.maxSeqLength);
    if (auto found = arguments_.values.find("packing"); found != arguments_.values.end()) {
      arguments_.packing = found->second == "true";
      arguments_.values.erase(found);
    }
    return std::move(arguments_);
  }

private:
  static Status error(const ScenarioArgument &argument, const std::string &expected) {
    return Status::invalidInput(argument.where + ": " + argument.name + " is " +
                                argument.value.describe() + ", expected " + expected);
  }

  Status addFixed(const ScenarioArgument &argument, const FixedArgument &fixed) {
    const std::optional<bool> truth = truthValue(argument.value);
    if (fixed.values.empty()) {
      if (!truth)
        return error(argument, "true or false");
      if (*truth && fixed.note)
        arguments_.notes.emplace_back(fixed.note);
      return {};
    }
    std::string expected;
    for (const char *value : fixed.values) {
      if (argument.value.text == value || (std::string(value) == "no" && isNo(argument.value)))
        return {};
      expected += (expected.empty() ? "" : " or ") + quoteJson(value);
    }
    return error(argument, expected + ": " + fixed.why);
  }

  Status addDtype(const ScenarioArgument &argument) {
    if (argument.name == "torch_dtype" || argument.name == "dtype") {
      const std::string &text = argument.value.text;
      if (text != "bfloat16" && text != "float32" && text != "auto")
        return error(argument, "bfloat16, float32 or auto; other types are not trained in");
      arguments_.torchDtype = text == "auto" ? "" : text;
      return {};
    }
    const std::optional<bool> truth = truthValue(argument.value);
    if (!truth)
      return error(argument, "true or false");
    if (argument.name == "fp16" && *truth)
      return error(argument, "false: float16 is not trained in; use torch_dtype: bfloat16");
    if (argument.name == "bf16") {
      bf16_ = *truth;
      bf16Where_ = argument.where;
    }
    return {};
  }

  /// transformers' bf16 computes in bfloat16 whatever the parameters are kept in.
  Status choosePrecision() {
    if (bf16_ && arguments_.torchDtype.empty())
      return Status::invalidInput(
          bf16Where_ + ": bf16 is true, but no torch_dtype says what parameters are kept "
                       "in; add torch_dtype: bfloat16, or float32");
    if (arguments_.torchDtype == "bfloat16")
      arguments_.values["precision"] = "bf16";
    else if (arguments_.torchDtype == "float32")
      arguments_.values["precision"] = bf16_ ? "bf16_f32_state" : "f32";
    return {};
  }

  Status addSaveStrategy(const ScenarioArgument &argument) {
    if (!isNo(argument.value) && argument.value.text != "steps")
      return error(argument, "\"no\" or \"steps\"");
    arguments_.keepsCheckpoints = !isNo(argument.value);
    return {};
  }

  Status addAcceleratorConfig(const ScenarioArgument &argument) {
    const std::optional<std::string> path = findBeside(argument.value.text, file_);
    if (!path)
      return error(argument, "a JSON file; there is none, neither from here nor from " + file_);
    SY_ASSIGN_OR_RETURN(Json config, readJson(*path));
    const Json *kwargs = config.find("gradient_accumulation_kwargs");
    for (const Json::Member &member : config.members())
      if (member.key != "gradient_accumulation_kwargs")
        return Status::invalidInput(*path + ": unknown key " + quoteJson(member.key) +
                                    ", expected gradient_accumulation_kwargs");
    if (!kwargs || !kwargs->isObject())
      return Status::invalidInput(*path +
                                  ": expected an object "
                                  "{\"gradient_accumulation_kwargs\": {\"sync_each_batch\": "
                                  "true}}");
    for (const Json::Member &member : kwargs->members()) {
      if (member.key != "sync_each_batch")
        return Status::invalidInput(*path + ": gradient_accumulation_kwargs: unknown key " +
                                    quoteJson(member.key) + ", expected sync_each_batch");
      Result<bool> value = getBool(*kwargs, "sync_each_batch");
      if (!value.ok())
        return value.status().within(*path);
      arguments_.values["sync_each_batch"] = *value ? "true" : "false";
    }
    return {};
  }

  Status addFile(const ScenarioArgument &argument, const char *key) {
    const std::optional<std::string> path = findBeside(argument.value.text, file_);
    if (!path)
      return error(argument, "a file; there is none, neither from here nor from " + file_);
    arguments_.values[key] = *path;
    return {};
  }

  /// An argument that moe-run train has.
  Status addKey(const ScenarioArgument &argument, const std::string &key) {
    const auto fields = argumentFields();
    const auto field =
        std::ranges::find_if(fields, [&](const ArgumentField &f) { return key == f.name; });
    if (field == fields.end() && key.find('-') != std::string::npos)
      return Status::invalidInput(argument.where + ": no argument is called " + quoteJson(key) +
                                  "; in files names have underscores");
    std::string text = argument.value.text;
    if (field != fields.end() && field->isFlag()) {
      const std::optional<bool> truth = truthValue(argument.value);
      if (!truth)
        return error(argument, "true or false");
      text = *truth ? "true" : "false";
    }
    TrainingArguments unused;
    Status status = setArgument(unused, key, text);
    if (!status.ok())
      return Status::invalidInput(argument.where + ": " + status.message() +
                                  (field == fields.end()
                                       ? "; remove it, or leave scenarios that have it out by "
                                         "--run_only_scenarios"
                                       : ""));
    arguments_.values[field->name] = text;
    return {};
  }

  const std::string &file_;
  RunArguments arguments_;
  bool bf16_ = false;
  std::string bf16Where_;
};

} // namespace

Result<RunArguments> translateArguments(const Scenario &scenario,
                                        const std::vector<ScenarioArgument> &defaults,
                                        const std::string &file) {
  Translator translator(file);
  for (const ScenarioArgument &argument : defaults)
    if (std::ranges::none_of(scenario.arguments, [&](const ScenarioArgument &own) {
          return own.name == argument.name;
        }))
      SY_RETURN_IF_ERROR(translator.add(argument));
  for (const ScenarioArgument &argument : scenario.arguments)
    SY_RETURN_IF_ERROR(translator.add(argument));
  return std::move(translator).finish();
}

std::optional<std::string> findBeside(const std::string &name, const std::string &file) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::exists(name, error))
    return fs::weakly_canonical(name, error).string();
  fs::path folder = fs::absolute(file, error).lexically_normal().parent_path();
  while (!fs::path(name).is_absolute()) {
    if (fs::exists(folder / name, error))
      return fs::weakly_canonical(folder / name, error).string();
    if (!folder.has_relative_path())
      break;
    folder = folder.parent_path();
  }
  return std::nullopt;
}

std::vector<std::string> flagsOf(const std::map<std::string, std::string> &values) {
  std::vector<std::string> words;
  for (const ArgumentField &field : argumentFields()) {
    auto found = values.find(field.name);
    if (found == values.end())
      continue;
    if (field.isFlag()) {
      words.push_back(field.flagName() + (found->second == "true" ? "" : "=false"));
    } else {
      words.push_back(field.flagName());
      words.push_back(found->second);
    }
  }
  return words;
}

} // namespace switchyard::bench
