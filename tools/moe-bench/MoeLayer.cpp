#include "tools/moe-bench/MoeLayer.h"

#include "kernels/signatures/grouped_gemm_gather.h"

#include <set>

namespace switchyard::bench {

using kernels::DType;

namespace {

/// A launch to be made.
struct Step {
  const char *kernel;
  std::vector<std::string> operands;
  std::vector<int64_t> attributes = {};
};
using Steps = std::vector<Step>;

void append(Steps &steps, Steps more) {
  for (Step &step : more)
    steps.push_back(std::move(step));
}

Steps forwardSteps(const LayerShape &shape, LayerKernels kernels) {
  Steps steps = {{"linear", {"x", "router", "logits"}},
                 {"router",
                  {"logits", "micro_batch_ids", "weights", "experts", "statistics"},
                  {shape.topK, 0, 1}},
                 {"sort_by_expert", {"experts", "group_sizes", "row_of_slot"}, {shape.experts}}};
  switch (kernels) {
  case LayerKernels::Single:
    append(steps, {{"permute", {"x", "row_of_slot", "rows"}},
                   {"grouped_gemm", {"rows", "gate_up", "group_sizes", "hidden"}},
                   {"gated_activation", {"hidden", "activated"}, {0}}});
    break;
  case LayerKernels::Fused:
    append(
        steps,
        {{"permute", {"x", "row_of_slot", "rows"}},
         {"grouped_gemm_gated", {"rows", "gate_up", "group_sizes", "hidden", "activated"}, {0}}});
    break;
  case LayerKernels::Gathered:
    append(steps, {{"rows_of_tokens", {"row_of_slot", "weights", "token_of_row", "weight_of_row"}},
                   {"grouped_gemm_gated_gather",
                    {"x", "token_of_row", "gate_up", "group_sizes", "hidden", "activated"},
                    {0}}});
    break;
  }
  append(steps, {{"grouped_gemm", {"activated", "down", "group_sizes", "results"}},
                 {"unpermute", {"results", "weights", "row_of_slot", "y"}}});
  return steps;
}

/// Kernels that do the activation's gradient on their way make the activated rows again.
Steps backwardSteps(const LayerShape &shape, LayerKernels kernels) {
  Steps steps;
  switch (kernels) {
  case LayerKernels::Single:
    append(steps,
           {{"unpermute_grad", {"dy", "results", "weights", "row_of_slot", "dresults", "dweights"}},
            {"grouped_gemm_dgrad", {"dresults", "down", "group_sizes", "dactivated"}},
            {"gated_activation_grad", {"dactivated", "hidden", "dhidden"}, {0}},
            {"grouped_gemm_wgrad", {"dresults", "activated", "group_sizes", "ddown"}},
            {"grouped_gemm_dgrad", {"dhidden", "gate_up", "group_sizes", "drows"}},
            {"grouped_gemm_wgrad", {"dhidden", "rows", "group_sizes", "dgate_up"}}});
    break;
  case LayerKernels::Fused:
    append(steps,
           {{"unpermute_grad", {"dy", "results", "weights", "row_of_slot", "dresults", "dweights"}},
            {"grouped_gemm_dgrad_gated",
             {"dresults", "down", "group_sizes", "hidden", "dhidden", "activated"},
             {0}},
            {"grouped_gemm_wgrad", {"dresults", "activated", "group_sizes", "ddown"}},
            {"grouped_gemm_dgrad", {"dhidden", "gate_up", "group_sizes", "drows"}},
            {"grouped_gemm_wgrad", {"dhidden", "rows", "group_sizes", "dgate_up"}}});
    break;
  case LayerKernels::Gathered:
    if (shape.expertSize > kernels::kWidestGatheredExpert) { // as gather-rows does
      append(steps, {{"permute", {"dy", "row_of_slot", "dy_rows"}},
                     {"grouped_gemm_dgrad_gated_weighted",
                      {"dy_rows", "weight_of_row", "row_of_slot", "down", "group_sizes", "hidden",
                       "dhidden", "activated", "dweights"},
                      {0}},
                     {"grouped_gemm_wgrad", {"dy_rows", "activated", "group_sizes", "ddown"}},
                     {"grouped_gemm_dgrad", {"dhidden", "gate_up", "group_sizes", "drows"}},
                     {"permute", {"x", "row_of_slot", "rows"}},
                     {"grouped_gemm_wgrad", {"dhidden", "rows", "group_sizes", "dgate_up"}}});
      break;
    }
    append(steps, {{"grouped_gemm_dgrad_gated_gather",
                    {"dy", "token_of_row", "weight_of_row", "row_of_slot", "down", "group_sizes",
                     "hidden", "dhidden", "activated", "dweights"},
                    {0}},
                   {"grouped_gemm_wgrad_gather_dy",
                    {"dy", "token_of_row", "activated", "group_sizes", "ddown"}},
                   {"grouped_gemm_dgrad", {"dhidden", "gate_up", "group_sizes", "drows"}},
                   {"grouped_gemm_wgrad_gather_x",
                    {"dhidden", "x", "token_of_row", "group_sizes", "dgate_up"}}});
    break;
  }
  append(
      steps,
      {{"router_grad_renormalized", {"dweights", "weights", "experts", "dlogits"}, {shape.experts}},
       {"linear_dgrad", {"dlogits", "router", "dx_router"}},
       {"linear_wgrad", {"dlogits", "x", "drouter"}}});
  if (kernels == LayerKernels::Single)
    append(steps, {{"permute_grad", {"drows", "row_of_slot", "dx_experts"}},
                   {"add", {"dx_experts", "dx_router", "dx"}}});
  else
    append(steps, {{"permute_grad_add", {"drows", "row_of_slot", "dx_router", "dx"}}});
  return steps;
}

/// The tensors that steps read before they write them, and those that they write.
struct Uses {
  std::set<std::string> read, written;
};

Uses usesOf(const Steps &steps) {
  Uses uses;
  for (const Step &step : steps) {
    const auto &operands = kernels::findSignature(step.kernel)->operands;
    for (size_t i = 0; i < step.operands.size(); ++i)
      if (operands[i].role == kernels::Role::Out)
        uses.written.insert(step.operands[i]);
      else if (!uses.written.contains(step.operands[i]))
        uses.read.insert(step.operands[i]);
  }
  return uses;
}

struct Declaration {
  const char *name;
  DType dtype;
  std::vector<int64_t> dims;
};

std::vector<Declaration> declarations(const LayerShape &shape, DType dtype) {
  const auto [tokens, width, ffn, experts, k] = shape;
  const int64_t rows = tokens * k;
  // Zeroed: micro_batch_ids are meant to be.
  return {{"x", dtype, {tokens, width}},
          {"router", dtype, {experts, width}},
          {"gate_up", dtype, {experts, 2 * ffn, width}},
          {"down", dtype, {experts, width, ffn}},
          {"micro_batch_ids", DType::I32, {tokens}},
          {"logits", dtype, {tokens, experts}},
          {"weights", DType::F32, {tokens, k}},
          {"experts", DType::I32, {tokens, k}},
          {"statistics", DType::F32, {1, 2, experts}},
          {"group_sizes", DType::I32, {experts}},
          {"row_of_slot", DType::I32, {tokens, k}},
          {"token_of_row", DType::I32, {rows}},
          {"weight_of_row", DType::F32, {rows}},
          {"rows", dtype, {rows, width}},
          {"hidden", dtype, {rows, 2 * ffn}},
          {"activated", dtype, {rows, ffn}},
          {"results", dtype, {rows, width}},
          {"y", dtype, {tokens, width}},
          {"dy", dtype, {tokens, width}},
          {"dy_rows", dtype, {rows, width}},
          {"dresults", dtype, {rows, width}},
          {"dweights", DType::F32, {tokens, k}},
          {"dactivated", dtype, {rows, ffn}},
          {"ddown", dtype, {experts, width, ffn}},
          {"dhidden", dtype, {rows, 2 * ffn}},
          {"drows", dtype, {rows, width}},
          {"dgate_up", dtype, {experts, 2 * ffn, width}},
          {"dx_experts", dtype, {tokens, width}},
          {"dlogits", dtype, {tokens, experts}},
          {"dx_router", dtype, {tokens, width}},
          {"drouter", dtype, {experts, width}},
          {"dx", dtype, {tokens, width}}};
}

} // namespace

Result<std::unique_ptr<MoeLayer>> MoeLayer::create(Device &device, const kernels::Target &target,
                                                   const LayerShape &shape, DType dtype,
                                                   LayerKernels kernels) {
  std::unique_ptr<MoeLayer> layer(new MoeLayer(device, target));
  DeviceTensors &tensors = layer->tensors_;
  const Steps forward = forwardSteps(shape, kernels), backward = backwardSteps(shape, kernels);
  const Uses before = usesOf(forward), after = usesOf(backward);
  for (const Declaration &one : declarations(shape, dtype)) {
    const std::string name = one.name;
    const bool isMade = before.written.contains(name), isRead = after.read.contains(name);
    if (!isMade && !isRead && !before.read.contains(name) && !after.written.contains(name))
      continue;
    SY_RETURN_IF_ERROR(tensors.allocate(name, one.dtype, one.dims));
    if (isRead && (isMade || name == "x"))
      layer->keptBytes_ += tensors[name].bytes();
  }
  for (auto [steps, launches] :
       {std::pair(&forward, &layer->forward_), {&backward, &layer->backward_}})
    for (const Step &step : *steps) {
      SY_ASSIGN_OR_RETURN(std::unique_ptr<PreparedLaunch> launch,
                          tensors.prepare(step.kernel, step.operands, step.attributes));
      launches->push_back({step.kernel, std::move(launch)});
    }
  for (const char *name : {"x", "dy"})
    SY_RETURN_IF_ERROR(tensors.fill(name, 0.2F));
  for (const char *name : {"router", "gate_up", "down"})
    SY_RETURN_IF_ERROR(tensors.fill(name, 0.02F));
  SY_RETURN_IF_ERROR(device.synchronize());
  return layer;
}

Status MoeLayer::run(const Launches &launches) {
  for (const Launch &launch : launches)
    SY_RETURN_IF_ERROR(device_.run(*launch.prepared));
  return {};
}

Status MoeLayer::forward() {
  return run(forward_);
}

Status MoeLayer::backward() {
  return run(backward_);
}

std::vector<std::string> MoeLayer::kernels() const {
  std::vector<std::string> names;
  for (const Launches *launches : {&forward_, &backward_})
    for (const Launch &launch : *launches)
      names.push_back(launch.kernel);
  return names;
}

Status MoeLayer::run(size_t kernel) {
  const bool isForward = kernel < forward_.size();
  const Launch &launch = isForward ? forward_[kernel] : backward_[kernel - forward_.size()];
  return device_.run(*launch.prepared);
}

} // namespace switchyard::bench
