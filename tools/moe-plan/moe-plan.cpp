// moe-plan: looks into a plan file. `inspect` prints it, `verify` says whether it may be executed,
// `diff` what two of them do differently.

#include "runtime/core/File.h"
#include "runtime/plan/Diff.h"
#include "runtime/plan/Inspect.h"
#include "runtime/plan/InspectHtml.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/Verify.h"
#include "tools/common/CommandLine.h"

#include <iostream>
#include <optional>

using namespace switchyard;

static Result<Plan> loadVerified(const std::string &path) {
  SY_ASSIGN_OR_RETURN(Plan plan, load(path));
  SY_RETURN_IF_ERROR(verify(plan).within(path));
  return plan;
}

// NOLINTNEXTLINE(bugprone-exception-escape): only wrongly declared commands throw
int main(int argc, char **argv) {
  CLI::App app("Looks into a plan file, which moe-compile writes and moe-run executes.");
  app.require_subcommand(1);
  std::string path;
  CLI::App *inspectCommand =
      app.add_subcommand("inspect", "Print its target, memory, programs and parameters; with many "
                                    "ranks, what they send and compute");
  CLI::App *verifyCommand =
      app.add_subcommand("verify", "Check that it is safe to execute, as moe-run does");
  for (CLI::App *command : {inspectCommand, verifyCommand})
    command->add_option("FILE", path, "The plan")->required();
  std::optional<int64_t> rank;
  inspectCommand->add_option("--rank", rank, "Print what this rank reads of the model's tensors");
  std::string htmlFile;
  inspectCommand
      ->add_option("--html", htmlFile,
                   "Write a page for a browser to this file: memory and tensors over the "
                   "instructions, streams, collectives")
      ->excludes("--rank");
  CLI::App *diffCommand = app.add_subcommand(
      "diff", "Print what differs between two plans; the exit code is 0 if they are the same, 1 if "
              "not");
  std::string second;
  diffCommand->add_option("A", path, "A plan")->required();
  diffCommand->add_option("B", second, "Another")->required();
  return runCommand("moe-plan", app, argc, argv, [&]() -> Status {
    SY_ASSIGN_OR_RETURN(Plan plan, loadVerified(path));
    if (diffCommand->parsed()) {
      SY_ASSIGN_OR_RETURN(Plan other, loadVerified(second));
      std::string text = diff(plan, other);
      std::cout << (text.empty() ? "The plans are the same.\n" : text);
      return text.empty() ? Status() : Status::failed(""); // exit code 1, and no more to say
    }
    if (!htmlFile.empty()) {
      SY_RETURN_IF_ERROR(writeFileAtomically(htmlFile, inspectHtml(plan)));
      std::cout << "wrote " << htmlFile << "\n";
    } else if (inspectCommand->parsed() && rank) {
      SY_ASSIGN_OR_RETURN(std::string text, inspectRank(plan, *rank));
      std::cout << text;
    } else if (inspectCommand->parsed())
      std::cout << inspect(plan);
    else
      std::cout << path << ": valid: " << summary(plan) << "\n";
    return {};
  });
}
