// Speed of the CPU kernels that dominate a step, in GFLOP/s. Not run by ctest:
//   build/release/bin/kernel_benchmark --benchmark_filter=cross_entropy
#include "kernels/cpu/Gemm.h"
#include "kernels/cpu/Kernels.h"

#include <benchmark/benchmark.h>
#include <cstdlib>
#include <random>

namespace switchyard::kernels::cpu {
namespace {

/// One kernel with its operands, ready to run.
class Bench {
public:
  explicit Bench(int threads) : pool_(threads), gemms_(threads), context_{&pool_, &gemms_} {}
  ~Bench() {
    for (Tensor &tensor : tensors_)
      std::free(tensor.data);
    std::free(workspace_);
  }
  Bench(const Bench &) = delete;
  Bench &operator=(const Bench &) = delete;

  /// Adds an operand of uniform random numbers (integers: of [low, high)).
  void operand(DType dtype, std::vector<int64_t> dims, int low = 0, int high = 1) {
    Tensor &tensor = tensors_.emplace_back();
    tensor.dtype = dtype;
    tensor.rank = static_cast<int>(dims.size());
    std::copy(dims.begin(), dims.end(), tensor.dims);
    tensor.data = std::aligned_alloc(256, (tensor.bytes() + 255) / 256 * 256);
    for (int64_t i = 0; i < tensor.count(); ++i) {
      auto value = std::uniform_real_distribution<float>(-1, 1)(random_);
      if (dtype == DType::F32)
        tensor.as<float>()[i] = value;
      else if (dtype == DType::I32)
        tensor.as<int32_t>()[i] = std::uniform_int_distribution<int>(low, high - 1)(random_);
      else
        tensor.as<uint16_t>()[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
    }
  }
  void attribute(AttributeValue value) { attributes_.push_back(value); }
  Tensor &last() { return tensors_.back(); }

  void run(benchmark::State &state, std::string_view name, double flops) {
    const Signature &signature = *findSignature(name);
    std::vector<OperandType> types;
    for (const Tensor &tensor : tensors_) {
      OperandType &type = types.emplace_back();
      type.dtype = tensor.dtype;
      for (int i = 0; i < tensor.rank; ++i)
        type.shape.push_back({0, -1, tensor.dims[i]});
    }
    if (auto fault = matchLaunch(signature, types, attributes_))
      return state.SkipWithError(fault->c_str());
    int64_t bytes =
        workspaceBytes(signature, types, attributes_, {}, {Target::Kind::Cpu, pool_.threads()});
    workspace_ = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    Launch launch{tensors_,
                  attributes_,
                  {static_cast<std::byte *>(workspace_), static_cast<size_t>(bytes)},
                  &context_};
    const Kernel &kernel = *findKernel(name);
    if (kernel.prepare)
      if (auto fault = kernel.prepare(launch))
        return state.SkipWithError(fault->c_str());
    for (auto _ : state)
      kernel.run(launch);
    state.counters["FLOP/s"] =
        benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
  }

private:
  ThreadPool pool_;
  GemmCache gemms_;
  Context context_;
  std::vector<Tensor> tensors_;
  std::vector<AttributeValue> attributes_;
  void *workspace_ = nullptr;
  std::mt19937 random_{1};
};

DType dtypeOf(const benchmark::State &state) {
  return state.range(0) == 16 ? DType::BF16 : DType::F32;
}

// Arguments: bits, threads, T, N, K.
void linear(benchmark::State &state, std::string_view name, int output) {
  DType dtype = dtypeOf(state);
  int64_t t = state.range(2), n = state.range(3), k = state.range(4);
  std::vector<int64_t> x = {t, k}, w = {n, k}, y = {t, n};
  Bench bench(static_cast<int>(state.range(1)));
  bench.operand(dtype, output == 0 ? x : y);
  bench.operand(dtype, output == 2 ? x : w);
  bench.operand(output == 2 ? DType::F32 : dtype, output == 0 ? y : output == 1 ? x : w);
  bench.run(state, name, 2.0 * t * n * k);
}

// Arguments: bits, threads, rows, N, K, experts.
void grouped(benchmark::State &state, std::string_view name, int output) {
  DType dtype = dtypeOf(state);
  int64_t rows = state.range(2), n = state.range(3), k = state.range(4), experts = state.range(5);
  std::vector<int64_t> x = {rows, k}, w = {experts, n, k}, y = {rows, n};
  Bench bench(static_cast<int>(state.range(1)));
  bench.operand(dtype, output == 0 ? x : y);
  bench.operand(dtype, output == 2 ? x : w);
  auto share = static_cast<int>(rows / experts); // uneven: 0.5 to 1.5 of the mean
  bench.operand(DType::I32, {experts}, share / 2, share + share / 2);
  bench.operand(output == 2 ? DType::F32 : dtype, output == 0 ? y : output == 1 ? x : w);
  bench.run(state, name, 2.0 * rows * n * k);
}

// Arguments: bits, threads, T, D, V, chunk_rows.
void crossEntropy(benchmark::State &state, std::string_view name, bool gradient) {
  DType dtype = dtypeOf(state);
  int64_t t = state.range(2), d = state.range(3), v = state.range(4);
  Bench bench(static_cast<int>(state.range(1)));
  bench.operand(dtype, {t, d});
  bench.operand(dtype, {v, d});
  bench.operand(DType::I32, {t}, 0, static_cast<int>(v)); // every row has a label
  bench.operand(DType::F32, {t});
  if (gradient)
    bench.operand(DType::F32, {});
  bench.operand(DType::F32, {});
  if (gradient) {
    bench.operand(dtype, {t, d});
    bench.operand(DType::F32, {v, d});
  }
  bench.attribute({state.range(5), 0});
  bench.run(state, name, (gradient ? 6.0 : 2.0) * t * d * v);
}

// Arguments: bits, threads, T, heads, key heads, head_dim, tokens of a segment.
void attention(benchmark::State &state, std::string_view name, bool gradient) {
  DType dtype = dtypeOf(state);
  int64_t t = state.range(2), heads = state.range(3), kvHeads = state.range(4);
  int64_t headDim = state.range(5), length = state.range(6);
  Bench bench(static_cast<int>(state.range(1)));
  std::vector<int64_t> y = {t, heads * headDim}, qkv = {t, (heads + 2 * kvHeads) * headDim};
  int64_t segments = t / length; // the rest of the rows lies past the last
  if (gradient)
    bench.operand(dtype, y);
  bench.operand(dtype, qkv);
  if (gradient) {
    bench.operand(dtype, y);
    bench.operand(DType::F32, {t, heads});
  }
  bench.operand(DType::I32, {segments + 1});
  for (int64_t i = 0; i <= segments; ++i)
    bench.last().as<int32_t>()[i] = static_cast<int32_t>(i * length);
  bench.operand(dtype, gradient ? qkv : y);
  if (!gradient)
    bench.operand(DType::F32, {t, heads});
  for (int64_t value : {heads, kvHeads, headDim})
    bench.attribute({value, 0});
  bench.attribute({0, 0.1});
  bench.attribute({0, 0});
  double scores = 0.5 * static_cast<double>(segments * length * (length + 1) * heads);
  bench.run(state, name, (gradient ? 10.0 : 4.0) * scores * static_cast<double>(headDim));
}

void linearSizes(benchmark::internal::Benchmark *benchmark) {
  for (int64_t bits : {32, 16})
    for (int64_t threads : {1, 2})
      for (auto [t, n, k] :
           {std::array<int64_t, 3>{3500, 192, 64}, {3500, 64, 64}, {2048, 1024, 1024}})
        benchmark->Args({bits, threads, t, n, k});
  benchmark->UseRealTime();
}

void groupedSizes(benchmark::internal::Benchmark *benchmark) {
  for (int64_t bits : {32, 16})
    for (int64_t threads : {1, 2})
      for (auto [rows, n, k, experts] :
           {std::array<int64_t, 4>{7000, 256, 64, 8}, {7000, 64, 128, 8}, {8192, 512, 1024, 64}})
        benchmark->Args({bits, threads, rows, n, k, experts});
  benchmark->UseRealTime();
}

void crossEntropySizes(benchmark::internal::Benchmark *benchmark) {
  for (int64_t bits : {32, 16})
    for (int64_t threads : {1, 2})
      for (int64_t chunk : {64, 128, 256})
        benchmark->Args({bits, threads, 3500, 64, 32000, chunk});
  benchmark->UseRealTime()->Unit(benchmark::kMillisecond);
}

void attentionSizes(benchmark::internal::Benchmark *benchmark) {
  for (int64_t bits : {32, 16})
    for (int64_t threads : {1, 2})
      for (auto [t, heads, kvHeads, headDim, length] :
           {std::array<int64_t, 5>{3500, 8, 4, 8, 220}, {4096, 8, 4, 64, 1024}})
        benchmark->Args({bits, threads, t, heads, kvHeads, headDim, length});
  benchmark->UseRealTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK_CAPTURE(attention, attention, "attention", false)->Apply(attentionSizes);
BENCHMARK_CAPTURE(attention, attention_grad, "attention_grad", true)->Apply(attentionSizes);
BENCHMARK_CAPTURE(linear, linear, "linear", 0)->Apply(linearSizes);
BENCHMARK_CAPTURE(linear, linear_dgrad, "linear_dgrad", 1)->Apply(linearSizes);
BENCHMARK_CAPTURE(linear, linear_wgrad, "linear_wgrad", 2)->Apply(linearSizes);
BENCHMARK_CAPTURE(grouped, grouped_gemm, "grouped_gemm", 0)->Apply(groupedSizes);
BENCHMARK_CAPTURE(grouped, grouped_gemm_dgrad, "grouped_gemm_dgrad", 1)->Apply(groupedSizes);
BENCHMARK_CAPTURE(grouped, grouped_gemm_wgrad, "grouped_gemm_wgrad", 2)->Apply(groupedSizes);
BENCHMARK_CAPTURE(crossEntropy, linear_cross_entropy, "linear_cross_entropy", false)
    ->Apply(crossEntropySizes);
BENCHMARK_CAPTURE(crossEntropy, linear_cross_entropy_grad, "linear_cross_entropy_grad", true)
    ->Apply(crossEntropySizes);

} // namespace
} // namespace switchyard::kernels::cpu

BENCHMARK_MAIN();
