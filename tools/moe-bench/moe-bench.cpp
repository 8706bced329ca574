// moe-bench: times what moe-run executes. `step` times a plan's training steps, `layer`
// one MoE layer by itself, `grouped-gemm` its products.

#include "tools/common/CommandLine.h"
#include "tools/moe-bench/ShapeBenchmark.h"
#include "tools/moe-bench/StepBenchmark.h"

using namespace switchyard;
using namespace switchyard::bench;

namespace {

void addStepFlags(CLI::App &command, StepArguments &arguments) {
  command.add_option("--plan", arguments.plan, "The plan")->required();
  command.add_option("--name", arguments.name,
                     "Name of the case (default: BATCHxTOKENSxACCUMULATION)");
  command
      .add_option("--length", arguments.length,
                  "Tokens of each record (default: the plan's --max-seq-length)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 31));
  command.add_option("--lengths", arguments.lengths,
                     "File of the records' tokens, separated by white space");
  command.add_option("--steps", arguments.steps, "Steps that are timed")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  command.add_option("--warmup", arguments.warmup, "Steps before these")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000));
  command
      .add_option("--threads", arguments.threads, "Worker threads of the CPU; 0: the plan's number")
      ->check(CLI::Range(0, 1024));
  command.add_option("--seed", arguments.seed, "Of weights and tokens")->capture_default_str();
  command.add_option("--json", arguments.json, "File that a line of JSON is appended to");
  command.add_option("--profile", arguments.profile,
                     "File for a trace of four further steps, for chrome://tracing or Perfetto");
}

void addShapeFlags(CLI::App &command, ShapeArguments &arguments) {
  command
      .add_option("--shape", arguments.shapes,
                  "Tokens, hidden size, expert size, experts, experts of a token")
      ->required()
      ->type_name("T,D,F,E,K ...");
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

} // namespace

int main(int argc, char **argv) {
  CLI::App app("Times what moe-run executes, on random numbers: no checkpoint, no data.");
  app.require_subcommand(0, 1);
  CLI::App *stepCommand = app.add_subcommand("step", "Whole training steps of a plan");
  StepArguments stepArguments;
  addStepFlags(*stepCommand, stepArguments);
  CLI::App *layerCommand =
      app.add_subcommand("layer", "One MoE layer by itself, forward and with all gradients");
  ShapeArguments layerArguments;
  addShapeFlags(*layerCommand, layerArguments);
  CLI::App *gemmCommand = app.add_subcommand(
      "grouped-gemm", "The experts' products by themselves, and their gradients");
  ShapeArguments gemmArguments;
  addShapeFlags(*gemmCommand, gemmArguments);

  return runCommand("moe-bench", app, argc, argv, [&]() -> Status {
    if (stepCommand->parsed())
      return runStepBenchmark(stepArguments);
    if (layerCommand->parsed())
      return runLayerBenchmark(layerArguments);
    if (gemmCommand->parsed())
      return runGroupedGemmBenchmark(gemmArguments);
    return Status::usage("a command is missing: step, layer or grouped-gemm; see moe-bench --help");
  });
}
