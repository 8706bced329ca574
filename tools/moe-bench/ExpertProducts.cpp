#include "tools/moe-bench/ExpertProducts.h"

#include "tools/moe-bench/ProductReference.h"

namespace switchyard::bench {

using kernels::DType;

const std::vector<ExpertProduct> &expertProducts() {
  using Kind = ExpertProduct::Kind;
  using enum ExpertMatrix;
  static const std::vector<ExpertProduct> products = {
      {"forward", Kind::Forward, "grouped_gemm", {"x", "w", "group_sizes", "y"}},
      {"dgrad", Kind::Dgrad, "grouped_gemm_dgrad", {"dy", "w", "group_sizes", "dx"}},
      {"wgrad", Kind::Wgrad, "grouped_gemm_wgrad", {"dy", "x", "group_sizes", "dw"}},
      {"wgrad_accumulate",
       Kind::Wgrad,
       "grouped_gemm_wgrad_accumulate",
       {"dy", "x", "group_sizes", "dw"},
       {},
       {},
       true},
      {"gated",
       Kind::Gated,
       "grouped_gemm_gated",
       {"x", "w", "group_sizes", "y", "activated"},
       {0},
       GateUp},
      {"gated_gather",
       Kind::Gated,
       "grouped_gemm_gated_gather",
       {"x_tokens", "token_of_row", "w", "group_sizes", "y", "activated"},
       {0},
       GateUp},
      {"wgrad_gather_x",
       Kind::Wgrad,
       "grouped_gemm_wgrad_gather_x",
       {"dy", "x_tokens", "token_of_row", "group_sizes", "dw"},
       {},
       GateUp},
      {"dgrad_gated",
       Kind::DgradGated,
       "grouped_gemm_dgrad_gated",
       {"dy", "w", "group_sizes", "hidden", "dhidden", "activated"},
       {0},
       Down},
      {"dgrad_gated_gather",
       Kind::DgradGated,
       "grouped_gemm_dgrad_gated_gather",
       {"dy_tokens", "token_of_row", "weight_of_row", "row_of_slot", "w", "group_sizes", "hidden",
        "dhidden", "activated", "dweights"},
       {0},
       Down},
      {"dgrad_gated_weighted",
       Kind::DgradGated,
       "grouped_gemm_dgrad_gated_weighted",
       {"dy", "weight_of_row", "row_of_slot", "w", "group_sizes", "hidden", "dhidden", "activated",
        "dweights"},
       {0},
       Down},
      {"wgrad_gather_dy",
       Kind::Wgrad,
       "grouped_gemm_wgrad_gather_dy",
       {"dy_tokens", "token_of_row", "x", "group_sizes", "dw"},
       {},
       Down},
      {"dense", Kind::Dense, "linear", {"x", "w_dense", "y"}}};
  return products;
}

ExpertProducts::ExpertProducts(Device &device, const kernels::Target &target,
                               const LayerShape &shape, ExpertMatrix matrix)
    : device_(device), tensors_(device, target), shape_(shape),
      n_(matrix == ExpertMatrix::GateUp ? 2 * shape.expertSize : shape.width),
      k_(matrix == ExpertMatrix::GateUp ? shape.width : shape.expertSize) {}

Result<std::unique_ptr<ExpertProducts>>
ExpertProducts::create(Device &device, const kernels::Target &target, const LayerShape &shape,
                       ExpertMatrix matrix, DType dtype,
                       std::span<const ExpertProduct *const> products) {
  std::unique_ptr<ExpertProducts> created(new ExpertProducts(device, target, shape, matrix));
  std::set<std::string> &needed = created->needed_;
  for (const ExpertProduct *product : products)
    needed.insert(product->operands.begin(), product->operands.end());
  struct Declaration {
    const char *name;
    DType dtype;
    std::vector<int64_t> dims;
    float deviation = 0; // 0: not filled
  };
  const auto [tokens, width, ffn, experts, topK] = shape;
  const int64_t rows = tokens * topK, n = created->n_, k = created->k_;
  const Declaration declarations[] = {{"x", dtype, {rows, k}, 1},
                                      {"x_tokens", dtype, {tokens, k}, 1},
                                      {"w", dtype, {experts, n, k}, 0.02F},
                                      {"w_dense", dtype, {n, k}, 0.02F},
                                      {"dy", dtype, {rows, n}, 1},
                                      {"dy_tokens", dtype, {tokens, n}, 1},
                                      {"hidden", dtype, {rows, 2 * ffn}, 1},
                                      {"weight_of_row", DType::F32, {rows}, 0.5F},
                                      {"y", dtype, {rows, n}},
                                      {"dx", dtype, {rows, k}},
                                      {"dw", dtype, {experts, n, k}},
                                      {"dhidden", dtype, {rows, 2 * ffn}},
                                      {"activated", dtype, {rows, ffn}},
                                      {"dweights", DType::F32, {tokens, topK}},
                                      {"group_sizes", DType::I32, {experts}},
                                      {"token_of_row", DType::I32, {rows}},
                                      {"row_of_slot", DType::I32, {tokens, topK}}};
  for (const Declaration &one : declarations) {
    if (!needed.contains(one.name))
      continue;
    SY_RETURN_IF_ERROR(created->tensors_.allocate(one.name, one.dtype, one.dims));
    if (one.deviation > 0)
      SY_RETURN_IF_ERROR(created->tensors_.fill(one.name, one.deviation));
  }
  return created;
}

Status ExpertProducts::route(Routing routing) {
  SY_ASSIGN_OR_RETURN(rows_, routeTokens(shape_, routing));
  const std::pair<const char *, const std::vector<int32_t> &> inputs[] = {
      {"group_sizes", rows_.groupSizes},
      {"token_of_row", rows_.tokenOfRow},
      {"row_of_slot", rows_.rowOfSlot}};
  for (const auto &[name, values] : inputs)
    if (needed_.contains(name))
      SY_RETURN_IF_ERROR(tensors_.write(name, values));
  return {};
}

double ExpertProducts::flops() const {
  return 2.0 * static_cast<double>(shape_.tokens * shape_.topK) * static_cast<double>(n_ * k_);
}

uint64_t ExpertProducts::bytes(const ExpertProduct &product) const {
  uint64_t bytes = weightBytes(product);
  for (const std::string &operand : product.operands)
    if (operand != "w" && operand != "w_dense" && operand != "dw")
      bytes += tensors_[operand].bytes();
  if (product.adds)
    bytes += tensors_["dw"].bytes(); // is read, too
  return bytes;
}

uint64_t ExpertProducts::weightBytes(const ExpertProduct &product) const {
  if (product.takes("w_dense"))
    return tensors_["w_dense"].bytes();
  if (product.takes("dw"))
    return tensors_["dw"].bytes();
  const int64_t read = shape_.experts - std::ranges::count(rows_.groupSizes, 0);
  return tensors_["w"].bytes() / shape_.experts * read;
}

Result<double> ExpertProducts::error(const ExpertProduct &product) {
  if (product.adds) {
    SY_RETURN_IF_ERROR(device_.fillZero(tensors_["dw"].data, tensors_["dw"].bytes()));
    SY_ASSIGN_OR_RETURN(const std::unique_ptr<PreparedLaunch> launch, prepare(product));
    SY_RETURN_IF_ERROR(device_.run(*launch));
  }
  return productError(tensors_, {n_, k_, rows_}, product);
}

} // namespace switchyard::bench
