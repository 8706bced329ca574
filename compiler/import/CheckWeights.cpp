#include "compiler/import/CheckWeights.h"

#include "runtime/core/Json.h"
#include "runtime/safetensors/Checkpoint.h"

#include <set>

namespace switchyard::compiler {

static bool isConvertible(TensorDType dtype) {
  return dtype == TensorDType::F32 || dtype == TensorDType::BF16 || dtype == TensorDType::F16;
}

static Status checkTensor(const Checkpoint &checkpoint, const SourceSlice &slice,
                          const Parameter &parameter) {
  const TensorEntry *entry = checkpoint.find(slice.name);
  if (!entry)
    return Status::invalidInput(checkpoint.folder() + ": the weights lack the tensor " +
                                quoteJson(slice.name) + ", which config.json asks for (" +
                                parameter.name + "); check that both are of the same model");
  const std::string where =
      checkpoint.pathOf(*entry) + ": tensor " + quoteJson(slice.name) + " is ";
  if (entry->shape != slice.shape)
    return Status::invalidInput(where + shapeText(entry->shape) + ", but config.json makes it " +
                                shapeText(slice.shape) + "; check that both are of the same model");
  if (!isConvertible(entry->dtype))
    return Status::invalidInput(where + std::string(name(entry->dtype)) +
                                ", expected F32, BF16 or F16; quantized weights can't be trained");
  return {};
}

Status checkWeights(const std::string &directory, const std::vector<Parameter> &parameters) {
  if (!Checkpoint::existsIn(directory))
    return {};
  SY_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::open(directory));
  std::set<std::string, std::less<>> known;
  for (const Parameter &parameter : parameters) {
    SY_ASSIGN_OR_RETURN(const std::vector<SourceSlice> slices,
                        resolve(parameter.source, parameter.shape));
    for (const SourceSlice &slice : slices) {
      SY_RETURN_IF_ERROR(checkTensor(checkpoint, slice, parameter));
      known.insert(slice.name);
    }
  }
  for (const TensorEntry &entry : checkpoint.tensors())
    if (!known.contains(entry.name))
      return Status::invalidInput(checkpoint.pathOf(entry) + ": tensor " + quoteJson(entry.name) +
                                  " has no place in the model of config.json; check that both are "
                                  "of the same model, or remove the tensor");
  return {};
}

} // namespace switchyard::compiler
