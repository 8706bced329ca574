// moe-run: executes plans. `train` trains a model, `eval` measures one, `validate` compares with
// transformers, `export` writes a Hugging Face folder.

#include "tools/common/CommandLine.h"
#include "tools/moe-run/Commands.h"

using namespace switchyard;

namespace {

/// Words of the command line by key of TrainingArguments, in the order they were given.
using GivenArguments = std::vector<std::pair<std::string, std::string>>;

void addTrainFlags(CLI::App &command, std::string &config, GivenArguments &given) {
  command.add_option("--config", config, "YAML or JSON file of the same keys; flags go over it");
  for (const ArgumentField &field : argumentFields()) {
    std::string name = field.name;
    auto add = [&given, name](const std::string &value) { given.emplace_back(name, value); };
    if (field.isFlag())
      command.add_flag_function(
          field.flagName() + "{true}", [add](int64_t count) { add(count > 0 ? "true" : "false"); },
          field.help);
    else
      command.add_option_function<std::string>(field.flagName(), add, field.help)
          ->type_name(field.typeText())
          ->default_str(field.defaultText());
  }
}

/// The flags of commands that run on many ranks.
template <typename Arguments>
void addRankFlags(CLI::App &command, Arguments &arguments) {
  command.add_option("--ranks", arguments.ranks, "Number of ranks; 0: the launcher's, else 1")
      ->check(CLI::Range(0, 1024));
  command
      .add_option("--threads", arguments.threads,
                  "Worker threads of a rank; 0: the host's cores over its ranks")
      ->check(CLI::Range(0, 1024));
  command
      .add_option("--comm-timeout", arguments.commTimeout,
                  "Seconds that ranks wait for one that does not come")
      ->check(CLI::Range(0.01, 1e7));
}

/// Refuses words that CLI11 knows no flag for, with the flag that was perhaps meant.
Status checkRemaining(const std::vector<std::string> &words) {
  for (const std::string &word : words)
    if (word.starts_with("--")) {
      const std::string name = word.substr(2, word.find('=') - 2);
      for (const ArgumentField &field : argumentFields())
        if (name == field.name)
          return Status::usage("--" + name + " is written " + field.flagName() +
                               " here; see moe-run train --help");
      TrainingArguments unused;
      Status status = setArgument(unused, name, "");
      return Status::usage(status.message() + "; see moe-run train --help");
    }
  return words.empty()
             ? Status()
             : Status::usage("\"" + words[0] + "\" is no flag of moe-run train; see its --help");
}

Status collectTrainArguments(const std::string &config, const GivenArguments &given,
                             TrainingArguments &arguments) {
  if (!config.empty())
    SY_RETURN_IF_ERROR(loadConfig(config, arguments));
  for (const auto &[name, value] : given)
    SY_RETURN_IF_ERROR(setArgument(arguments, name, value));
  return {};
}

} // namespace

int main(int argc, char **argv) {
  CLI::App app("Executes a plan, which moe-compile writes: trains, evaluates, validates, exports.");
  app.require_subcommand(0, 1);

  CLI::App *trainCommand = app.add_subcommand("train", "Train a model on Alpaca records");
  std::string config;
  GivenArguments given;
  addTrainFlags(*trainCommand, config, given);
  trainCommand->allow_extras();

  CLI::App *validateCommand =
      app.add_subcommand("validate", "Compare training steps with what transformers did");
  ValidateArguments validateArguments;
  validateCommand->add_option("--golden", validateArguments.golden, "Folder of the golden")
      ->required();
  validateCommand->add_option("--model", validateArguments.model,
                              "Checkpoint folder (default: the golden's)");
  validateCommand->add_option("--plan", validateArguments.plan,
                              "The plan (default: one is compiled)");
  validateCommand->add_option("--mesh", validateArguments.mesh,
                              "Mesh of the plan that is compiled: fsdp=2,ep=4");
  validateCommand
      ->add_option("--target", validateArguments.target,
                   "What the plan that is compiled runs on (default: cpu)")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  addRankFlags(*validateCommand, validateArguments);

  CLI::App *evalCommand = app.add_subcommand("eval", "Print the loss of Alpaca records");
  EvaluateArguments evaluateArguments;
  evalCommand->add_option("--plan", evaluateArguments.plan, "The plan")->required();
  evalCommand->add_option("--model", evaluateArguments.model, "Checkpoint folder")->required();
  evalCommand->add_option("--data", evaluateArguments.data, "Alpaca records")->required();
  evalCommand->add_option("--tokenizer", evaluateArguments.tokenizer,
                          "tokenizer.json or SentencePiece model (default: the model's)");
  addRankFlags(*evalCommand, evaluateArguments);
  evalCommand->add_flag("--debug-nonfinite", evaluateArguments.debugNonfinite,
                        "Fail on a loss that is not finite, and say which operation made the first "
                        "such value");

  CLI::App *exportCommand =
      app.add_subcommand("export", "Write a Hugging Face folder from a checkpoint");
  ExportArguments exportArguments;
  exportCommand
      ->add_option("--checkpoint", exportArguments.checkpoint, "OUT/checkpoint-N of moe-run train")
      ->required();
  exportCommand->add_option("--output-dir", exportArguments.target, "The folder to write")
      ->required();

  return runCommand("moe-run", app, argc, argv, [&]() -> Status {
    if (trainCommand->parsed()) {
      TrainingArguments arguments;
      SY_RETURN_IF_ERROR(checkRemaining(trainCommand->remaining()));
      SY_RETURN_IF_ERROR(collectTrainArguments(config, given, arguments));
      return runTrain(arguments);
    }
    if (validateCommand->parsed())
      return runValidate(validateArguments);
    if (evalCommand->parsed())
      return runEvaluate(evaluateArguments);
    if (exportCommand->parsed())
      return runExport(exportArguments);
    return Status::usage(
        "a command is missing: train, validate, eval or export; see moe-run --help");
  });
}
