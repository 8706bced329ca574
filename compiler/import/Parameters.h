// The parameters of a model as plain data: what the module declares as states, and what a
// checkpoint's headers are checked against.
#pragma once

#include "compiler/import/Family.h"
#include "runtime/plan/Source.h"

#include <vector>

namespace switchyard::compiler {

struct Parameter {
  std::string name;           // of the state: "layers.0.attention.qkv"
  std::vector<int64_t> shape; // logical
  int64_t layer = -1;         // -1: belongs to no layer
  bool norm = false;          // a norm's weight: no weight decay in the scope `hf`
  std::string moduleName;     // see runtime/plan/Plan.h
  Source source;
};

/// All parameters, in the order of the forward pass.
std::vector<Parameter> modelParameters(const Family &family, const ModelConfig &config);

/// The number of weights that a matrix product of one token's forward pass reads.
int64_t activeParameters(const ModelConfig &config);

/// Refuses a model whose parameters are more than any memory holds, before anything of its size is
/// built.
Status checkModelSize(const std::string &path, const std::vector<Parameter> &parameters);

} // namespace switchyard::compiler
