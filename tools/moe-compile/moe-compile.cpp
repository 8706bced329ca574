// moe-compile: a Hugging Face folder in, a plan out. Only a driver: importer, pipeline and emitter
// are what moe-translate and moe-opt run one by one, and give the same bytes.
#include "tools/moe-compile/Compile.h"

#include "tools/common/CommandLine.h"

#include <charconv>

using namespace switchyard;

namespace {

/// Bytes from "800000000", "512MiB", "16GiB".
Result<int64_t> parseMemory(const std::string &text) {
  const std::pair<std::string, int> units[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
  std::string number = text;
  int shift = 0;
  for (const auto &[unit, bits] : units)
    if (text.ends_with(unit)) {
      number = text.substr(0, text.size() - unit.size());
      shift = bits;
    }
  int64_t value = 0;
  auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc() || end != number.data() + number.size() || value < 1 ||
      value > (int64_t{1} << (62 - shift)))
    return Status::usage("--memory: found \"" + text +
                         "\", expected a number of bytes, or one with KiB, MiB, GiB or TiB");
  return value << shift;
}

} // namespace

int main(int argc, char **argv) {
  CLI::App app("Compiles a Hugging Face checkpoint folder into a plan that moe-run trains with.");
  CompileArguments arguments;
  ImportFlags importFlags;
  std::string memory;
  arguments.threads = compiler::defaultThreads();

  app.add_option("MODEL_DIR", arguments.modelDirectory, "Folder with a config.json")->required();
  app.add_option("-o,--output", arguments.output, "The plan to write")->type_name("FILE");
  importFlags.add(app);
  app.add_option("--target", arguments.target, "What the plan runs on: cpu or cuda")
      ->capture_default_str()
      ->type_name("cpu|cuda");
  app.add_option("--threads", arguments.threads,
                 "Worker threads of a rank on a CPU; default: one per core")
      ->type_name("N");
  app.add_option("--memory", memory,
                 "Memory that a rank may use, as 16GiB: a plan that needs more is refused. "
                 "Default: 80GiB for cuda; for cpu no refusal, and three quarters of this "
                 "machine's for --coalesce auto")
      ->type_name("BYTES");
  CLI::Option *mesh =
      app.add_option(
             "--mesh", arguments.mesh,
             "Ranks, as sizes of the axes dp (replicas), fsdp (parameters are divided) and ep "
             "(experts too), as fsdp=2,ep=4; default: one rank")
          ->type_name("AXES");
  app.add_option("--ranks", arguments.ranks,
                 "Ranks, with a mesh of their own: ep is the largest number that divides both them "
                 "and the experts, fsdp the rest")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str()
      ->type_name("N")
      ->excludes(mesh);
  app.add_option("--token-exchange-slot-factor", arguments.slotFactor,
                 "Rows that a rank can receive in one round of a token exchange, as a multiple of "
                 "what even routing sends it; what is left takes further rounds")
      ->capture_default_str()
      ->type_name("X");
  app.add_flag("--reshard-after-forward", arguments.reshardAfterForward,
               "Gather a layer's states again for the backward direction. "
               "--reshard-after-forward=false: keep them, for less communication and more memory. "
               "Default: true");
  app.add_option("--recompute", arguments.recompute,
                 "What is computed again for the backward direction, not kept: none, or cheap "
                 "(norms, permutations, activations), for less memory and a little more time")
      ->capture_default_str()
      ->type_name("none|cheap");
  app.add_flag(
      "--fuse", arguments.fuse,
      "Let kernels do on the way what others would do to their results, such as the "
      "experts' activation: less time and memory, the same bits, but on a GPU for the last "
      "ones of the norm. --fuse=false: leave each op a kernel of its own. Default: true");
  app.add_flag(
      "--gather", arguments.gather,
      "Let the experts' products take tokens where they stand, or copies that are not kept, "
      "where they are fused and no rank exchanges tokens: less memory. --gather=false: copy "
      "the tokens into the order of the experts first. Default: true");
  app.add_option(
         "--emit", arguments.emit,
         "What to write: moe (the imported module), dist (the programs on many ranks), plan "
         "(the plan as text) or flatbuffer")
      ->capture_default_str()
      ->type_name("FORM");
  app.add_option("--print-after", arguments.printAfter,
                 "Print the module after this stage: import, " + compiler::stageList())
      ->type_name("STAGE");

  return runCommand("moe-compile", app, argc, argv, [&]() -> Status {
    SY_ASSIGN_OR_RETURN(arguments.importOptions, importFlags.options());
    if (!memory.empty()) {
      SY_ASSIGN_OR_RETURN(arguments.memory, parseMemory(memory));
    }
    return compileModel(arguments);
  });
}
