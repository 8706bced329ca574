#include "compiler/import/ModelBuilder.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace switchyard::compiler {

/// Segments per row of a packed micro-batch: rows that would hold more start a new one.
static constexpr int64_t kPackedSegmentsPerRow = 64;
static constexpr int64_t kMaxRows = std::numeric_limits<int32_t>::max();

static bool parsePositive(std::string_view text, int64_t &value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value > 0;
}

Result<Coalesce> parseCoalesce(std::string_view text) {
  if (text == "auto")
    return Coalesce{};
  Coalesce coalesce{Coalesce::Kind::MicroBatches, 0};
  std::string_view number = text;
  if (number.starts_with("tokens=")) {
    coalesce.kind = Coalesce::Kind::Tokens;
    number.remove_prefix(std::string_view("tokens=").size());
  }
  if (!parsePositive(number, coalesce.value))
    return Status::usage("--coalesce: found \"" + std::string(text) +
                         "\", expected auto, a number of micro-batches, or tokens=N, with numbers "
                         "from 1 on");
  return coalesce;
}

static Status checkRange(const char *flag, int64_t value, int64_t high) {
  if (value >= 1 && value <= high)
    return {};
  return Status::usage(std::string(flag) + ": found " + std::to_string(value) +
                       ", expected a number from 1 to " + std::to_string(high));
}

/// A step is one program where its pass holds all of it, or has to.
static Status chooseStepProgram(const ImportOptions &options, PassBounds &bounds) {
  const std::string &program = options.stepProgram;
  if (program != "auto" && program != "split" && program != "fused")
    return Status::usage("--step-program: found \"" + program +
                         "\", expected auto, split or fused");
  const int64_t steps = options.gradientAccumulationSteps;
  const int64_t tokens = options.perDeviceTrainBatchSize * options.maxSeqLength * steps; // < 2^56
  const bool holdsStep = bounds.tokens >= tokens && bounds.microBatches >= steps;
  if (program == "fused" && !holdsStep)
    return Status::usage("--step-program: fused needs a pass that holds a whole step, " +
                         std::to_string(steps) + " micro-batches and " + std::to_string(tokens) +
                         " tokens, but one holds " + std::to_string(bounds.microBatches) + " and " +
                         std::to_string(bounds.tokens) +
                         "; raise --coalesce, lower --gradient-accumulation-steps, or use split");
  bounds.fused = program != "split" && holdsStep;
  if (bounds.fused)
    bounds.minimumTokens = 0;
  return {};
}

Result<PassBounds> passBounds(const ImportOptions &options, int64_t topK) {
  SY_RETURN_IF_ERROR(
      checkRange("--per-device-train-batch-size", options.perDeviceTrainBatchSize, 1 << 16));
  SY_RETURN_IF_ERROR(
      checkRange("--gradient-accumulation-steps", options.gradientAccumulationSteps, 1 << 16));
  SY_RETURN_IF_ERROR(checkRange("--max-seq-length", options.maxSeqLength, 1 << 24));
  const Coalesce &coalesce = options.coalesce;
  const int64_t maxTokens = kMaxRows / topK;
  const int64_t batchTokens = options.perDeviceTrainBatchSize * options.maxSeqLength; // < 2^40
  if (batchTokens > maxTokens)
    return Status::usage("--per-device-train-batch-size times --max-seq-length is " +
                         std::to_string(batchTokens) + ", at most " + std::to_string(maxTokens) +
                         " tokens fit one pass of this model; lower one of them");

  PassBounds bounds;
  bounds.microBatches = options.gradientAccumulationSteps;
  if (coalesce.kind == Coalesce::Kind::MicroBatches)
    bounds.microBatches = std::min(bounds.microBatches, coalesce.value);
  bounds.tokens = bounds.microBatches * batchTokens; // < 2^56
  if (coalesce.kind == Coalesce::Kind::Auto) {
    bounds.tokens = std::min(bounds.tokens, maxTokens);
    bounds.minimumTokens = batchTokens;
  }
  if (coalesce.kind == Coalesce::Kind::Tokens) {
    if (coalesce.value < batchTokens)
      return Status::usage("--coalesce: tokens=" + std::to_string(coalesce.value) +
                           " is less than one micro-batch of at most " +
                           std::to_string(batchTokens) +
                           " tokens; raise it, or lower --max-seq-length");
    bounds.tokens = coalesce.value;
  }
  if (bounds.tokens > maxTokens)
    return Status::usage("--coalesce: " + std::to_string(bounds.tokens) +
                         " tokens are more than one pass of this model holds, " +
                         std::to_string(maxTokens) + "; lower it or use auto");
  SY_RETURN_IF_ERROR(chooseStepProgram(options, bounds));
  const int64_t rows = bounds.microBatches * options.perDeviceTrainBatchSize;
  bounds.segments = options.packing ? rows * kPackedSegmentsPerRow : rows;
  bounds.segments = std::min(bounds.segments, bounds.tokens);
  return bounds;
}

Result<std::string> resolvePrecision(const ImportOptions &options, const ModelConfig &config,
                                     const std::string &path) {
  const std::string &precision = options.precision;
  if (precision == "f32" || precision == "bf16" || precision == "bf16_f32_state")
    return precision;
  if (!precision.empty())
    return Status::usage("--precision: found \"" + precision +
                         "\", expected f32, bf16 or bf16_f32_state");
  if (config.dtype.empty() || config.dtype == "float32")
    return std::string("f32");
  if (config.dtype == "bfloat16")
    return std::string("bf16");
  return Status::invalidInput(path + ": dtype is \"" + config.dtype +
                              "\", which is no training precision here; say which one to use with "
                              "--precision f32, bf16 or bf16_f32_state");
}

} // namespace switchyard::compiler
