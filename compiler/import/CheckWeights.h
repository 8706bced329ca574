// Checks the headers of a checkpoint's safetensors files against a model's parameters. No weight is
// read.
#pragma once

#include "compiler/import/Parameters.h"

#include <string>
#include <vector>

namespace switchyard::compiler {

/// Where DIR holds model.safetensors or model.safetensors.index.json: every tensor of every
/// parameter is there, with the shape that config.json makes it and a dtype that can be converted,
/// and no other tensor is. Where it holds neither, nothing is checked. Fails with InvalidInput,
/// naming file and tensor.
Status checkWeights(const std::string &directory, const std::vector<Parameter> &parameters);

} // namespace switchyard::compiler
