#include "runtime/training/Golden.h"

#include "runtime/core/Json.h"

#include <algorithm>
#include <cstring>

namespace switchyard {

namespace {

constexpr int64_t kMaxCount = int64_t{1} << 20; // of steps, micro-batches, tokens of a micro-batch

struct Expected {
  UpdateScalars scalars;
  std::vector<GoldenStep> steps;
};

Status readBetas(const Json &hyper, UpdateScalars &scalars) {
  SY_ASSIGN_OR_RETURN(const Json *betas, getArray(hyper, "betas"));
  auto isBeta = [](const Json &value) {
    return value.isNumber() && value.real() >= 0 && value.real() < 1;
  };
  if (betas->items().size() != 2 || !std::ranges::all_of(betas->items(), isBeta))
    return Status::invalidInput("\"betas\" is " + betas->dump() +
                                ", expected two numbers from 0 to below 1");
  scalars.beta1 = betas->items()[0].real();
  scalars.beta2 = betas->items()[1].real();
  return {};
}

Result<GoldenStep> readStep(const Json &entry) {
  GoldenStep step;
  SY_ASSIGN_OR_RETURN(step.loss, getNumber(entry, "loss", -1e30, 1e30));
  SY_ASSIGN_OR_RETURN(step.auxLoss, getNumber(entry, "aux_loss", -1e30, 1e30));
  SY_ASSIGN_OR_RETURN(step.gradNorm, getNumber(entry, "grad_norm", 0, 1e30));
  return step;
}

Result<Expected> readSteps(const Json &root) {
  Expected expected;
  SY_ASSIGN_OR_RETURN(const Json *hyper, getObject(root, "hyperparameters"));
  SY_ASSIGN_OR_RETURN(expected.scalars.learningRate, getNumber(*hyper, "lr", 0, 1e6));
  SY_RETURN_IF_ERROR(readBetas(*hyper, expected.scalars));
  SY_ASSIGN_OR_RETURN(expected.scalars.epsilon, getNumber(*hyper, "eps", 0, 1));
  SY_ASSIGN_OR_RETURN(expected.scalars.weightDecay, getNumber(*hyper, "weight_decay", 0, 1e6));
  SY_ASSIGN_OR_RETURN(expected.scalars.maxGradNorm, getNumber(*hyper, "max_grad_norm", 0, 1e30));

  SY_ASSIGN_OR_RETURN(const Json *steps, getArray(root, "steps"));
  for (const Json &entry : steps->items()) {
    Result<GoldenStep> step = readStep(entry);
    if (!step.ok())
      return step.status().within("\"steps\", entry " + std::to_string(expected.steps.size()));
    expected.steps.push_back(*step);
  }
  if (expected.steps.empty())
    return Status::invalidInput("\"steps\" is empty, expected a step at least");
  return expected;
}

Result<Expected> readExpected(const std::string &folder) {
  std::string path = joinPath(folder, "expected.json");
  SY_ASSIGN_OR_RETURN(Json root, readJson(path));
  Result<Expected> expected = readSteps(root);
  if (!expected.ok())
    return expected.status().within(path);
  return expected;
}

Result<std::vector<int64_t>> readInt64(const SafetensorsFile &file, const char *name, size_t rank,
                                       std::vector<int64_t> &shape) {
  const TensorEntry *entry = file.find(name);
  if (!entry || entry->dtype != TensorDType::I64 || entry->shape.size() != rank)
    return Status::invalidInput(
        file.path() + ": expected an I64 tensor \"" + name + "\" of rank " + std::to_string(rank) +
        ", found " +
        (entry ? std::string(switchyard::name(entry->dtype)) + " " + shapeText(entry->shape)
               : "none"));
  shape = entry->shape;
  for (int64_t extent : shape)
    if (extent < 1 || extent > kMaxCount)
      return Status::invalidInput(file.path() + ": tensor \"" + name + "\" has the extent " +
                                  std::to_string(extent) + ", expected 1 to " +
                                  std::to_string(kMaxCount));
  SY_ASSIGN_OR_RETURN(std::span<const std::byte> bytes, file.bytes(*entry));
  std::vector<int64_t> values(bytes.size() / sizeof(int64_t));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

struct Batches {
  int64_t microBatches = 0;
  int64_t length = 0;
  TokenizedBatches batches;
};

Result<Batches> readBatches(const std::string &folder, int64_t vocabSize) {
  SY_ASSIGN_OR_RETURN(SafetensorsFile file,
                      SafetensorsFile::open(joinPath(folder, "batches.safetensors")));
  std::vector<int64_t> shape, labelShape, lengthShape;
  SY_ASSIGN_OR_RETURN(std::vector<int64_t> ids, readInt64(file, "input_ids", 3, shape));
  SY_ASSIGN_OR_RETURN(std::vector<int64_t> labels, readInt64(file, "labels", 3, labelShape));
  SY_ASSIGN_OR_RETURN(std::vector<int64_t> lengths, readInt64(file, "lengths", 2, lengthShape));
  if (labelShape != shape || lengthShape != std::vector<int64_t>{shape[0], shape[1]})
    return Status::invalidInput(file.path() + ": \"input_ids\" is " + shapeText(shape) +
                                ", \"labels\" " + shapeText(labelShape) + " and \"lengths\" " +
                                shapeText(lengthShape) +
                                ", expected [steps, micro-batches, length] twice and [steps, "
                                "micro-batches]");
  TokenizedBatches::Input input{file.path(), ids,      labels,   lengths,
                                shape[0],    shape[1], shape[2], vocabSize};
  SY_ASSIGN_OR_RETURN(TokenizedBatches batches, TokenizedBatches::create(input));
  return Batches{shape[1], shape[2], std::move(batches)};
}

} // namespace

Result<Golden> loadGolden(const std::string &folder, int64_t vocabSize) {
  SY_ASSIGN_OR_RETURN(Expected expected, readExpected(folder));
  SY_ASSIGN_OR_RETURN(Batches batches, readBatches(folder, vocabSize));
  if (batches.batches.steps() < static_cast<int64_t>(expected.steps.size()))
    return Status::invalidInput(joinPath(folder, "expected.json") + ": \"steps\" has " +
                                std::to_string(expected.steps.size()) +
                                " steps, but batches.safetensors has " +
                                std::to_string(batches.batches.steps()));
  SY_ASSIGN_OR_RETURN(SafetensorsFile gradients,
                      SafetensorsFile::open(joinPath(folder, "grads_step0.safetensors")));
  SY_ASSIGN_OR_RETURN(Checkpoint final, Checkpoint::open(joinPath(folder, "final")));
  return Golden{
      folder,         expected.scalars,           std::move(expected.steps), batches.microBatches,
      batches.length, std::move(batches.batches), std::move(gradients),      std::move(final)};
}

Result<std::vector<std::string>> goldenCompileArguments(const std::string &folder) {
  SY_ASSIGN_OR_RETURN(SafetensorsFile file,
                      SafetensorsFile::open(joinPath(folder, "batches.safetensors")));
  std::vector<int64_t> shape;
  SY_ASSIGN_OR_RETURN([[maybe_unused]] std::vector<int64_t> ids,
                      readInt64(file, "input_ids", 3, shape));
  return std::vector<std::string>{"--precision",
                                  "f32",
                                  "--gradient-accumulation-steps",
                                  std::to_string(shape[1]),
                                  "--max-seq-length",
                                  std::to_string(shape[2]),
                                  "--loss-normalization",
                                  "micro_batch",
                                  "--weight-decay-scope",
                                  "all",
                                  "--step-program",
                                  "split"}; // its gradients are compared
}

} // namespace switchyard
