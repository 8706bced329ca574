// One mixture-of-experts layer by itself, on any device, through the kernels that plans launch:
//
//   logits = x router^T; weights, experts = softmax, top-k, renormalized
//   y = combine(weights, silu(gate) * up of the experts' rows, times down)
//
// and the gradients of <y, dy> by x and by all three weights. Rows are sorted by expert, none is
// dropped or padded. Gradients of weights are rounded to the layer's dtype.
#pragma once

#include "tools/moe-bench/DeviceTensors.h"
#include "tools/moe-bench/LayerShape.h"

namespace switchyard::bench {

/// What a layer is computed through.
enum class LayerKernels : uint8_t {
  Single,   // a kernel an op
  Fused,    // products do the activation on their way; the same bits
  Gathered, // and read tokens where they stand, those of wide experts' backward permute them again:
            // no rows and no results are kept for backward
};

class MoeLayer {
public:
  /// Allocates the tensors that `kernels` need, of dtype `dtype` (F32 or BF16), and fills x, dy and
  /// the weights with random numbers. The device outlives the layer. DoesNotFit: the device has not
  /// the memory.
  static Result<std::unique_ptr<MoeLayer>> create(Device &device, const kernels::Target &target,
                                                  const LayerShape &shape, kernels::DType dtype,
                                                  LayerKernels kernels);

  /// Both put their launches on the device and return; backward() is behind a forward().
  Status forward();
  Status backward();

  /// The kernels of both, in their order. run() puts one of them on the device, behind a forward()
  /// and a backward().
  std::vector<std::string> kernels() const;
  Status run(size_t kernel);

  /// A tensor: x [T, D], router [E, D], gate_up [E, 2F, D] (rows of gate before those of up), down
  /// [E, D, F], y, dy, dx, drouter, dgate_up, ddown; its bytes are the device's.
  const kernels::Tensor &tensor(const std::string &name) const { return tensors_[name]; }

  /// Bytes of x, and of what forward() makes and backward() reads.
  uint64_t keptBytes() const { return keptBytes_; }

private:
  MoeLayer(Device &device, const kernels::Target &target)
      : device_(device), tensors_(device, target) {}

  struct Launch {
    std::string kernel;
    std::unique_ptr<PreparedLaunch> prepared;
  };
  using Launches = std::vector<Launch>;

  Status run(const Launches &launches);

  Device &device_;
  DeviceTensors tensors_;
  Launches forward_, backward_;
  uint64_t keptBytes_ = 0;
};

} // namespace switchyard::bench
