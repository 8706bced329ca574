// Times launches of the CUDA kernels, one at a time, as a graph replays them.
#pragma once

#include "kernels/cuda/Gemm.h"
#include "kernels/cuda/Kernels.h"

#include <initializer_list>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace switchyard::kernels::cuda {

/// What an H200 reaches: a copy's bytes read and written, and a large bfloat16 product.
inline constexpr double kBytesPerSecond = 4.2e12;
inline constexpr double kFlopsPerSecond = 750e12;

/// Ends the program with the fault's message, if there is one.
void check(const Fault &fault);
void check(cudaError_t error, const char *call);

/// The device, and the numbers that operands are filled with.
class Machine {
public:
  Machine();
  Context context;

  /// Fills device memory with numbers uniform in [-1, 1).
  void fill(const Tensor &tensor);

private:
  static constexpr int64_t kBlock = 64 << 20;
  GemmCache gemms_;
  void *numbers_[2] = {}; // kBlock bytes of float32, and of bfloat16
};

/// One launch of a kernel with random operands.
class Bench {
public:
  Bench(Machine &machine, std::string_view kernel) : machine_(machine), kernel_(kernel) {}
  ~Bench();
  Bench(const Bench &) = delete;
  Bench &operator=(const Bench &) = delete;

  Bench &operand(DType dtype, std::vector<int64_t> dims);
  Bench &integers(std::vector<int64_t> dims, const std::vector<int32_t> &values);
  Bench &scalar(float value);
  Bench &attribute(int64_t value);
  Bench &real(double value);

  /// Prints a line: the median of 20 runs after 3 to warm up, what it reaches, its share of the
  /// floor (its bytes and operations at the rates above) and what `count` launches lose to it in
  /// milliseconds. `bytes` 0: each operand once, those updated twice. Operands too small to leave
  /// the cache by themselves are copied, and the runs take turns among the copies.
  void run(const std::string &label, double count, double flops = 0, double bytes = 0);

private:
  Tensor &allocate(DType dtype, std::vector<int64_t> dims);
  double countBytes() const;
  int64_t workspace() const;
  std::vector<Tensor> copyOperands();
  /// Seconds of one launch; `sets` are operands to take turns among.
  double median(const std::vector<std::vector<Tensor>> &sets, void *workspace, int64_t bytes) const;

  Machine &machine_;
  std::string_view kernel_;
  std::vector<Tensor> tensors_;
  std::vector<void *> memory_;
  std::vector<AttributeValue> attributes_;
};

} // namespace switchyard::kernels::cuda
