#include "tools/moe-bench/MoeLayer.h"

#include <charconv>

namespace switchyard::bench {

using kernels::DType;

Result<LayerShape> parseLayerShape(const std::string &text) {
  LayerShape shape;
  int64_t *const extents[] = {&shape.tokens, &shape.width, &shape.expertSize, &shape.experts,
                              &shape.topK};
  const char *at = text.data(), *const end = at + text.size();
  bool isGood = true;
  for (int64_t *extent : extents) {
    auto [stop, error] = std::from_chars(at, end, *extent);
    const bool isLast = extent == &shape.topK;
    isGood &= error == std::errc() && *extent >= 1 && *extent <= (int64_t{1} << 20) &&
              (isLast ? stop == end : stop != end && *stop == ',');
    if (!isGood)
      break;
    at = stop + (isLast ? 0 : 1);
  }
  if (!isGood || shape.topK > shape.experts)
    return Status::usage("found the shape \"" + text +
                         "\", expected T,D,F,E,K: tokens, hidden size, expert size, experts and "
                         "experts of a token, integers from 1 to 2^20, and K at most E");
  return shape;
}

Result<std::unique_ptr<MoeLayer>> MoeLayer::create(Device &device, const kernels::Target &target,
                                                   const LayerShape &shape, DType dtype,
                                                   bool fuse) {
  std::unique_ptr<MoeLayer> layer(new MoeLayer(device, target, fuse));
  SY_RETURN_IF_ERROR(layer->allocate(shape, dtype));
  SY_RETURN_IF_ERROR(layer->prepareForward(shape));
  SY_RETURN_IF_ERROR(layer->prepareBackward(shape));
  for (const char *name : {"x", "dy"})
    SY_RETURN_IF_ERROR(layer->tensors_.fill(name, 0.2F));
  for (const char *name : {"router", "gate_up", "down"})
    SY_RETURN_IF_ERROR(layer->tensors_.fill(name, 0.02F));
  SY_RETURN_IF_ERROR(device.synchronize());
  return layer;
}

Status MoeLayer::allocate(const LayerShape &shape, DType dtype) {
  const auto [tokens, width, ffn, experts, k] = shape;
  const int64_t rows = tokens * k;
  struct Declaration {
    const char *name;
    DType dtype;
    std::vector<int64_t> dims;
    bool isKept = false;
  };
  // Zeroed: micro_batch_ids and dstatistics are meant to be.
  const Declaration declarations[] = {{"x", dtype, {tokens, width}},
                                      {"router", dtype, {experts, width}},
                                      {"gate_up", dtype, {experts, 2 * ffn, width}},
                                      {"down", dtype, {experts, width, ffn}},
                                      {"micro_batch_ids", DType::I32, {tokens}},
                                      {"logits", dtype, {tokens, experts}, true},
                                      {"weights", DType::F32, {tokens, k}, true},
                                      {"experts", DType::I32, {tokens, k}, true},
                                      {"statistics", DType::F32, {1, 2, experts}},
                                      {"group_sizes", DType::I32, {experts}, true},
                                      {"row_of_slot", DType::I32, {tokens, k}, true},
                                      {"rows", dtype, {rows, width}, true},
                                      {"hidden", dtype, {rows, 2 * ffn}, true},
                                      {"activated", dtype, {rows, ffn}, !fuse_},
                                      {"results", dtype, {rows, width}, true},
                                      {"y", dtype, {tokens, width}, true},
                                      {"dy", dtype, {tokens, width}},
                                      {"dresults", dtype, {rows, width}},
                                      {"dweights", DType::F32, {tokens, k}},
                                      {"dactivated", dtype, {rows, ffn}},
                                      {"ddown", dtype, {experts, width, ffn}},
                                      {"dhidden", dtype, {rows, 2 * ffn}},
                                      {"drows", dtype, {rows, width}},
                                      {"dgate_up", dtype, {experts, 2 * ffn, width}},
                                      {"dx_experts", dtype, {tokens, width}},
                                      {"dstatistics", DType::F32, {1, 2, experts}},
                                      {"dlogits", dtype, {tokens, experts}},
                                      {"dx_router", dtype, {tokens, width}},
                                      {"drouter", dtype, {experts, width}},
                                      {"dx", dtype, {tokens, width}}};
  for (const Declaration &declaration : declarations) {
    SY_RETURN_IF_ERROR(tensors_.allocate(declaration.name, declaration.dtype, declaration.dims));
    if (declaration.isKept)
      keptBytes_ += tensors_[declaration.name].bytes();
  }
  return {};
}

Status MoeLayer::prepareForward(const LayerShape &shape) {
  auto add = [&](const char *kernel, const std::vector<std::string> &operands,
                 const std::vector<int64_t> &attributes = {}) {
    return prepare(forward_, kernel, operands, attributes);
  };
  SY_RETURN_IF_ERROR(add("linear", {"x", "router", "logits"}));
  SY_RETURN_IF_ERROR(add("router",
                         {"logits", "micro_batch_ids", "weights", "experts", "statistics"},
                         {shape.topK, 0, 1}));
  SY_RETURN_IF_ERROR(
      add("sort_by_expert", {"experts", "group_sizes", "row_of_slot"}, {shape.experts}));
  SY_RETURN_IF_ERROR(add("permute", {"x", "row_of_slot", "rows"}));
  if (fuse_) {
    SY_RETURN_IF_ERROR(
        add("grouped_gemm_gated", {"rows", "gate_up", "group_sizes", "hidden", "activated"}, {0}));
  } else {
    SY_RETURN_IF_ERROR(add("grouped_gemm", {"rows", "gate_up", "group_sizes", "hidden"}));
    SY_RETURN_IF_ERROR(add("gated_activation", {"hidden", "activated"}, {0}));
  }
  SY_RETURN_IF_ERROR(add("grouped_gemm", {"activated", "down", "group_sizes", "results"}));
  return add("unpermute", {"results", "weights", "row_of_slot", "y"});
}

Status MoeLayer::prepareBackward(const LayerShape &shape) {
  auto add = [&](const char *kernel, const std::vector<std::string> &operands,
                 const std::vector<int64_t> &attributes = {}) {
    return prepare(backward_, kernel, operands, attributes);
  };
  SY_RETURN_IF_ERROR(
      add("unpermute_grad", {"dy", "results", "weights", "row_of_slot", "dresults", "dweights"}));
  if (fuse_) { // which makes the activated rows again
    SY_RETURN_IF_ERROR(add("grouped_gemm_dgrad_gated",
                           {"dresults", "down", "group_sizes", "hidden", "dhidden", "activated"},
                           {0}));
  } else {
    SY_RETURN_IF_ERROR(
        add("grouped_gemm_dgrad", {"dresults", "down", "group_sizes", "dactivated"}));
    SY_RETURN_IF_ERROR(add("gated_activation_grad", {"dactivated", "hidden", "dhidden"}, {0}));
  }
  SY_RETURN_IF_ERROR(add("grouped_gemm_wgrad", {"dresults", "activated", "group_sizes", "ddown"}));
  SY_RETURN_IF_ERROR(add("grouped_gemm_dgrad", {"dhidden", "gate_up", "group_sizes", "drows"}));
  SY_RETURN_IF_ERROR(add("grouped_gemm_wgrad", {"dhidden", "rows", "group_sizes", "dgate_up"}));
  SY_RETURN_IF_ERROR(add("permute_grad", {"drows", "row_of_slot", "dx_experts"}));
  SY_RETURN_IF_ERROR(add(
      "router_grad", {"dweights", "dstatistics", "logits", "experts", "micro_batch_ids", "dlogits"},
      {shape.topK, 0, 1}));
  SY_RETURN_IF_ERROR(add("linear_dgrad", {"dlogits", "router", "dx_router"}));
  SY_RETURN_IF_ERROR(add("linear_wgrad", {"dlogits", "x", "drouter"}));
  return add("add", {"dx_experts", "dx_router", "dx"});
}

Status MoeLayer::prepare(Launches &launches, const char *kernel,
                         const std::vector<std::string> &operands,
                         const std::vector<int64_t> &attributes) {
  SY_ASSIGN_OR_RETURN(std::unique_ptr<PreparedLaunch> launch,
                      tensors_.prepare(kernel, operands, attributes));
  launches.push_back(std::move(launch));
  return {};
}

Status MoeLayer::run(const Launches &launches) {
  for (const std::unique_ptr<PreparedLaunch> &launch : launches)
    SY_RETURN_IF_ERROR(device_.run(*launch));
  return {};
}

Status MoeLayer::forward() {
  return run(forward_);
}

Status MoeLayer::backward() {
  return run(backward_);
}

} // namespace switchyard::bench
