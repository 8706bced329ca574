// Speed of the CUDA kernels: what a training step of Mixtral-8x7B, OLMoE-1B-7B and Qwen3-30B-A3B
// launches in four layers, one line per kernel and shape with the launches of a step. Not run by
// ctest:
//   build/release/bin/cuda_kernel_benchmark [PART OF A LINE'S KERNEL, MODEL OR SHAPE]...
#include "test/kernels/cuda/Bench.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <span>
#include <string>

namespace switchyard::kernels::cuda {
namespace {

/// The shape of a model's layers.
struct Model {
  const char *name;
  int64_t width, ffn, experts, topK, heads, kvHeads, headDim, vocabulary;
  int64_t packed() const { return (heads + 2 * kvHeads) * headDim; }
};
constexpr Model kMixtral{"mixtral", 4096, 14336, 8, 2, 32, 8, 128, 32000};
constexpr Model kOlmoe{"olmoe", 2048, 1024, 64, 8, 16, 16, 128, 50304};
constexpr Model kQwen{"qwen3", 2048, 768, 128, 8, 32, 4, 128, 151936};
constexpr double kLayers = 4;

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

/// One model's step with T tokens of one dtype: 4,096 are 16 micro-batches, more are one.
class Suite {
public:
  Suite(Machine &machine, const Model &model, int64_t tokens, DType dtype,
        std::span<char *const> filter)
      : machine_(machine), m_(model), t_(tokens), microBatches_(tokens == 4096 ? 16 : 1),
        type_(dtype), filter_(filter),
        label_(std::string(model.name) + " T=" + std::to_string(tokens) + " " +
               std::string(name(dtype))),
        routing_(model, tokens) {}

  void rows();
  void embeddings();
  void routing();
  void dispatch();
  void experts();
  void attention();
  void dense();
  void crossEntropy();
  void optimizer();

private:
  template <typename Fill>
  void measure(std::string_view kernel, double count, const Fill &fill, double flops = 0,
               double bytes = 0, const std::string &detail = "") {
    std::string label = label_ + (detail.empty() ? "" : " " + detail);
    std::string line = std::string(kernel) + " " + label;
    if (!filter_.empty() && std::none_of(filter_.begin(), filter_.end(), [&](const char *part) {
          return line.find(part) != std::string::npos;
        }))
      return;
    Bench bench(machine_, kernel);
    fill(bench);
    bench.run(label, count, flops, bytes);
  }
  /// A value of each token.
  template <typename Value>
  std::vector<int32_t> perToken(const Value &value) const {
    std::vector<int32_t> values(t_);
    for (int64_t t = 0; t < t_; ++t)
      values[t] = static_cast<int32_t>(value(t));
    return values;
  }
  std::vector<int32_t> ids() const {
    return perToken([&](int64_t t) { return t * 7919 % m_.vocabulary; });
  }
  std::vector<int32_t> microBatchIds() const {
    return perToken([&](int64_t t) { return t * microBatches_ / t_; });
  }
  Bench &head(Bench &b) const {
    return b.attribute(m_.heads).attribute(m_.kvHeads).attribute(m_.headDim);
  }
  void linears(int64_t n, int64_t k);

  Machine &machine_;
  Model m_;
  int64_t t_, microBatches_;
  DType type_;
  std::span<char *const> filter_;
  std::string label_;
  Routing routing_;
};

void Suite::rows() {
  int64_t d = m_.width, slots = t_ * m_.topK;
  measure("add", 5 * kLayers, [&](Bench &b) {
    b.operand(type_, {t_, d}).operand(type_, {t_, d}).operand(type_, {t_, d});
  });
  measure("rms_norm", 2 * kLayers + 1, [&](Bench &b) {
    b.operand(type_, {t_, d}).operand(type_, {d}).operand(type_, {t_, d}).real(1e-5);
  });
  measure("rms_norm_grad", 2 * kLayers + 1, [&](Bench &b) {
    b.operand(type_, {t_, d}).operand(type_, {t_, d}).operand(type_, {d}).operand(type_, {t_, d});
    b.operand(DType::F32, {d}).real(1e-5);
  });
  bool normed = std::string_view(m_.name) == "olmoe"; // its own part of the step
  measure("qk_norm", normed ? kLayers : 0, [&](Bench &b) {
    b.operand(type_, {t_, m_.packed()}).operand(type_, {m_.heads * m_.headDim});
    b.operand(type_, {m_.kvHeads * m_.headDim}).operand(type_, {t_, m_.packed()});
    head(b).real(1e-5);
  });
  measure("qk_norm_grad", normed ? kLayers : 0, [&](Bench &b) {
    b.operand(type_, {t_, m_.packed()}).operand(type_, {t_, m_.packed()});
    b.operand(type_, {m_.heads * m_.headDim}).operand(type_, {m_.kvHeads * m_.headDim});
    b.operand(type_, {t_, m_.packed()}).operand(DType::F32, {m_.heads * m_.headDim});
    head(b.operand(DType::F32, {m_.kvHeads * m_.headDim})).real(1e-5);
  });
  measure("rotary", 2 * kLayers, [&](Bench &b) {
    b.operand(type_, {t_, m_.packed()}).integers({t_}, perToken([](int64_t t) {
                                                   return t % 4096;
                                                 }));
    b.operand(type_, {t_, m_.packed()});
    head(b).real(1e6).attribute(0);
  });
  measure("gated_activation", kLayers, [&](Bench &b) {
    b.operand(type_, {slots, 2 * m_.ffn}).operand(type_, {slots, m_.ffn}).attribute(0);
  });
  measure("gated_activation_grad", kLayers, [&](Bench &b) {
    b.operand(type_, {slots, m_.ffn}).operand(type_, {slots, 2 * m_.ffn});
    b.operand(type_, {slots, 2 * m_.ffn}).attribute(0);
  });
}

void Suite::embeddings() {
  int64_t d = m_.width;
  measure(
      "embedding", 1,
      [&](Bench &b) {
        b.operand(type_, {m_.vocabulary, d}).integers({t_}, ids()).operand(type_, {t_, d});
      },
      0, static_cast<double>(2 * t_ * d * byteSize(type_)));
  measure("embedding_grad", 1, [&](Bench &b) {
    b.operand(type_, {t_, d}).integers({t_}, ids()).operand(DType::F32, {m_.vocabulary, d});
    b.attribute(m_.vocabulary);
  });
}

void Suite::routing() {
  int64_t e = m_.experts, k = m_.topK, m = microBatches_;
  measure("router", kLayers, [&](Bench &b) {
    b.operand(type_, {t_, e}).integers({t_}, microBatchIds()).operand(DType::F32, {t_, k});
    b.integers({t_, k}, routing_.experts).operand(DType::F32, {m, 2, e});
    b.attribute(k).attribute(0).attribute(1);
  });
  measure("router_grad", kLayers, [&](Bench &b) {
    b.operand(DType::F32, {t_, k}).operand(DType::F32, {m, 2, e}).operand(type_, {t_, e});
    b.integers({t_, k}, routing_.experts).integers({t_}, microBatchIds()).operand(type_, {t_, e});
    b.attribute(k).attribute(0).attribute(1);
  });
  measure("router_grad_renormalized", kLayers, [&](Bench &b) {
    b.operand(DType::F32, {t_, k}).operand(DType::F32, {t_, k}).integers({t_, k}, routing_.experts);
    b.operand(type_, {t_, e}).attribute(e);
  });
  measure("load_balance_loss", 1, [&](Bench &b) {
    b.operand(DType::F32, {m});
    for (int layer = 0; layer < 4; ++layer)
      b.operand(DType::F32, {m, 2, e});
    b.scalar(0).operand(DType::F32, {4, e}).attribute(k);
  });
  measure("load_balance_loss_grad", 1, [&](Bench &b) {
    b.scalar(1).operand(DType::F32, {m});
    for (int layer = 0; layer < 4; ++layer)
      b.operand(DType::F32, {m, 2, e});
    b.operand(DType::F32, {m, 2, e}).attribute(k);
  });
  measure("sort_by_expert", kLayers, [&](Bench &b) {
    b.integers({t_, k}, routing_.experts).integers({e}, routing_.sizes);
    b.integers({t_, k}, routing_.rows).attribute(e);
  });
}

void Suite::dispatch() {
  int64_t d = m_.width, k = m_.topK, slots = t_ * k;
  measure("permute", kLayers, [&](Bench &b) {
    b.operand(type_, {t_, d}).integers({t_, k}, routing_.rows).operand(type_, {slots, d});
  });
  measure("permute_grad", kLayers, [&](Bench &b) {
    b.operand(type_, {slots, d}).integers({t_, k}, routing_.rows).operand(type_, {t_, d});
  });
  measure("permute_grad_add", kLayers, [&](Bench &b) {
    b.operand(type_, {slots, d}).integers({t_, k}, routing_.rows).operand(type_, {t_, d});
    b.operand(type_, {t_, d});
  });
  measure("unpermute", kLayers, [&](Bench &b) {
    b.operand(type_, {slots, d}).operand(DType::F32, {t_, k}).integers({t_, k}, routing_.rows);
    b.operand(type_, {t_, d});
  });
  measure("unpermute_add", kLayers, [&](Bench &b) {
    b.operand(type_, {slots, d}).operand(DType::F32, {t_, k}).integers({t_, k}, routing_.rows);
    b.operand(type_, {t_, d}).operand(type_, {t_, d});
  });
  measure("unpermute_grad", kLayers, [&](Bench &b) {
    b.operand(type_, {t_, d}).operand(type_, {slots, d}).operand(DType::F32, {t_, k});
    b.integers({t_, k}, routing_.rows).operand(type_, {slots, d}).operand(DType::F32, {t_, k});
  });
}

void Suite::experts() {
  int64_t d = m_.width, e = m_.experts, slots = t_ * m_.topK, n = 2 * m_.ffn;
  double flops = 2.0 * static_cast<double>(slots) * static_cast<double>(n * d);
  measure(
      "grouped_gemm", kLayers,
      [&](Bench &b) {
        b.operand(type_, {slots, d}).operand(type_, {e, n, d}).integers({e}, routing_.sizes);
        b.operand(type_, {slots, n});
      },
      flops);
  measure(
      "grouped_gemm_dgrad", kLayers,
      [&](Bench &b) {
        b.operand(type_, {slots, n}).operand(type_, {e, n, d}).integers({e}, routing_.sizes);
        b.operand(type_, {slots, d});
      },
      flops);
  measure(
      "grouped_gemm_wgrad", kLayers,
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
    head(b).real(1 / std::sqrt(static_cast<double>(m_.headDim))).attribute(0);
  };
  auto boundaries = static_cast<int64_t>(ends.size());
  measure(
      "attention", kLayers,
      [&](Bench &b) {
        b.operand(type_, {t_, m_.packed()}).integers({boundaries}, ends);
        b.operand(type_, {t_, width}).operand(DType::F32, {t_, m_.heads});
        attributes(b);
      },
      flops);
  measure(
      "attention_grad", kLayers,
      [&](Bench &b) {
        b.operand(type_, {t_, width}).operand(type_, {t_, m_.packed()}).operand(type_, {t_, width});
        b.operand(DType::F32, {t_, m_.heads}).integers({boundaries}, ends);
        b.operand(type_, {t_, m_.packed()});
        attributes(b);
      },
      2.5 * flops);
}

void Suite::linears(int64_t n, int64_t k) {
  double flops = 2.0 * static_cast<double>(t_) * static_cast<double>(n * k);
  std::string detail = "N=" + std::to_string(n);
  measure(
      "linear", kLayers,
      [&](Bench &b) { b.operand(type_, {t_, k}).operand(type_, {n, k}).operand(type_, {t_, n}); },
      flops, 0, detail);
  measure(
      "linear_dgrad", kLayers,
      [&](Bench &b) { b.operand(type_, {t_, n}).operand(type_, {n, k}).operand(type_, {t_, k}); },
      flops, 0, detail);
  measure(
      "linear_wgrad", kLayers,
      [&](Bench &b) {
        b.operand(type_, {t_, n}).operand(type_, {t_, k}).operand(DType::F32, {n, k});
      },
      flops, 0, detail);
}

void Suite::dense() {
  linears(m_.packed(), m_.width);
  linears(m_.width, m_.heads * m_.headDim);
  linears(m_.experts, m_.width);
}

void Suite::crossEntropy() {
  int64_t d = m_.width, v = m_.vocabulary;
  double flops = 6.0 * static_cast<double>(t_) * static_cast<double>(v * d);
  for (int64_t chunk : {256, 1024, 2048, 4096})
    measure(
        "linear_cross_entropy_grad", chunk == 256 ? 1 : 0,
        [&](Bench &b) {
          b.operand(type_, {t_, d}).operand(type_, {v, d}).integers({t_}, ids());
          b.operand(DType::F32, {t_}).scalar(1).scalar(0).operand(type_, {t_, d});
          b.operand(DType::F32, {v, d}).attribute(chunk);
        },
        flops, 0, "chunk=" + std::to_string(chunk));
}

// Of the 6.07 billion parameters of four of Mixtral's layers.
void Suite::optimizer() {
  auto step = [&](Bench &b) {
    b.scalar(1).integers({}, {1}).scalar(1e-4f).scalar(0.9f).scalar(0.999f).scalar(1e-8f);
    b.scalar(0.01f).scalar(3).attribute(1);
  };
  for (int64_t count : {int64_t{1} << 29, int64_t{4096}}) {
    double launches = count == 4096 ? 13 : 11.3;
    std::string detail = std::to_string(count);
    for (DType gradient : {type_, DType::F32})
      measure(
          "adamw", gradient == type_ ? launches : 0,
          [&](Bench &b) {
            for (int i = 0; i < 3; ++i)
              b.operand(type_, {count});
            step(b.operand(gradient, {count}));
          },
          0, 0, detail + " of " + std::string(name(gradient)));
    measure(
        "adamw_master", 0,
        [&](Bench &b) {
          b.operand(type_, {count}).operand(DType::F32, {count}).operand(DType::F32, {count});
          step(b.operand(DType::F32, {count}).operand(DType::F32, {count}));
        },
        0, 0, detail);
    measure(
        "sum_of_squares", launches,
        [&](Bench &b) { b.operand(type_, {count}).operand(DType::F32, {}); }, 0, 0, detail);
    measure(
        "accumulate", 0, [&](Bench &b) { b.operand(type_, {count}).operand(DType::F32, {count}); },
        0, 0, detail);
  }
}

int benchmark(std::span<char *const> filter) {
  Machine machine;
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  std::printf(
      "%s; the last columns: share of the floor, launches of a step, what they lose to it\n",
      properties.name);
  for (const Model &model : {kMixtral, kOlmoe, kQwen})
    for (int64_t tokens : {4096, 16384}) {
      Suite suite(machine, model, tokens, DType::BF16, filter);
      suite.rows();
      suite.embeddings();
      suite.routing();
      suite.dispatch();
      suite.experts();
      suite.attention();
      suite.dense();
      suite.crossEntropy();
    }
  Suite(machine, kMixtral, 4096, DType::F32, filter).attention();
  Suite(machine, kMixtral, 4096, DType::F32, filter).dense();
  Suite(machine, kMixtral, 4096, DType::BF16, filter).optimizer();
  return 0;
}

} // namespace
} // namespace switchyard::kernels::cuda

int main(int argc, char **argv) {
  return switchyard::kernels::cuda::benchmark(
      std::span<char *const>(argv + 1, static_cast<size_t>(argc - 1)));
}
