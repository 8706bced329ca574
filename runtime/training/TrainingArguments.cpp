#include "runtime/training/TrainingArguments.h"

#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "runtime/training/YamlDocument.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <set>
#include <type_traits>

namespace switchyard {

namespace {

using Args = TrainingArguments;

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;
constexpr double kMaxCount = 2147483647;
constexpr double kMaxInteger = 9007199254740992; // 2^53

constexpr ArgumentField kFields[] = {
    {"plan", &Args::plan, "the plan to run; without it one is compiled"},
    {"model", &Args::model, "folder of the Hugging Face checkpoint to start from"},
    {"data", &Args::data, "Alpaca records, a JSON array or one a line"},
    {"output_dir", &Args::outputDir, "where metrics and checkpoints go"},
    {"tokenizer", &Args::tokenizer, "tokenizer.json or SentencePiece model (default: the model's)"},
    {"ranks", &Args::ranks, "number of ranks; 0: the launcher's, else 1", 0, 1024},
    {"threads", &Args::threads, "worker threads of a rank; 0: the host's cores over its ranks", 0,
     1024},
    {"comm_timeout", &Args::commTimeout, "seconds that ranks wait for one that does not come", 0.01,
     1e7},
    {"max_steps", &Args::maxSteps, "updates to make; above 0 it overrides num_train_epochs", -1,
     kMaxInteger},
    {"num_train_epochs", &Args::numTrainEpochs, "passes over the data", 0, 1e9, nullptr, true},
    {"learning_rate", &Args::learningRate, "peak learning rate", 0, 1e6},
    {"lr_scheduler_type", &Args::lrSchedulerType, "how the learning rate moves", 0, 0,
     "linear|cosine|constant|constant_with_warmup"},
    {"warmup_steps", &Args::warmupSteps, "updates that warm up; below 1 a share of all", 0,
     kMaxInteger},
    {"weight_decay", &Args::weightDecay, "decoupled weight decay", 0, 1e6},
    {"adam_beta1", &Args::adamBeta1, "decay of the first moment", 0, 1},
    {"adam_beta2", &Args::adamBeta2, "decay of the second moment", 0, 1},
    {"adam_epsilon", &Args::adamEpsilon, "AdamW's epsilon", 0, 1},
    {"max_grad_norm", &Args::maxGradNorm, "gradient norm to clip to; 0 does not clip", 0, 1e30},
    {"seed", &Args::seed, "seed of the sampling", 0, kMaxInteger},
    {"train_sampling_strategy", &Args::trainSamplingStrategy, "order of the records", 0, 0,
     "sequential|random"},
    {"logging_steps", &Args::loggingSteps, "steps between progress lines in a log", 1, kMaxInteger},
    {"save_steps", &Args::saveSteps, "steps between checkpoints", 1, kMaxInteger},
    {"save_total_limit", &Args::saveTotalLimit, "newest checkpoints to keep; 0: all", 0,
     kMaxInteger},
    {"resume_from_checkpoint", &Args::resumeFromCheckpoint, "latest, or a checkpoint's folder"},
    {"report_to", &Args::reportTo,
     "where metrics also go: tensorboard writes event files into OUT/runs", 0, 0,
     "none|tensorboard"},
    {"profile", &Args::profile,
     "file for a trace of steps 4 to 7, for chrome://tracing or Perfetto"},
    {"debug_nonfinite", &Args::debugNonfinite,
     "on a loss or norm that is not finite, say which operation made the first such value"},
    {"mesh", &Args::mesh, "axes of the mesh: fsdp=2,ep=4"},
    {"precision", &Args::precision, "precision policy", 0, 0, "f32|bf16|bf16_f32_state"},
    {"target", &Args::target, "device", 0, 0, "cpu|cuda"},
    {"per_device_train_batch_size", &Args::perDeviceTrainBatchSize, "sequences of one micro-batch",
     1, kMaxCount},
    {"gradient_accumulation_steps", &Args::gradientAccumulationSteps,
     "micro-batches of one step and rank", 1, kMaxCount},
    {"max_seq_length", &Args::maxSeqLength, "tokens kept of a sequence", 2, kMaxCount},
    {"packing", &Args::packing, "fill sequences with several records"},
    {"recompute", &Args::recompute, "what backward computes again", 0, 0, "none|cheap"},
    {"fuse", &Args::fuse, "kernels that do on the way what others would do to their results"},
    {"gather", &Args::gather, "experts' products that take tokens where they stand"},
    {"coalesce", &Args::coalesce, "micro-batches of one pass: auto, N or tokens=M"},
    {"step_program", &Args::stepProgram, "programs of a step", 0, 0, "auto|split|fused"},
    {"sync_each_batch", &Args::syncEachBatch, "reduce gradients after every pass"},
    {"reshard_after_forward", &Args::reshardAfterForward,
     "gather a layer's parameters again for the backward direction"},
    {"token_exchange_slot_factor", &Args::tokenExchangeSlotFactor,
     "rows that a rank can receive at once, as a multiple of even routing", 0, 1e6, nullptr, true},
    {"loss_normalization", &Args::lossNormalization, "what a step's loss is averaged over", 0, 0,
     "global|micro_batch"},
    {"weight_decay_scope", &Args::weightDecayScope, "what decays: hf (no norms) or all", 0, 0,
     "hf|all"},
    {"router_aux_loss_coef", &Args::routerAuxLossCoef, "weight of the load-balancing loss", 0, 1e6},
    {"aux_loss_scope", &Args::auxLossScope, "what the load is averaged over", 0, 0,
     "micro_batch|pass"},
};

std::string formatNumber(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), value == std::floor(value) && value < 1e16 ? "%.0f" : "%g",
                value);
  return text;
}

template <typename T>
constexpr bool isOptional = false;
template <typename T>
constexpr bool isOptional<std::optional<T>> = true;

std::string expectedRange(const ArgumentField &field, const char *kind) {
  return std::string(kind) + (field.lowExcluded ? " above " : " from ") + formatNumber(field.low) +
         (field.lowExcluded ? ", at most " : " to ") + formatNumber(field.high);
}

template <typename T>
bool parseNumber(const std::string &text, const ArgumentField &field, T &value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return false;
  double number = static_cast<double>(value);
  // Written so that a NaN fails.
  return number <= field.high && (field.lowExcluded ? number > field.low : number >= field.low);
}

bool isChoice(std::string_view choices, std::string_view text) {
  while (true) {
    size_t end = choices.find('|');
    if (choices.substr(0, end) == text)
      return true;
    if (end == std::string_view::npos)
      return false;
    choices.remove_prefix(end + 1);
  }
}

// Each returns what was expected instead; empty if `text` was one.
std::string parse(const std::string &text, const ArgumentField &field, int64_t &value) {
  return parseNumber(text, field, value) ? "" : expectedRange(field, "an integer");
}

std::string parse(const std::string &text, const ArgumentField &field, double &value) {
  return parseNumber(text, field, value) ? "" : expectedRange(field, "a number");
}

std::string parse(const std::string &text, const ArgumentField &, bool &value) {
  value = text == "true";
  return value || text == "false" ? "" : "true or false";
}

std::string parse(const std::string &text, const ArgumentField &field, std::string &value) {
  value = text;
  if (field.choices)
    return isChoice(field.choices, text) ? "" : std::string("one of ") + field.choices;
  return text.empty() ? "a text that is not empty" : "";
}

/// Sets the field, or returns what was expected instead.
std::string setField(Args &arguments, const ArgumentField &field, const std::string &text) {
  return std::visit(
      [&](auto member) -> std::string {
        auto &slot = arguments.*member;
        using Slot = std::remove_reference_t<decltype(slot)>;
        if constexpr (isOptional<Slot>) {
          typename Slot::value_type value{};
          std::string expected = parse(text, field, value);
          if (expected.empty())
            slot = std::move(value);
          return expected;
        } else {
          Slot value{};
          std::string expected = parse(text, field, value);
          if (expected.empty())
            slot = std::move(value);
          return expected;
        }
      },
      field.member);
}

const ArgumentField *findField(std::string_view name) {
  std::string key(name);
  std::replace(key.begin(), key.end(), '-', '_');
  for (const ArgumentField &field : kFields)
    if (key == field.name)
      return &field;
  return nullptr;
}

/// Levenshtein's distance.
size_t editDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t change = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row[b.size()];
}

/// "; did you mean learning_rate?" where a name is near enough to be a slip: less than half of its
/// letters.
std::string suggestion(std::string_view name) {
  constexpr size_t kLongestName = 64, kFarthest = 3;
  const char *best = nullptr;
  size_t distance = std::min(kFarthest + 1, (name.size() + 1) / 2);
  if (name.size() <= kLongestName)
    for (const ArgumentField &field : kFields)
      if (size_t d = editDistance(name, field.name); d < distance) {
        distance = d;
        best = field.name;
      }
  return best ? std::string("; did you mean ") + best + "?" : "";
}

Status setFromNode(const YAML::Node &key, const YAML::Node &value, const std::string &where,
                   std::set<std::string> &seen, Args &arguments) {
  if (!key.IsScalar())
    return Status::invalidInput(where + ": a key is no text, expected one like learning_rate");
  const ArgumentField *field = findField(key.Scalar());
  if (!field)
    return Status::invalidInput(where + ": unknown key " + quoteJson(key.Scalar()) +
                                suggestion(key.Scalar()));
  if (!seen.insert(field->name).second)
    return Status::invalidInput(where + ": " + field->name + " is given twice, expected it once");
  if (value.IsNull())
    return {};
  if (!value.IsScalar())
    return Status::invalidInput(where + ": " + field->name + " is a " +
                                (value.IsSequence() ? "list" : "mapping") +
                                ", expected a single value");
  if (std::string expected = setField(arguments, *field, value.Scalar()); !expected.empty())
    return Status::invalidInput(where + ": " + field->name + " is " + quoteJson(value.Scalar()) +
                                ", expected " + expected);
  return {};
}

} // namespace

std::string ArgumentField::flagName() const {
  std::string flag = std::string("--") + name;
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

bool ArgumentField::isFlag() const {
  return std::holds_alternative<bool Args::*>(member) ||
         std::holds_alternative<std::optional<bool> Args::*>(member);
}

std::string ArgumentField::typeText() const {
  if (choices)
    return choices;
  bool isText = std::holds_alternative<std::string Args::*>(member) ||
                std::holds_alternative<std::optional<std::string> Args::*>(member);
  return isText ? "TEXT" : "NUMBER";
}

std::string ArgumentField::defaultText() const {
  return std::visit(
      [](auto pointer) -> std::string {
        auto value = Args().*pointer;
        using Value = decltype(value);
        if constexpr (isOptional<Value>)
          return "";
        else if constexpr (std::is_same_v<Value, std::string>)
          return value;
        else
          return formatNumber(static_cast<double>(value));
      },
      member);
}

std::span<const ArgumentField> argumentFields() {
  return kFields;
}

Status setArgument(TrainingArguments &arguments, std::string_view name, const std::string &value) {
  const ArgumentField *field = findField(name);
  if (!field)
    return Status::usage("no argument is called " + quoteJson(name) + suggestion(name));
  if (std::string expected = setField(arguments, *field, value); !expected.empty())
    return Status::usage(field->flagName() + " is " + quoteJson(value) + ", expected " + expected);
  return {};
}

Status loadConfig(const std::string &path, TrainingArguments &arguments) {
  SY_ASSIGN_OR_RETURN(std::string text, readFile(path, kMaxConfigBytes));
  try {
    const YAML::Node document = isOneYamlDocument(text) ? YAML::Load(text) : YAML::Node();
    if (!document.IsMap())
      return Status::invalidInput(path + ": expected one mapping of keys to values, such as "
                                         "\"learning_rate: 1e-4\"");
    std::set<std::string> seen;
    for (const auto &member : document) {
      std::string where = path + ": line " + std::to_string(member.first.Mark().line + 1);
      SY_RETURN_IF_ERROR(setFromNode(member.first, member.second, where, seen, arguments));
    }
  } catch (const YAML::Exception &error) {
    return Status::invalidInput(path + ": line " + std::to_string(error.mark.line + 1) +
                                ": not readable as YAML or JSON (" + error.msg + ")");
  } catch (const std::exception &error) {
    return Status::invalidInput(path + ": not readable as YAML or JSON (" + error.what() + ")");
  }
  return {};
}

Status validateArguments(const TrainingArguments &arguments) {
  struct Required {
    const char *flag;
    const std::string &value;
    const char *what;
  };
  for (const Required &required :
       {Required{"--model", arguments.model, "the folder of a Hugging Face checkpoint"},
        Required{"--data", arguments.data, "a file of Alpaca records"},
        Required{"--output-dir", arguments.outputDir, "a folder for metrics and checkpoints"}})
    if (required.value.empty())
      return Status::usage(std::string(required.flag) + " is missing, expected " + required.what);
  if (arguments.maxSteps == 0)
    return Status::usage("--max-steps is 0, expected above 0, or -1 to train num_train_epochs");
  if (arguments.warmupSteps >= 1 && arguments.warmupSteps != std::floor(arguments.warmupSteps))
    return Status::usage("--warmup-steps is " + formatNumber(arguments.warmupSteps) +
                         ", expected a whole number, or a share of all steps below 1");
  if (arguments.adamBeta1 == 1 || arguments.adamBeta2 == 1)
    return Status::usage(std::string(arguments.adamBeta1 == 1 ? "--adam-beta1" : "--adam-beta2") +
                         " is 1, expected below 1: its moment would never change");
  return {};
}

int64_t TrainingArguments::warmupStepsOf(int64_t totalSteps) const {
  if (warmupSteps >= 1)
    return static_cast<int64_t>(warmupSteps);
  return static_cast<int64_t>(std::ceil(static_cast<double>(totalSteps) * warmupSteps));
}

std::vector<std::string> TrainingArguments::compileArguments() const {
  std::vector<std::string> flags;
  auto add = [&](const ArgumentField &field, const auto &value) {
    using Value = std::decay_t<decltype(value)>;
    if constexpr (std::is_same_v<Value, bool>) {
      flags.push_back(field.flagName() + (value ? "" : "=false"));
    } else {
      flags.push_back(field.flagName());
      if constexpr (std::is_same_v<Value, std::string>)
        flags.push_back(value);
      else
        flags.push_back(Json(value).dump());
    }
  };
  for (const ArgumentField &field : kFields)
    std::visit(
        [&](auto member) {
          const auto &slot = this->*member;
          if constexpr (isOptional<std::decay_t<decltype(slot)>>)
            if (slot)
              add(field, *slot);
        },
        field.member);
  return flags;
}

} // namespace switchyard
