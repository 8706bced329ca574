// How every program of ours begins and ends: flags by CLI11, one line for an error, the exit code
// of its Status.
#pragma once

#include "runtime/core/Status.h"

#include "CLI/CLI.hpp"

#include <functional>
#include <string>

namespace switchyard {

/// Parses the command line and runs `body`. Returns the exit code: 0, or that of the Status (2 for
/// wrong flags), whose message, if it has one, is printed as one line, "NAME: error: ...". --help
/// prints and is 0.
int runCommand(const std::string &name, CLI::App &app, int argc, char **argv,
               const std::function<Status()> &body);

} // namespace switchyard
