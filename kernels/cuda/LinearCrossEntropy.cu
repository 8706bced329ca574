// Cross entropy of logits that are never all held, and its gradients.
//
// chunk_rows rows at a time: logits = x w^T in float32; a block per row finds its maximum, sum and
// loss and then writes the logits' gradient in the model's dtype over them; dx = dlogits w, dw +=
// dlogits^T x.
// Rows without a label or weight are left out: they enter the products as zeros.
//
// Seen on an H200 (bfloat16, median of 20): the gradient of 4,096 tokens in one chunk, for V =
// 32000 and D = 4096, 4.3 ms (741 TFLOP/s over its three products); of 16,384 in chunks of 4,096
// 18.2 ms (707), of 1,024 20.8 ms (621), of 256 37.7 ms (341); for V = 50304 and D = 2048 in
// chunks of 2,048 15.4 ms (658).
#include "kernels/cuda/Gemm.h"
#include "kernels/cuda/KernelList.h"
#include "kernels/cuda/Reduce.cuh"
#include "kernels/signatures/linear_cross_entropy.h"

#include <algorithm>

namespace switchyard::kernels::cuda {
namespace {

constexpr unsigned kThreads = 512;

__device__ inline bool counts(int32_t label, float weight, int64_t v) {
  return label >= 0 && label < v && weight != 0.0f;
}

/// The chunk's rows of x, zeros for those that are left out.
template <typename T, int N>
__global__ void selectRowsKernel(const T *x, const int32_t *labels, const float *weights, int64_t v,
                                 T *selected, int64_t width) {
  int64_t row = blockIdx.x;
  bool used = counts(labels[row], weights[row], v);
  for (int64_t i = threadIdx.x * N; i < width; i += blockDim.x * N) {
    Pack<T, N> pack{};
    if (used)
      pack = Pack<T, N>::load(x + row * width + i);
    pack.store(selected + row * width + i);
  }
}

/// The largest of some logits, and the sum of exp(logit - largest).
struct LogSum {
  float largest = -INFINITY;
  float sum = 0;

  template <int N>
  __device__ void add(const float (&logits)[N]) {
    float most = largest;
#pragma unroll
    for (int j = 0; j < N; ++j)
      most = fmaxf(most, logits[j]);
    if (most > largest)
      sum *= expf(largest - most);
    largest = most;
#pragma unroll
    for (int j = 0; j < N; ++j)
      sum += expf(logits[j] - most);
  }
  /// The same over a block's threads, in all of them. Threads that saw no logit have the sum 0.
  __device__ void reduce() {
    float most = blockMax(largest);
    sum = blockSum(sum > 0 ? sum * expf(largest - most) : sum);
    largest = most;
  }
};

/// A row's loss and, with `dloss`, its gradient in T, which takes over the row's memory: a pack of
/// it lies at or before its logits, so a block that reads and then writes piece by piece overwrites
/// none that is still to be read.
template <typename T, int N>
__global__ __launch_bounds__(kThreads) void softmaxKernel(float *logits, const int32_t *labels,
                                                          const float *weights, int64_t v,
                                                          float *losses, const float *dloss) {
  constexpr int kPieces = 2;
  int64_t row = blockIdx.x, step = static_cast<int64_t>(kThreads) * N;
  int32_t label = labels[row];
  float weight = weights[row];
  bool used = counts(label, weight, v);
  logits += row * v;
  LogSum total;
  if (used) {
#pragma unroll 4
    for (int64_t i = threadIdx.x * N; i < v; i += step) {
      float values[N];
      loadPack(logits + i, values);
      total.add(values);
    }
    total.reduce();
  }
  if (threadIdx.x == 0)
    losses[row] = used ? weight * (total.largest + logf(total.sum) - logits[label]) : 0.0f;
  if (!dloss)
    return;
  float factor = used ? weight * *dloss : 0.0f, scale = factor / total.sum;
  T *dlogits = reinterpret_cast<T *>(logits);
  for (int64_t first = threadIdx.x * N; first - threadIdx.x * N < v; first += kPieces * step) {
    float values[kPieces][N] = {};
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece)
      if (used && first + piece * step < v)
        loadPack(logits + first + piece * step, values[piece]);
    __syncthreads(); // these logits were read
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      int64_t i = first + piece * step;
      if (i >= v)
        continue;
#pragma unroll
      for (int j = 0; j < N && used; ++j)
        values[piece][j] =
            expf(values[piece][j] - total.largest) * scale - (i + j == label ? factor : 0.0f);
      storePack(dlogits + i, values[piece]);
    }
  }
}

__global__ void sumLossesKernel(const float *losses, int64_t rows, float *loss) {
  double sum = 0;
  for (int64_t row = threadIdx.x; row < rows; row += blockDim.x)
    sum += losses[row];
  sum = blockSum(sum);
  if (threadIdx.x == 0)
    *loss = static_cast<float>(sum);
}

/// The sizes of a launch and its products.
struct Sizes {
  int64_t rows, d, v, chunk;
  DType dtype;

  explicit Sizes(const Launch &launch)
      : rows(launch.operands[0].dims[0]), d(launch.operands[0].dims[1]),
        v(launch.operands[1].dims[0]), chunk(std::min(launch.attributes[0].integer, rows)),
        dtype(launch.operands[0].dtype) {}

  GemmShape logits(int64_t m) const { return {m, v, d, dtype, DType::F32, false, true, false}; }
  GemmShape dataGradient(int64_t m) const {
    return {m, d, v, dtype, dtype, false, false, false, gradientWidth()};
  }
  GemmShape weightGradient(int64_t m, bool accumulate) const {
    return {v, d, m, dtype, DType::F32, true, false, accumulate, gradientWidth()};
  }
  /// Elements from one row of the logits' gradient to the next: those of float32 logits.
  int64_t gradientWidth() const { return v * 4 / byteSize(dtype); }
};

Fault prepare(const Launch &launch, bool gradient) {
  Sizes sizes(launch);
  GemmCache &gemms = *contextOf(launch).gemms;
  for (int64_t first = 0; first < sizes.rows; first += sizes.chunk) {
    int64_t m = std::min(sizes.chunk, sizes.rows - first);
    if (auto fault = gemms.prepare(sizes.logits(m)))
      return fault;
    if (!gradient)
      continue;
    if (auto fault = gemms.prepare(sizes.dataGradient(m)))
      return fault;
    if (auto fault = gemms.prepare(sizes.weightGradient(m, first > 0)))
      return fault;
  }
  return std::nullopt;
}

/// The parts of the workspace, each at a multiple of 256 bytes.
struct Workspace {
  void *scratch;
  float *logits; // [chunk, V], and then their gradient
  void *x;       // [chunk, D]
  float *losses; // [T]

  Workspace(const Launch &launch, const Sizes &sizes) {
    std::byte *next = launch.workspace.data();
    auto take = [&](int64_t bytes) {
      std::byte *part = next;
      next += ceilDivide(bytes, 256) * 256;
      return part;
    };
    scratch = take(kCudaGemmScratch);
    logits = reinterpret_cast<float *>(take(sizes.chunk * sizes.v * 4));
    x = take(sizes.chunk * sizes.d * byteSize(sizes.dtype));
    losses = reinterpret_cast<float *>(next);
  }
};

/// Operands of the gradient; null without.
template <typename T>
struct Gradients {
  const float *dloss = nullptr;
  T *dx = nullptr;
  float *dw = nullptr;
};

template <typename T>
Fault runChunk(const Launch &launch, const Sizes &sizes, const Workspace &workspace, int64_t first,
               const Gradients<T> &gradients) {
  const Context &context = contextOf(launch);
  auto *w = launch.operands[1].data;
  int64_t m = std::min(sizes.chunk, sizes.rows - first);
  const int32_t *labels = launch.operands[2].as<int32_t>() + first;
  const float *weights = launch.operands[3].as<float>() + first;
  const T *rows = launch.operands[0].as<T>() + first * sizes.d;
  T *x = static_cast<T *>(workspace.x);
  withPack<kPack<T>>(sizes.d % kPack<T> == 0 && isAligned({rows, x}), [&](auto pack) {
    selectRowsKernel<T, decltype(pack)::value>
        <<<static_cast<unsigned>(m), 256, 0, context.stream>>>(rows, labels, weights, sizes.v, x,
                                                               sizes.d);
  });
  if (auto fault = context.gemms->run(context.stream, sizes.logits(m), x, w, workspace.logits,
                                      workspace.scratch))
    return fault;
  withPack<4>(sizes.v % 4 == 0, [&](auto pack) {
    softmaxKernel<T, decltype(pack)::value>
        <<<static_cast<unsigned>(m), kThreads, 0, context.stream>>>(
            workspace.logits, labels, weights, sizes.v, workspace.losses + first, gradients.dloss);
  });
  if (!gradients.dx)
    return std::nullopt;
  if (auto fault = context.gemms->run(context.stream, sizes.dataGradient(m), workspace.logits, w,
                                      gradients.dx + first * sizes.d, workspace.scratch))
    return fault;
  return context.gemms->run(context.stream, sizes.weightGradient(m, first > 0), workspace.logits, x,
                            gradients.dw, workspace.scratch);
}

template <typename T>
Fault run(const Launch &launch, float *loss, const Gradients<T> &gradients) {
  Sizes sizes(launch);
  Workspace workspace(launch, sizes);
  for (int64_t first = 0; first < sizes.rows; first += sizes.chunk)
    if (auto fault = runChunk(launch, sizes, workspace, first, gradients))
      return fault;
  cudaStream_t stream = contextOf(launch).stream;
  sumLossesKernel<<<1, 1024, 0, stream>>>(workspace.losses, sizes.rows, loss);
  if (gradients.dw && sizes.rows == 0)
    return faultOf(cudaMemsetAsync(gradients.dw, 0, sizes.v * sizes.d * 4, stream),
                   "cudaMemsetAsync");
  return std::nullopt;
}

} // namespace

Fault prepareLinearCrossEntropy(const Launch &launch) {
  return prepare(launch, false);
}

Fault runLinearCrossEntropy(const Launch &launch) {
  Fault fault = withFloatType(launch.operands[0].dtype, [&]<typename T>(T) {
    return run<T>(launch, launch.operands[4].as<float>(), {});
  });
  return fault ? fault : launchFault("linear_cross_entropy");
}

Fault prepareLinearCrossEntropyGrad(const Launch &launch) {
  return prepare(launch, true);
}

Fault runLinearCrossEntropyGrad(const Launch &launch) {
  Fault fault = withFloatType(launch.operands[0].dtype, [&]<typename T>(T) {
    return run<T>(launch, launch.operands[5].as<float>(),
                  {launch.operands[4].as<float>(), launch.operands[6].as<T>(),
                   launch.operands[7].as<float>()});
  });
  return fault ? fault : launchFault("linear_cross_entropy_grad");
}

} // namespace switchyard::kernels::cuda
