// The products of one of the experts' matrices by themselves, on any device, on random numbers, and
// how far their results are from what they should be.
//
// With R = T k rows x [R, K], whose tokens are sorted by expert, and w [E, N, K], gate_up has N =
// 2F and K = D, down has N = D and K = F:
//
//   forward, dgrad, wgrad                   grouped_gemm and its gradients by data and by weight
//   wgrad_accumulate                        wgrad, added to what there is
//   gated, gated_gather                     of gate_up, with the activation
//   dgrad_gated, dgrad_gated_gather         of down, with the activation's gradient
//   dgrad_gated_weighted                    dgrad_gated_gather of rows permuted before
//   wgrad_gather_x, wgrad_gather_dy         of gate_up, of down
//   dense                                   [R, K] by one matrix [N, K]: as many FLOPs
//
// What has "gather" in its name reads tokens where they stand, x or dy of [T, ...].
//
// All results but float32 dweights have the operands' dtype.
#pragma once

#include "tools/moe-bench/DeviceTensors.h"
#include "tools/moe-bench/Routing.h"

#include <algorithm>
#include <optional>
#include <set>
#include <span>

namespace switchyard::bench {

enum class ExpertMatrix : uint8_t { GateUp, Down };

struct ExpertProduct {
  enum class Kind : uint8_t { Forward, Dgrad, Wgrad, Gated, DgradGated, Dense };

  const char *name;
  Kind kind;
  const char *kernel;
  std::vector<std::string> operands;
  std::vector<int64_t> attributes = {};
  std::optional<ExpertMatrix> only = {}; // the matrix that it is of; else of both
  bool adds = false;                     // to dw

  bool takes(const std::string &tensor) const { return std::ranges::count(operands, tensor) > 0; }
};

const std::vector<ExpertProduct> &expertProducts();

class ExpertProducts {
public:
  /// Allocates and fills what `products` need. The device outlives this object, and so do the
  /// products. DoesNotFit: the device has not the memory.
  static Result<std::unique_ptr<ExpertProducts>>
  create(Device &device, const kernels::Target &target, const LayerShape &shape,
         ExpertMatrix matrix, kernels::DType dtype, std::span<const ExpertProduct *const> products);

  /// Gives the experts their rows. Before all else below; Usage as routeTokens().
  Status route(Routing routing);

  Result<std::unique_ptr<PreparedLaunch>> prepare(const ExpertProduct &product) {
    return tensors_.prepare(product.kernel, product.operands, product.attributes);
  }

  double flops() const;
  /// What has to move once: operands and results. Weights of experts without rows are not read.
  uint64_t bytes(const ExpertProduct &product) const;
  /// Of these, the weights', or their gradient's.
  uint64_t weightBytes(const ExpertProduct &product) const;
  const std::vector<int32_t> &groupSizes() const { return rows_.groupSizes; }

  /// How far the results of a product that ran last are from those in float64: the norm of the
  /// difference over that of the result, on a sample of each result; that of the worst of them.
  /// What adds to its result runs once more, to a cleared one.
  Result<double> error(const ExpertProduct &product);

private:
  ExpertProducts(Device &device, const kernels::Target &target, const LayerShape &shape,
                 ExpertMatrix matrix);

  Device &device_;
  DeviceTensors tensors_;
  LayerShape shape_;
  int64_t n_, k_;                // N, K
  std::set<std::string> needed_; // the tensors that there are
  RoutedRows rows_;
};

} // namespace switchyard::bench
