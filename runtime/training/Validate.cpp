#include "runtime/training/Validate.h"

#include "runtime/checkpoint/GatherState.h"
#include "runtime/core/Floats.h"
#include "runtime/plan/Layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace switchyard {

namespace {

/// Bounds on the difference between float32 runs: what float64 and small perturbations of the
/// weights show to be rounding, and less than any planted fault. Loss and aux are absolute, the
/// others relative. OLMoE amplifies rounding through its router, which does not renormalize.
struct Tolerances {
  double firstLoss = 2e-6, firstAux = 5e-6, firstNorm = 1e-5;
  double gradient = 1e-5, logits = 1e-5;
  double loss = 2e-5, aux = 2e-5, norm = 1e-4;
  double change = 1e-3;
};

Tolerances tolerancesOf(const std::string &modelType) {
  Tolerances tolerances;
  if (modelType == "olmoe") {
    tolerances.aux = 2e-4;
    tolerances.norm = 1e-3;
    tolerances.change = 1e-2;
  }
  return tolerances;
}

/// ||ours - theirs|| / ||theirs||, and ||ours|| where theirs is zero.
class RelativeNorm {
public:
  void add(double ours, double theirs) {
    difference_ += (ours - theirs) * (ours - theirs);
    theirs_ += theirs * theirs;
  }
  double value() const { return std::sqrt(difference_) / (theirs_ > 0 ? std::sqrt(theirs_) : 1.0); }

private:
  double difference_ = 0;
  double theirs_ = 0;
};

class Validation {
public:
  Validation(Session &session, const Golden &golden, const Checkpoint &initial,
             const ValidateOptions &options)
      : session_(session), golden_(golden), initial_(initial), options_(options),
        tolerances_(tolerancesOf(session.plan().training.modelType)) {}

  Status run();

private:
  struct Row {
    std::string name;
    double difference = 0;
  };

  Status runStep(int64_t step, PassFiller &filler);
  void compareStep(int64_t step, const StepSums &sums, double gradNorm);
  bool check(const std::string &what, double difference, double bound);
  Status compareGradients();
  Status compareLogits(const PassFiller &filler, int64_t tokens);
  Status compareChanges();
  void reportLogits();
  void report(const char *title, const char *what, std::vector<Row> &rows, double bound);
  Status verdict() const;
  Result<std::vector<float>> stateValues(size_t state, const SourceSlice &slice);
  static Result<std::vector<float>> fileValues(const std::string &path, const TensorEntry &entry,
                                               Result<std::span<const std::byte>> bytes);
  Result<std::vector<float>> goldenGradient(const SourceSlice &slice);

  /// Rank 0 has what is compared, and says so.
  template <typename... Args>
  void print(fmt::format_string<Args...> format, Args &&...args) {
    if (session_.isLeader())
      fmt::print(options_.output, format, std::forward<Args>(args)...);
  }

  Session &session_;
  const Golden &golden_;
  const Checkpoint &initial_;
  const ValidateOptions &options_;
  Tolerances tolerances_;
  std::vector<Row> gradients_, changes_;
  std::optional<double> logitsDifference_;
  size_t gradientsSeen_ = 0;
  size_t numFaults_ = 0;
  size_t numNamed_ = 0; // of this part: the steps, the gradients, the changes
  std::string named_;
};

/// Faults of each part of the comparison that the last message names.
constexpr size_t kNamedFaults = 3;

bool Validation::check(const std::string &what, double difference, double bound) {
  if (difference <= bound) // false for NaN
    return true;
  ++numFaults_;
  if (numNamed_++ < kNamedFaults)
    named_ += fmt::format("{}{} is off by {:.2e}, more than {:.0e}", named_.empty() ? "" : "; ",
                          what, difference, bound);
  return false;
}

void Validation::compareStep(int64_t step, const StepSums &sums, double gradNorm) {
  const GoldenStep &theirs = golden_.steps[step];
  bool first = step == 0;
  double loss = std::abs(sums.loss - theirs.loss);
  double aux = std::abs(sums.auxLoss - theirs.auxLoss);
  double norm = std::abs(gradNorm - theirs.gradNorm) / theirs.gradNorm;
  std::string prefix = fmt::format("step {}: ", step);
  bool good = check(prefix + "loss", loss, first ? tolerances_.firstLoss : tolerances_.loss);
  good &= check(prefix + "aux loss", aux, first ? tolerances_.firstAux : tolerances_.aux);
  good &= check(prefix + "gradient norm", norm, first ? tolerances_.firstNorm : tolerances_.norm);
  print("{:>4}  {:10.7f} {:10.7f} {:8.1e}  {:9.6f} {:9.6f} {:8.1e}  {:9.6f} {:9.6f} {:8.1e}{}\n",
        step, sums.loss, theirs.loss, loss, sums.auxLoss, theirs.auxLoss, aux, gradNorm,
        theirs.gradNorm, norm, good ? "" : "  off");
}

/// Collective; on other ranks than 0 there are zeros.
Result<std::vector<float>> Validation::stateValues(size_t state, const SourceSlice &slice) {
  constexpr int64_t kChunk = int64_t{1} << 22; // elements
  const State &description = session_.plan().states[state];
  int64_t width = kernels::byteSize(description.dtype);
  std::vector<std::byte> raw((slice.end - slice.begin) * width);
  for (int64_t begin = slice.begin; begin < slice.end; begin += kChunk) {
    int64_t end = std::min(begin + kChunk, slice.end);
    SY_RETURN_IF_ERROR(
        gatherState(session_.executor(), session_.agreement().communicator(), state, begin, end,
                    std::span(raw).subspan((begin - slice.begin) * width, (end - begin) * width)));
  }
  std::vector<float> values(slice.end - slice.begin);
  convertFloats(description.dtype == DType::BF16 ? FloatFormat::BF16 : FloatFormat::F32, raw,
                FloatFormat::F32, std::as_writable_bytes(std::span(values)));
  return values;
}

Result<std::vector<float>> Validation::fileValues(const std::string &path, const TensorEntry &entry,
                                                  Result<std::span<const std::byte>> bytes) {
  if (!bytes.ok())
    return bytes.status();
  if (entry.dtype != TensorDType::F32 && entry.dtype != TensorDType::BF16)
    return Status::invalidInput(fmt::format("{}: tensor \"{}\" is {}, expected F32 or BF16", path,
                                            entry.name, name(entry.dtype)));
  std::vector<float> values(entry.count());
  convertFloats(entry.dtype == TensorDType::BF16 ? FloatFormat::BF16 : FloatFormat::F32, *bytes,
                FloatFormat::F32, std::as_writable_bytes(std::span(values)));
  return values;
}

Result<std::vector<float>> Validation::goldenGradient(const SourceSlice &slice) {
  const SafetensorsFile &file = golden_.gradients;
  const TensorEntry *entry = file.find(slice.name);
  if (!entry || entry->shape != slice.shape)
    return Status::invalidInput(fmt::format("{}: expected a tensor \"{}\" of shape {}, found {}",
                                            file.path(), slice.name, shapeText(slice.shape),
                                            entry ? shapeText(entry->shape) : "none"));
  ++gradientsSeen_;
  return fileValues(file.path(), *entry, file.bytes(*entry));
}

/// Every rank reads the files, so that all find the same faults in them, but rank 0 alone has
/// numbers of the model to compare. The golden's gradients are by transformers' module parameters:
/// a whole state where it has a module's name, else the tensors it is made of.
Status Validation::compareGradients() {
  const std::vector<State> &states = session_.plan().states;
  for (size_t index = 0; index < states.size(); ++index) {
    if (states[index].kind != StateKind::Gradient)
      continue;
    const State &parameter = states[states[index].of];
    SY_ASSIGN_OR_RETURN(std::vector<SourceSlice> slices,
                        resolve(parameter.source, parameter.shape));
    if (!parameter.moduleName.empty())
      slices = {{parameter.moduleName, parameter.shape, 0, slices.back().end}};
    for (const SourceSlice &slice : slices) {
      SY_ASSIGN_OR_RETURN(std::vector<float> ours, stateValues(index, slice));
      SY_ASSIGN_OR_RETURN(std::vector<float> theirs, goldenGradient(slice));
      RelativeNorm norm;
      for (size_t i = 0; i < ours.size(); ++i)
        norm.add(ours[i], theirs[i]);
      gradients_.push_back({slice.name, norm.value()});
    }
  }
  size_t expected =
      golden_.gradients.tensors().size() - (golden_.gradients.find(kGoldenLogits) != nullptr);
  if (gradientsSeen_ != expected)
    return Status::invalidInput(
        fmt::format("{}: holds {} gradients, but the plan has {} parameters for them",
                    golden_.gradients.path(), expected, gradientsSeen_));
  return {};
}

/// `tokens`: of step 0's first micro-batch.
Status Validation::compareLogits(const PassFiller &filler, int64_t tokens) {
  const TensorEntry *entry = golden_.gradients.find(kGoldenLogits);
  if (!entry)
    return {};
  int64_t vocabulary = session_.plan().training.vocabSize;
  if (std::vector<int64_t> shape = {tokens, vocabulary}; entry->shape != shape)
    return Status::invalidInput(fmt::format("{}: tensor \"{}\" is {}, expected {}: the tokens of "
                                            "the first micro-batch, and the vocabulary",
                                            golden_.gradients.path(), kGoldenLogits,
                                            shapeText(entry->shape), shapeText(shape)));
  SY_ASSIGN_OR_RETURN(std::vector<float> theirs, fileValues(golden_.gradients.path(), *entry,
                                                            golden_.gradients.bytes(*entry)));
  std::vector<float> ours(theirs.size());
  for (int64_t begin = 0; begin < entry->shape[0]; begin += Session::kLogitRows) {
    int64_t rows = std::min(Session::kLogitRows, entry->shape[0] - begin);
    SY_RETURN_IF_ERROR(session_.logits(
        filler, 0, begin, rows, std::span(ours).subspan(begin * vocabulary, rows * vocabulary)));
  }
  RelativeNorm norm;
  for (size_t i = 0; i < ours.size(); ++i)
    norm.add(ours[i], theirs[i]);
  logitsDifference_ = norm.value();
  return {};
}

Status Validation::compareChanges() {
  const std::vector<State> &states = session_.plan().states;
  for (size_t index = 0; index < states.size(); ++index) {
    const State &state = states[index];
    if (state.kind != StateKind::Parameter)
      continue;
    SY_ASSIGN_OR_RETURN(std::vector<SourceSlice> slices, resolve(state.source, state.shape));
    for (const SourceSlice &slice : slices) {
      const TensorEntry *before = initial_.find(slice.name);
      const TensorEntry *after = golden_.final.find(slice.name);
      if (!before || !after || before->shape != slice.shape || after->shape != slice.shape)
        return Status::invalidInput(fmt::format(
            "{}: expected a tensor \"{}\" of shape {}",
            before && before->shape == slice.shape ? golden_.final.folder() : initial_.folder(),
            slice.name, shapeText(slice.shape)));
      SY_ASSIGN_OR_RETURN(std::vector<float> start,
                          fileValues(initial_.folder(), *before, initial_.bytes(*before)));
      SY_ASSIGN_OR_RETURN(std::vector<float> theirs,
                          fileValues(golden_.final.folder(), *after, golden_.final.bytes(*after)));
      SY_ASSIGN_OR_RETURN(std::vector<float> ours, stateValues(index, slice));
      RelativeNorm norm;
      for (size_t i = 0; i < ours.size(); ++i)
        norm.add(double(ours[i]) - start[i], double(theirs[i]) - start[i]);
      changes_.push_back({slice.name, norm.value()});
    }
  }
  return {};
}

void Validation::reportLogits() {
  if (!logitsDifference_)
    return;
  bool good = check("step 0: logits", *logitsDifference_, tolerances_.logits);
  print("\nlogits of step 0, micro-batch 0: relative difference {:.1e} (bound {:.0e}){}\n",
        *logitsDifference_, tolerances_.logits, good ? "" : "  off");
}

void Validation::report(const char *title, const char *what, std::vector<Row> &rows, double bound) {
  std::ranges::stable_sort(rows, [](const Row &a, const Row &b) {
    return std::isnan(a.difference) > std::isnan(b.difference) || a.difference > b.difference;
  });
  print("\n{}: relative difference by parameter, worst first (bound {:.0e})\n", title, bound);
  numNamed_ = 0;
  for (const Row &row : rows) {
    bool good = check(what + (" of " + row.name), row.difference, bound);
    print("  {:8.1e}  {}{}\n", row.difference, row.name, good ? "" : "  off");
  }
}

Status Validation::runStep(int64_t step, PassFiller &filler) {
  Agreement &agreement = session_.agreement();
  StepBatches batches;
  golden_.batches.get(step, batches);
  SY_RETURN_IF_ERROR(agreement.agree(filler.setStep(batches).within(golden_.folder)));
  if (step == 0)
    SY_RETURN_IF_ERROR(
        agreement.agree(compareLogits(filler, batches.microBatch(0)[0].numTokens())));
  UpdateScalars scalars = golden_.scalars;
  scalars.step = step + 1;
  if (options_.learningRate)
    scalars.learningRate = options_.learningRate(step);
  if (step > 0 || session_.isFused()) {
    SY_ASSIGN_OR_RETURN(const StepResult *result, session_.step(filler, scalars));
    compareStep(step, result->sums, result->update.gradNorm);
    return {};
  }
  SY_ASSIGN_OR_RETURN(const StepSums *sums, session_.accumulate(filler));
  SY_RETURN_IF_ERROR(agreement.agree(compareGradients()));
  SY_ASSIGN_OR_RETURN(UpdateResult update, session_.update(scalars));
  compareStep(step, *sums, update.gradNorm);
  return {};
}

Status Validation::verdict() const {
  if (numFaults_ == 0)
    return {};
  return Status::failed(fmt::format("{} differs from transformers in {} place{}: {}",
                                    golden_.folder, numFaults_, numFaults_ == 1 ? "" : "s",
                                    named_));
}

Status Validation::run() {
  Agreement &agreement = session_.agreement();
  SY_ASSIGN_OR_RETURN(PassFiller filler,
                      agreement.agree(session_.createFiller(session_.lossNormalization())));
  print("{:>4}  {:^30}  {:^28}  {:>21}\n", "", "loss", "aux loss", "gradient norm");
  print("{:>4}  {:>10} {:>10} {:>8}  {:>9} {:>9} {:>8}  {:>9} {:>9} {:>8}\n", "step", "ours",
        "theirs", "differs", "ours", "theirs", "differs", "ours", "theirs", "relative");
  for (int64_t step = 0; step < static_cast<int64_t>(golden_.steps.size()); ++step)
    SY_RETURN_IF_ERROR(runStep(step, filler));
  reportLogits();
  if (session_.isFused())
    print("\ngradients are not compared: the plan's step is one program, which keeps none\n");
  else
    report("gradients of step 0", "gradient", gradients_, tolerances_.gradient);
  SY_RETURN_IF_ERROR(agreement.agree(compareChanges()));
  report("final changes", "final change", changes_, tolerances_.change);
  if (numFaults_ == 0)
    print("\nwithin tolerance: {} steps of {}\n", golden_.steps.size(), golden_.folder);
  return agreement.agree(session_.isLeader() ? verdict() : Status());
}

} // namespace

Status validate(Session &session, const Golden &golden, const Checkpoint &initial,
                const ValidateOptions &options) {
  return Validation(session, golden, initial, options).run();
}

} // namespace switchyard
