// moe-bench: times what moe-run executes. `step` times a plan's training steps, `checkpoint` its
// saves and loads, `layer` one MoE layer by itself, `grouped-gemm` its products. Without a command,
// --scenarios_config_path runs a matrix of scenarios, each by a moe-run of its own.

#include "tools/common/CommandLine.h"
#include "tools/moe-bench/CheckpointBenchmark.h"
#include "tools/moe-bench/MatrixRunner.h"
#include "tools/moe-bench/Routing.h"
#include "tools/moe-bench/ShapeBenchmark.h"
#include "tools/moe-bench/StepBenchmark.h"

using namespace switchyard;
using namespace switchyard::bench;

namespace {

/// The flags of commands that run a plan.
template <typename Arguments>
void addPlanFlags(CLI::App &command, Arguments &arguments) {
  command.add_option("--plan", arguments.plan, "The plan")->required();
  command
      .add_option("--length", arguments.length,
                  "Tokens of each record (default: the plan's --max-seq-length)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 31));
  command.add_option("--ranks", arguments.ranks, "Number of ranks; 0: the launcher's, else 1")
      ->check(CLI::Range(0, 1024));
  command
      .add_option("--threads", arguments.threads,
                  "Worker threads of a rank on the CPU; 0: the host's cores over its ranks")
      ->check(CLI::Range(0, 1024));
}

void addStepFlags(CLI::App &command, StepArguments &arguments) {
  addPlanFlags(command, arguments);
  command.add_option("--name", arguments.name,
                     "Name of the case (default: BATCHxTOKENSxACCUMULATION)");
  command.add_option("--lengths", arguments.lengths,
                     "File of the records' tokens, separated by white space");
  command.add_option("--steps", arguments.steps, "Steps that are timed")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  command.add_option("--warmup", arguments.warmup, "Steps before these")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000));
  command.add_option("--seed", arguments.seed, "Of weights and tokens")->capture_default_str();
  command.add_option("--json", arguments.json, "File that a line of JSON is appended to");
  command.add_option("--profile", arguments.profile,
                     "File for a trace of four further steps, for chrome://tracing or Perfetto");
}

void addCheckpointFlags(CLI::App &command, CheckpointArguments &arguments) {
  addPlanFlags(command, arguments);
  command
      .add_option("--model", arguments.model,
                  "Folder of the model's config.json and tokenizer; its weights are not read")
      ->required();
  command
      .add_option("--folder", arguments.folder,
                  "New or empty folder for checkpoints, on the disk that is measured")
      ->required();
  command.add_option("--saves", arguments.saves, "Saves that are timed")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000));
  command.add_option("--loads", arguments.loads, "Loads of each kind that are timed")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000));
  command.add_option("--json", arguments.json, "File that a line of JSON a figure is appended to");
}

void addShapeFlags(CLI::App &command, ShapeArguments &arguments) {
  command
      .add_option("--shape", arguments.shapes,
                  "Tokens, hidden size, expert size, experts, experts of a token")
      ->type_name("T,D,F,E,K ...");
  CLI::Option *models =
      command
          .add_option("--model", arguments.models, "Shapes of models, with each number of --tokens")
          ->check(CLI::IsMember(modelNames()));
  command.add_option("--tokens", arguments.tokens, "Tokens of a --model's layer")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20))
      ->needs(models);
  command.add_option("--target", arguments.target, "What it runs on: cpu or cuda")
      ->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda"}));
  command.add_option("--precision", arguments.precision, "f32 or bf16")
      ->capture_default_str()
      ->check(CLI::IsMember({"f32", "bf16"}));
  command.add_option("--runs", arguments.runs, "Runs that are timed")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  command.add_option("--warmup", arguments.warmup, "Runs before these")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000));
  command
      .add_option("--threads", arguments.threads,
                  "Worker threads of the CPU; 0: as many as it has cores")
      ->check(CLI::Range(0, 1024));
  command.add_option("--json", arguments.json, "File that a line of JSON a figure is appended to");
}

void addLayerFlags(CLI::App &command, LayerArguments &arguments) {
  addShapeFlags(command, arguments);
  command.add_flag("--fuse", arguments.fuse,
                   "Through the kernels that moe-compile --fuse chooses; --fuse=false: "
                   "without. Default: true");
  command.add_flag("--gather", arguments.gather,
                   "With --fuse, products read tokens where they stand; --gather=false: "
                   "permuted copies of them. Default: true");
  command.add_flag("--kernels", arguments.kernels,
                   "Time each of the layer's kernels by itself, too");
}

void addProductFlags(CLI::App &command, ProductArguments &arguments) {
  addShapeFlags(command, arguments);
  command.add_option("--routing", arguments.routings, "Which experts tokens choose")
      ->capture_default_str()
      ->check(CLI::IsMember(routingNames()));
  command.add_option("--cases", arguments.cases, "What is timed, comma-separated (default: all)")
      ->delimiter(',')
      ->check(CLI::IsMember(productCases()));
}

/// Spelled as fms-acceleration's benchmark.py spells them, so that its command lines work.
void addMatrixFlags(CLI::App &app, MatrixOptions &options) {
  app.add_option("--scenarios_config_path", options.scenarios, "File of scenarios to run");
  app.add_option("--defaults_config_path", options.defaults,
                 "File of arguments for all scenarios (default: defaults.yaml beside theirs)");
  app.add_option("--configurations", options.configurations,
                 "Folder of what framework_config names (default: ../configurations, from theirs)");
  app.add_option("--results_output_path", options.results,
                 "Folder for runs, table and report; runs that it has are not run again")
      ->capture_default_str();
  app.add_option("--training_data_path", options.trainingData,
                 "Alpaca records (default: the scenario's training_data_path)");
  app.add_option("--target", options.target, "What runs are on: cpu or cuda")
      ->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--num_gpus_matrix", options.numGpus, "Numbers of GPUs, or ranks of the CPU")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app.add_option("--effective_batch_size_matrix", options.effectiveBatchSizes,
                 "Records of a step, where a scenario leaves batch or accumulation open")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 30));
  app.add_option("--packing_matrix", options.packing, "Where a scenario leaves packing open")
      ->capture_default_str()
      ->check(CLI::IsMember({"True", "False", "true", "false"}));
  app.add_option("--max_seq_len_matrix", options.maxSeqLengths,
                 "Tokens of a sequence, where a scenario leaves max_seq_length open")
      ->capture_default_str()
      ->check(CLI::Range(2, 1 << 30));
  app.add_option("--run_only_scenarios", options.only,
                 "Names of scenarios (default: all that are not slow)");
  app.add_option("--reference_benchmark_filepath", options.reference,
                 "An earlier benchmarks.csv to compare with");
  app.add_option("--threshold_ratio", options.thresholdRatio,
                 "Share by which a figure may differ from the reference's")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 100.0));
  app.add_flag("--dry_run", options.dryRun, "Print the commands, run and write nothing");
}

/// The matrix' flags are the program's, so they could stand before a command too.
Status checkAlone(const CLI::App &app, const std::string &scenarios) {
  for (const CLI::Option *option : app.get_options())
    if (option->count() > 0 && (!app.get_subcommands().empty() || scenarios.empty()))
      return Status::usage(option->get_name() +
                           (scenarios.empty()
                                ? " is for a matrix of scenarios; add --scenarios_config_path FILE"
                                : " runs a matrix of scenarios; leave the command out"));
  return {};
}

} // namespace

int main(int argc, char **argv) {
  CLI::App app(
      "Times what moe-run executes: a command on random numbers, without checkpoint or data; "
      "--scenarios_config_path a matrix of training runs, each by a moe-run of its own.");
  app.require_subcommand(0, 1);
  MatrixOptions matrixOptions;
  addMatrixFlags(app, matrixOptions);
  CLI::App *stepCommand = app.add_subcommand("step", "Whole training steps of a plan");
  StepArguments stepArguments;
  addStepFlags(*stepCommand, stepArguments);
  CLI::App *checkpointCommand = app.add_subcommand(
      "checkpoint", "What saving costs training, and how fast states are loaded");
  CheckpointArguments checkpointArguments;
  addCheckpointFlags(*checkpointCommand, checkpointArguments);
  CLI::App *layerCommand =
      app.add_subcommand("layer", "One MoE layer by itself, forward and with all gradients");
  LayerArguments layerArguments;
  addLayerFlags(*layerCommand, layerArguments);
  CLI::App *gemmCommand = app.add_subcommand(
      "grouped-gemm", "The experts' products by themselves, and their gradients");
  ProductArguments gemmArguments;
  addProductFlags(*gemmCommand, gemmArguments);

  return runCommand("moe-bench", app, argc, argv, [&]() -> Status {
    SY_RETURN_IF_ERROR(checkAlone(app, matrixOptions.scenarios));
    if (!matrixOptions.scenarios.empty())
      return runMatrix(matrixOptions);
    if (stepCommand->parsed())
      return runStepBenchmark(stepArguments);
    if (checkpointCommand->parsed())
      return runCheckpointBenchmark(checkpointArguments);
    if (layerCommand->parsed())
      return runLayerBenchmark(layerArguments);
    if (gemmCommand->parsed())
      return runGroupedGemmBenchmark(gemmArguments);
    return Status::usage("a command is missing: step, checkpoint, layer or grouped-gemm, or "
                         "--scenarios_config_path; see "
                         "moe-bench --help");
  });
}
