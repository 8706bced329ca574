// Speed of the CUDA kernels on the shapes of Mixtral-8x7B and OLMoE-1B-7B: the median of 20 runs
// between CUDA events after 3 to warm up, GB/s (each operand once, those updated twice) and
// TFLOP/s. Not run by ctest:
//   build/release/bin/cuda_kernel_benchmark [PART OF A KERNEL'S NAME]
#include "kernels/cuda/Gemm.h"
#include "kernels/cuda/Kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>

namespace switchyard::kernels::cuda {
namespace {

void check(const Fault &fault) {
  if (!fault)
    return;
  std::fprintf(stderr, "%s\n", fault->c_str());
  std::exit(1);
}
void check(cudaError_t error, const char *call) {
  check(faultOf(error, call));
}

/// The shape of a model's layers.
struct Model {
  const char *name;
  int64_t width, ffn, experts, topK, heads, kvHeads, headDim, vocabulary;
  int64_t packed() const { return (heads + 2 * kvHeads) * headDim; }
};
constexpr Model kMixtral{"mixtral", 4096, 14336, 8, 2, 32, 8, 128, 32000};
constexpr Model kOlmoe{"olmoe", 2048, 1024, 64, 8, 16, 16, 128, 50304};

/// One launch of a kernel with random operands. Numbers are uniform in [-1, 1).
class Bench {
public:
  Bench(Context &context, std::string_view kernel) : context_(context), kernel_(kernel) {}
  ~Bench() {
    for (const Tensor &tensor : tensors_)
      cudaFree(tensor.data);
  }
  Bench(const Bench &) = delete;
  Bench &operator=(const Bench &) = delete;

  Bench &operand(DType dtype, std::vector<int64_t> dims) {
    Tensor &tensor = allocate(dtype, std::move(dims));
    int64_t bytes = std::min<int64_t>(tensor.bytes(), 64 << 20);
    std::vector<std::byte> values(bytes);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int64_t i = 0; i < bytes / byteSize(dtype); ++i) {
      auto bits = std::bit_cast<uint32_t>(uniform(random_));
      if (dtype == DType::BF16)
        reinterpret_cast<uint16_t *>(values.data())[i] = static_cast<uint16_t>(bits >> 16);
      else
        reinterpret_cast<uint32_t *>(values.data())[i] = bits;
    }
    for (int64_t done = 0; done < tensor.bytes(); done += bytes)
      check(cudaMemcpy(tensor.as<std::byte>() + done, values.data(),
                       std::min(bytes, tensor.bytes() - done), cudaMemcpyHostToDevice),
            "cudaMemcpy");
    return *this;
  }
  Bench &integers(std::vector<int64_t> dims, const std::vector<int32_t> &values) {
    Tensor &tensor = allocate(DType::I32, std::move(dims));
    check(cudaMemcpy(tensor.data, values.data(), tensor.bytes(), cudaMemcpyHostToDevice),
          "cudaMemcpy");
    return *this;
  }
  Bench &scalar(float value) {
    Tensor &tensor = allocate(DType::F32, {});
    check(cudaMemcpy(tensor.data, &value, 4, cudaMemcpyHostToDevice), "cudaMemcpy");
    return *this;
  }
  Bench &attribute(int64_t value) {
    attributes_.push_back({value, 0});
    return *this;
  }
  Bench &real(double value) {
    attributes_.push_back({0, value});
    return *this;
  }

  /// Prints the time; `bytes` 0: counted from the operands.
  void run(const char *label, double flops = 0, double bytes = 0) {
    const Signature &signature = *findSignature(kernel_);
    std::vector<OperandType> types;
    for (const Tensor &tensor : tensors_) {
      OperandType &type = types.emplace_back();
      type.dtype = tensor.dtype;
      for (int i = 0; i < tensor.rank; ++i)
        type.shape.push_back({0, -1, tensor.dims[i]});
      int count = static_cast<int>(tensors_.size());
      int at = static_cast<int>(types.size()) - 1;
      bool updated = signature.operands[specOfOperand(signature, at, count)].role == Role::Update;
      counted_ += static_cast<double>(tensor.bytes()) * (updated ? 2 : 1);
    }
    check(matchLaunch(signature, types, attributes_));
    int64_t workspace = workspaceBytes(signature, types, attributes_, {}, {Target::Kind::Cuda, 1});
    void *memory = nullptr;
    check(cudaMalloc(&memory, std::max<int64_t>(workspace, 1)), "cudaMalloc");
    Launch launch{tensors_,
                  attributes_,
                  {static_cast<std::byte *>(memory), static_cast<size_t>(workspace)},
                  &context_};
    const Kernel &kernel = *findKernel(kernel_);
    if (kernel.prepare)
      check(kernel.prepare(launch));
    double seconds = median(kernel, launch);
    bytes = bytes > 0 ? bytes : counted_;
    std::printf("%-26s %-30s %9.3f ms %8.0f GB/s", std::string(kernel_).c_str(), label,
                seconds * 1e3, bytes / seconds * 1e-9);
    if (flops > 0)
      std::printf(" %8.1f TFLOP/s", flops / seconds * 1e-12);
    std::printf("\n");
    cudaFree(memory);
  }

private:
  Tensor &allocate(DType dtype, std::vector<int64_t> dims) {
    Tensor &tensor = tensors_.emplace_back();
    tensor.dtype = dtype;
    tensor.rank = static_cast<int>(dims.size());
    std::copy(dims.begin(), dims.end(), tensor.dims);
    check(cudaMalloc(&tensor.data, static_cast<size_t>(tensor.bytes())), "cudaMalloc");
    return tensor;
  }

  double median(const Kernel &kernel, const Launch &launch) const {
    cudaEvent_t begin = nullptr, end = nullptr;
    check(cudaEventCreate(&begin), "cudaEventCreate");
    check(cudaEventCreate(&end), "cudaEventCreate");
    std::vector<float> times;
    for (int i = 0; i < 23; ++i) {
      check(cudaEventRecord(begin, context_.stream), "cudaEventRecord");
      check(kernel.run(launch));
      check(cudaEventRecord(end, context_.stream), "cudaEventRecord");
      check(cudaEventSynchronize(end), "cudaEventSynchronize");
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
      if (i >= 3)
        times.push_back(milliseconds);
    }
    std::nth_element(times.begin(), times.begin() + 10, times.end());
    return times[10] * 1e-3;
  }

  Context &context_;
  std::string_view kernel_;
  std::vector<Tensor> tensors_;
  std::vector<AttributeValue> attributes_;
  double counted_ = 0;
  std::mt19937 random_{1};
};

/// Random experts of each slot, and the rows and sizes that their sort gives.
struct Routing {
  std::vector<int32_t> experts, rows, sizes;
  Routing(const Model &model, int64_t tokens)
      : experts(tokens * model.topK), rows(experts.size()), sizes(model.experts) {
    std::mt19937 random(2);
    for (int32_t &expert : experts)
      ++sizes[expert = static_cast<int32_t>(random() % static_cast<uint32_t>(model.experts))];
    std::vector<int32_t> next(model.experts);
    std::exclusive_scan(sizes.begin(), sizes.end(), next.begin(), 0);
    for (size_t slot = 0; slot < rows.size(); ++slot)
      rows[slot] = next[experts[slot]]++;
  }
};

/// One model's shapes with T tokens of one dtype.
class Suite {
public:
  Suite(Context &context, const Model &model, int64_t tokens, DType dtype, std::string_view filter)
      : context_(context), m_(model), t_(tokens), type_(dtype), filter_(filter),
        label_(std::string(model.name) + " T=" + std::to_string(tokens) + " " +
               std::string(name(dtype))),
        routing_(model, tokens) {}

  void rows();
  void experts();
  void attention();
  void dense();
  void optimizer();

private:
  template <typename Fill>
  void measure(std::string_view kernel, const Fill &fill, double flops = 0, double bytes = 0) {
    if (kernel.find(filter_) == std::string_view::npos)
      return;
    Bench bench(context_, kernel);
    fill(bench);
    bench.run(label_.c_str(), flops, bytes);
  }
  std::vector<int32_t> counting(int64_t step) const {
    std::vector<int32_t> values(t_);
    for (int64_t i = 0; i < t_; ++i)
      values[i] = static_cast<int32_t>(i * 7919 % step);
    return values;
  }

  Context &context_;
  Model m_;
  int64_t t_;
  DType type_;
  std::string_view filter_;
  std::string label_;
  Routing routing_;
};

void Suite::rows() {
  int64_t d = m_.width, slots = t_ * m_.topK;
  auto head = [&](Bench &b) -> Bench & {
    return b.attribute(m_.heads).attribute(m_.kvHeads).attribute(m_.headDim);
  };
  measure("add", [&](Bench &b) {
    b.operand(type_, {t_, d}).operand(type_, {t_, d}).operand(type_, {t_, d});
  });
  measure("rms_norm", [&](Bench &b) {
    b.operand(type_, {t_, d}).operand(type_, {d}).operand(type_, {t_, d}).real(1e-5);
  });
  measure("rms_norm_grad", [&](Bench &b) {
    b.operand(type_, {t_, d}).operand(type_, {t_, d}).operand(type_, {d}).operand(type_, {t_, d});
    b.operand(DType::F32, {d}).real(1e-5);
  });
  measure("qk_norm", [&](Bench &b) {
    b.operand(type_, {t_, m_.packed()}).operand(type_, {m_.heads * m_.headDim});
    b.operand(type_, {m_.kvHeads * m_.headDim}).operand(type_, {t_, m_.packed()});
    head(b).real(1e-5);
  });
  measure("rotary", [&](Bench &b) {
    b.operand(type_, {t_, m_.packed()}).integers({t_}, counting(4096));
    b.operand(type_, {t_, m_.packed()});
    head(b).real(1e6).attribute(0);
  });
  double embedded = static_cast<double>(2 * t_ * d * byteSize(type_));
  measure(
      "embedding",
      [&](Bench &b) {
        b.operand(type_, {m_.vocabulary, d}).integers({t_}, counting(m_.vocabulary));
        b.operand(type_, {t_, d});
      },
      0, embedded);
  measure("embedding_grad", [&](Bench &b) {
    b.operand(type_, {t_, d}).integers({t_}, counting(m_.vocabulary));
    b.operand(DType::F32, {m_.vocabulary, d}).attribute(m_.vocabulary);
  });
  measure("gated_activation", [&](Bench &b) {
    b.operand(type_, {slots, 2 * m_.ffn}).operand(type_, {slots, m_.ffn}).attribute(0);
  });
  measure("gated_activation_grad", [&](Bench &b) {
    b.operand(type_, {slots, m_.ffn}).operand(type_, {slots, 2 * m_.ffn});
    b.operand(type_, {slots, 2 * m_.ffn}).attribute(0);
  });
}

void Suite::experts() {
  int64_t d = m_.width, e = m_.experts, k = m_.topK, slots = t_ * k, n = 2 * m_.ffn;
  measure("router", [&](Bench &b) {
    b.operand(type_, {t_, e}).integers({t_}, counting(1)).operand(DType::F32, {t_, k});
    b.integers({t_, k}, routing_.experts).operand(DType::F32, {1, 2, e});
    b.attribute(k).attribute(0).attribute(1);
  });
  measure("sort_by_expert", [&](Bench &b) {
    b.integers({t_, k}, routing_.experts).integers({e}, routing_.sizes);
    b.integers({t_, k}, routing_.rows).attribute(e);
  });
  measure("permute", [&](Bench &b) {
    b.operand(type_, {t_, d}).integers({t_, k}, routing_.rows).operand(type_, {slots, d});
  });
  measure("unpermute", [&](Bench &b) {
    b.operand(type_, {slots, d}).operand(DType::F32, {t_, k}).integers({t_, k}, routing_.rows);
    b.operand(type_, {t_, d});
  });
  measure("unpermute_grad", [&](Bench &b) {
    b.operand(type_, {t_, d}).operand(type_, {slots, d}).operand(DType::F32, {t_, k});
    b.integers({t_, k}, routing_.rows).operand(type_, {slots, d}).operand(DType::F32, {t_, k});
  });
  double flops = 2.0 * static_cast<double>(slots) * static_cast<double>(n * d);
  measure(
      "grouped_gemm",
      [&](Bench &b) {
        b.operand(type_, {slots, d}).operand(type_, {e, n, d}).integers({e}, routing_.sizes);
        b.operand(type_, {slots, n});
      },
      flops);
  measure(
      "grouped_gemm_dgrad",
      [&](Bench &b) {
        b.operand(type_, {slots, n}).operand(type_, {e, n, d}).integers({e}, routing_.sizes);
        b.operand(type_, {slots, d});
      },
      flops);
  measure(
      "grouped_gemm_wgrad",
      [&](Bench &b) {
        b.operand(type_, {slots, n}).operand(type_, {slots, d}).integers({e}, routing_.sizes);
        b.operand(DType::F32, {e, n, d});
      },
      flops);
}

// One segment per 4,096 tokens; the operations are those that the causal mask leaves.
void Suite::attention() {
  std::vector<int32_t> ends;
  for (int64_t end = 0; end <= t_; end += 4096)
    ends.push_back(static_cast<int32_t>(end));
  int64_t width = m_.heads * m_.headDim;
  double flops = 4.0 * static_cast<double>(t_) * 2048.0 * static_cast<double>(width);
  auto attributes = [&](Bench &b) {
    b.attribute(m_.heads).attribute(m_.kvHeads).attribute(m_.headDim);
    b.real(1 / std::sqrt(static_cast<double>(m_.headDim))).attribute(0);
  };
  auto boundaries = static_cast<int64_t>(ends.size());
  measure(
      "attention",
      [&](Bench &b) {
        b.operand(type_, {t_, m_.packed()}).integers({boundaries}, ends);
        b.operand(type_, {t_, width}).operand(DType::F32, {t_, m_.heads});
        attributes(b);
      },
      flops);
  measure(
      "attention_grad",
      [&](Bench &b) {
        b.operand(type_, {t_, width}).operand(type_, {t_, m_.packed()}).operand(type_, {t_, width});
        b.operand(DType::F32, {t_, m_.heads}).integers({boundaries}, ends);
        b.operand(type_, {t_, m_.packed()});
        attributes(b);
      },
      2.5 * flops);
}

void Suite::dense() {
  int64_t d = m_.width, n = m_.packed();
  double flops = 2.0 * static_cast<double>(t_) * static_cast<double>(n * d);
  measure(
      "linear",
      [&](Bench &b) { b.operand(type_, {t_, d}).operand(type_, {n, d}).operand(type_, {t_, n}); },
      flops);
  measure(
      "linear_wgrad",
      [&](Bench &b) {
        b.operand(type_, {t_, n}).operand(type_, {t_, d}).operand(DType::F32, {n, d});
      },
      flops);
  measure(
      "linear_cross_entropy_grad",
      [&](Bench &b) {
        b.operand(type_, {t_, d})
            .operand(type_, {m_.vocabulary, d})
            .integers({t_}, counting(30000));
        b.operand(DType::F32, {t_}).scalar(1).scalar(0).operand(type_, {t_, d});
        b.operand(DType::F32, {m_.vocabulary, d}).attribute(1024);
      },
      6.0 * static_cast<double>(t_) * static_cast<double>(m_.vocabulary * d));
}

void Suite::optimizer() {
  int64_t count = int64_t{1} << 29;
  auto step = [&](Bench &b) {
    b.scalar(1).integers({}, {1}).scalar(1e-4f).scalar(0.9f).scalar(0.999f).scalar(1e-8f);
    b.scalar(0.01f).scalar(3).attribute(1);
  };
  measure("adamw", [&](Bench &b) {
    for (int i = 0; i < 4; ++i)
      b.operand(type_, {count});
    step(b);
  });
  measure("adamw_master", [&](Bench &b) {
    b.operand(type_, {count}).operand(DType::F32, {count}).operand(DType::F32, {count});
    b.operand(DType::F32, {count}).operand(DType::F32, {count});
    step(b);
  });
  measure("sum_of_squares", [&](Bench &b) { b.operand(type_, {count}).operand(DType::F32, {}); });
  measure("accumulate", [&](Bench &b) { b.operand(DType::F32, {count}).operand(type_, {count}); });
}

int benchmark(std::string_view filter) {
  Context context;
  GemmCache gemms;
  context.gemms = &gemms;
  check(cudaStreamCreate(&context.stream), "cudaStreamCreate");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  std::printf("%s\n", properties.name);
  for (const Model &model : {kMixtral, kOlmoe})
    for (int64_t tokens : {4096, 16384}) {
      Suite suite(context, model, tokens, DType::BF16, filter);
      suite.rows();
      suite.experts();
      suite.attention();
      suite.dense();
    }
  Suite(context, kMixtral, 4096, DType::F32, filter).attention();
  Suite(context, kMixtral, 4096, DType::F32, filter).dense();
  Suite(context, kMixtral, 4096, DType::BF16, filter).optimizer();
  return 0;
}

} // namespace
} // namespace switchyard::kernels::cuda

int main(int argc, char **argv) {
  return switchyard::kernels::cuda::benchmark(argc > 1 ? argv[1] : "");
}
