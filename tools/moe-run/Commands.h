// The commands of moe-run.
#pragma once

#include "runtime/training/TrainingArguments.h"

#include <string>

namespace switchyard {

/// Trains as `arguments` say, compiling a plan first where none is given. Nothing is written before
/// everything is read. Then the first SIGINT or SIGTERM ends the run after the step at hand with a
/// checkpoint; a second one ends it at once.
///
/// This and the next two run on many ranks: threads of this process, or the processes of mpirun.
Status runTrain(const TrainingArguments &arguments);

struct ValidateArguments {
  std::string golden;
  std::string model;  // empty: the golden's folder
  std::string plan;   // empty: compile one
  std::string mesh;   // of the one that is compiled; empty: the default for as many ranks
  std::string target; // of the one that is compiled; empty: moe-compile's default
  int64_t ranks = 0;  // this and the next two as in TrainingArguments
  int64_t threads = 0;
  double commTimeout = 600;
};
Status runValidate(const ValidateArguments &arguments);

struct EvaluateArguments {
  std::string plan;
  std::string model;
  std::string data;
  std::string tokenizer;
  int64_t ranks = 0;
  int64_t threads = 0;
  double commTimeout = 600;
  bool debugNonfinite = false;
};
Status runEvaluate(const EvaluateArguments &arguments);

struct ExportArguments {
  std::string checkpoint;
  std::string target;
};
/// Writes the folder `target`, whole or not at all: also where SIGINT or SIGTERM comes.
Status runExport(const ExportArguments &arguments);

} // namespace switchyard
