#include "tools/common/CommandLine.h"

#include <algorithm>
#include <iostream>

namespace switchyard {

static int report(const std::string &name, const Status &status) {
  if (status.message().empty()) // another process says it
    return static_cast<int>(status.code());
  std::string line = status.message();
  std::ranges::replace(line, '\n', ' ');
  std::cerr << name << ": error: " << line << "\n";
  return static_cast<int>(status.code());
}

int runCommand(const std::string &name, CLI::App &app, int argc, char **argv,
               const std::function<Status()> &body) {
  app.name(name);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp &) {
    std::cout << app.help();
    return 0;
  } catch (const CLI::ParseError &error) {
    return report(name, Status::usage(std::string(error.what()) + "; see " + name + " --help"));
  }
  Status status = body();
  std::cout.flush();
  if (status.ok() && !std::cout)
    status = Status::failed("standard output cannot be written");
  return status.ok() ? 0 : report(name, status);
}

} // namespace switchyard
