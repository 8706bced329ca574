// sum_of_squares, clip, adamw, adamw_master.
//
// Seen on an H200 (2^29 elements, median of 20; a copy reaches 4.3 TB/s): adamw with all tensors
// in bfloat16 4.0 TB/s, adamw_master 4.2 TB/s, sum_of_squares of bfloat16 4.2 TB/s; of 4,096
// elements 2.6, 3.0 and 1.9 us.
#include "kernels/cuda/Elements.cuh"
#include "kernels/cuda/KernelList.h"
#include "kernels/cuda/Reduce.cuh"
#include "kernels/signatures/optimizer.h"

namespace switchyard::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// Long sums lose bits in float32: packs are added up in float64.
template <typename T, int N>
__global__ void sumSquaresKernel(const T *x, int64_t count, float *sums) {
  Range packs = blockOf(count / N, gridDim.x, blockIdx.x);
  double total = 0;
  auto add = [&]<int M>(std::integral_constant<int, M>, int64_t i) {
    float values[M], sum = 0;
    loadPack(x + i, values);
#pragma unroll
    for (int j = 0; j < M; ++j)
      sum += values[j] * values[j];
    total += sum;
  };
#pragma unroll 8
  for (int64_t pack = packs.begin + threadIdx.x; pack < packs.end; pack += blockDim.x)
    add(std::integral_constant<int, N>{}, pack * N);
  if (blockIdx.x == 0 && threadIdx.x < count % N)
    add(std::integral_constant<int, 1>{}, count / N * N + threadIdx.x);
  total = blockSum(total);
  if (threadIdx.x == 0)
    sums[blockIdx.x] = static_cast<float>(total);
}

__global__ void sumBlocksKernel(const float *partials, int64_t blocks, float *y) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < blocks; i += blockDim.x)
    sum += partials[i];
  sum = blockSum(sum);
  if (threadIdx.x == 0)
    *y = static_cast<float>(sum);
}

__global__ void clipKernel(const float *sumOfSquares, const float *maxNorm, float *norm,
                           float *coefficient, int32_t *apply) {
  float value = sqrtf(*sumOfSquares);
  *norm = value;
  *coefficient = *maxNorm > 0 ? fminf(1.0f, *maxNorm / (value + 1e-6f)) : 1.0f;
  *apply = isfinite(value) ? 1 : 0;
}

/// The addresses of one step's scalars, in the signature's order.
struct StepInputs {
  const float *coefficient;
  const int32_t *apply;
  const float *learningRate, *beta1, *beta2, *epsilon, *weightDecay, *step;

  explicit StepInputs(std::span<const Tensor> inputs)
      : coefficient(inputs[0].as<float>()), apply(inputs[1].as<int32_t>()),
        learningRate(inputs[2].as<float>()), beta1(inputs[3].as<float>()),
        beta2(inputs[4].as<float>()), epsilon(inputs[5].as<float>()),
        weightDecay(inputs[6].as<float>()), step(inputs[7].as<float>()) {}
};

/// What elements need of them, named as in torch's _single_tensor_adamw; computed in double.
struct Step {
  float coefficient, shrink, oneMinusBeta1, beta2, oneMinusBeta2, stepSize, biasCorrection2,
      epsilon;
  float reciprocal2; // 1 / biasCorrection2

  /// root / biasCorrection2, rounded to nearest: a quotient corrected by its exact remainder
  /// (Markstein 1990), which is the quotient's own rounding as long as nothing is subnormal.
  __device__ float correctRoot(float root) const {
    float quotient = root * reciprocal2;
    float remainder = __fmaf_rn(-quotient, biasCorrection2, root);
    return isfinite(quotient) ? __fmaf_rn(remainder, reciprocal2, quotient) : quotient;
  }
};

/// base^step by squaring: a step is a whole number.
__device__ inline double power(double base, float step) {
  double result = 1;
  for (auto rest = static_cast<uint32_t>(step); rest != 0; rest >>= 1) {
    result = rest & 1 ? result * base : result;
    base *= base;
  }
  return result;
}

/// Computes the step's scalars; the first two warps' first threads share the work.
__device__ void computeStep(const StepInputs &inputs, bool decay, Step &result) {
  float step = *inputs.step;
  if (threadIdx.x == 0) {
    double learningRate = *inputs.learningRate, beta1 = *inputs.beta1;
    result.coefficient = *inputs.coefficient;
    result.shrink = static_cast<float>(decay ? 1.0 - learningRate * *inputs.weightDecay : 1.0);
    result.oneMinusBeta1 = static_cast<float>(1.0 - beta1);
    result.stepSize = static_cast<float>(learningRate / (1.0 - power(beta1, step)));
    result.epsilon = *inputs.epsilon;
  } else if (threadIdx.x == 32) {
    double beta2 = *inputs.beta2;
    result.beta2 = static_cast<float>(beta2);
    result.oneMinusBeta2 = static_cast<float>(1.0 - beta2);
    result.biasCorrection2 = static_cast<float>(sqrt(1.0 - power(beta2, step)));
    result.reciprocal2 = 1.0f / result.biasCorrection2;
  }
}

/// sqrt(x) rounded to C. bfloat16's can't be closer than 2^-19 to the middle of two values, as x,
/// of 8 bits, differs from the square of such a middle, of 18: an approximation rounds alike.
template <typename C>
__device__ float rootOf(float x) {
  if constexpr (sizeof(C) == 4)
    return sqrtf(x);
  float root = 0;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(root) : "f"(x));
  return roundTo<C>(root);
}

/// a / b; within 2 units of the last place of float32 where only bfloat16 is kept of it.
template <typename P>
__device__ float quotientOf(float a, float b) {
  if constexpr (sizeof(P) == 4)
    return a / b;
  return __fdividef(a, b);
}

/// One element: returns the new parameter, not yet rounded, and updates the moments. P, B and C are
/// the dtypes of the parameter, gradient and moments. Each of torch's operations rounds.
template <typename P, typename B, typename C>
__device__ float adamwElement(const Step &step, float param, float gradient, float &expAvg,
                              float &expAvgSq) {
  float g = roundTo<B>(step.coefficient * gradient);
  param = roundTo<P>(step.shrink * param);
  expAvg = roundTo<C>(expAvg + step.oneMinusBeta1 * (g - expAvg));
  expAvgSq = roundTo<C>(roundTo<C>(step.beta2 * expAvgSq) + step.oneMinusBeta2 * g * g);
  float root = roundTo<C>(step.correctRoot(rootOf<C>(expAvgSq)));
  return param - step.stepSize * quotientOf<P>(expAvg, roundTo<C>(root + step.epsilon));
}

/// The tensors of a launch; `master` is null without one, and then the parameter is its own.
template <typename A, typename B, typename C>
struct Tensors {
  A *param;
  C *expAvg, *expAvgSq;
  float *master;
  const B *grad;

  template <bool Master, int N>
  __device__ void update(const Step &step, int64_t i) const {
    float p[N], m[N], v[N], g[N];
    if constexpr (Master)
      loadPack(master + i, p);
    else
      loadPack(param + i, p);
    loadPack(expAvg + i, m);
    loadPack(expAvgSq + i, v);
    loadPack(grad + i, g);
#pragma unroll
    for (int j = 0; j < N; ++j)
      p[j] = adamwElement<std::conditional_t<Master, float, A>, B, C>(step, p[j], g[j], m[j], v[j]);
    if constexpr (Master)
      storePack(master + i, p);
    storePack(param + i, p);
    storePack(expAvg + i, m);
    storePack(expAvgSq + i, v);
  }
};

template <bool Master, int N, typename A, typename B, typename C>
__global__ void adamwKernel(StepInputs inputs, bool decay, Tensors<A, B, C> tensors,
                            int64_t count) {
  if (*inputs.apply == 0)
    return;
  __shared__ Step shared;
  computeStep(inputs, decay, shared);
  __syncthreads();
  Step step = shared;
  int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  int64_t packs = count / N;
  for (int64_t pack = thread; pack < packs; pack += threads)
    tensors.template update<Master, N>(step, pack * N);
  if (packs * N + thread < count)
    tensors.template update<Master, 1>(step, packs * N + thread);
}

/// Elements that a thread updates at once: with bfloat16 alone 8 fill 16 bytes, with float32 4 do.
template <typename A, typename B, typename C>
constexpr int kWide = sizeof(A) + sizeof(B) + sizeof(C) == 6 ? 8 : 4;

template <bool Master>
void adamw(const Launch &launch) {
  std::span<const Tensor> operands = launch.operands;
  constexpr int kGrad = Master ? 4 : 3;
  int64_t count = operands[0].count();
  if (count == 0)
    return;
  StepInputs inputs(operands.subspan(kGrad + 1));
  bool decay = launch.attributes[0].integer != 0;
  float *master = Master ? operands[3].as<float>() : nullptr;
  bool aligned = isAligned(
      {operands[0].data, operands[1].data, operands[2].data, master, operands[kGrad].data});
  withFloatType(operands[0].dtype, [&]<typename A>(A) {
    withFloatType(operands[1].dtype, [&]<typename C>(C) {
      withFloatType(operands[kGrad].dtype, [&]<typename B>(B) {
        withPack<kWide<A, B, C>>(aligned, [&](auto pack) {
          constexpr int kN = decltype(pack)::value;
          Tensors<A, B, C> tensors{operands[0].as<A>(), operands[1].as<C>(), operands[2].as<C>(),
                                   master, operands[kGrad].as<B>()};
          // A block computes the step's scalars once, so it has some elements to update.
          int64_t blocks = std::min<int64_t>(ceilDivide(ceilDivide(count, kN), kThreads), 8192);
          adamwKernel<Master, kN, A, B, C>
              <<<static_cast<unsigned>(blocks), kThreads, 0, contextOf(launch).stream>>>(
                  inputs, decay, tensors, count);
        });
      });
    });
  });
}

} // namespace

Fault runSumOfSquares(const Launch &launch) {
  const Tensor &x = launch.operands[0];
  float *partials = floatWorkspace(launch), *y = launch.operands[1].as<float>();
  cudaStream_t stream = contextOf(launch).stream;
  int64_t blocks =
      std::clamp<int64_t>(ceilDivide(x.count(), kThreads * 128), 1, kCudaSumOfSquaresBlocks);
  withFloatType(x.dtype, [&]<typename T>(T) {
    withPack<kPack<T>>(isAligned({x.data}), [&](auto pack) {
      constexpr int kN = decltype(pack)::value;
      sumSquaresKernel<T, kN><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
          x.as<T>(), x.count(), blocks > 1 ? partials : y);
    });
  });
  if (blocks > 1)
    sumBlocksKernel<<<1, 1024, 0, stream>>>(partials, blocks, y);
  return launchFault("sum_of_squares");
}

Fault runClip(const Launch &launch) {
  std::span<const Tensor> operands = launch.operands;
  clipKernel<<<1, 1, 0, contextOf(launch).stream>>>(
      operands[0].as<float>(), operands[1].as<float>(), operands[2].as<float>(),
      operands[3].as<float>(), operands[4].as<int32_t>());
  return launchFault("clip");
}

Fault runAdamw(const Launch &launch) {
  adamw<false>(launch);
  return launchFault("adamw");
}

Fault runAdamwMaster(const Launch &launch) {
  adamw<true>(launch);
  return launchFault("adamw_master");
}

} // namespace switchyard::kernels::cuda
