// sum_of_squares, clip, adamw, adamw_master.
#include "kernels/signatures/optimizer.h"
#include "kernels/cpu/BFloat16.h"
#include "kernels/cpu/KernelList.h"
#include "kernels/cpu/Rows.h"
#include "kernels/cpu/VectorMath.h"

#include <cmath>

namespace switchyard::kernels::cpu {

namespace {

/// Long sums lose bits in float32: pieces of this many elements are added up in double.
constexpr int64_t kPiece = 4096;

template <typename T>
SWITCHYARD_VECTORIZED float sumSquares(const T *x, Range range) {
  double total = 0;
  for (int64_t begin = range.begin; begin < range.end; begin += kPiece) {
    int64_t end = std::min(begin + kPiece, range.end);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = begin; i < end; ++i) {
      float value = toFloat(x[i]);
      sum += value * value;
    }
    total += sum;
  }
  return static_cast<float>(total);
}

/// The scalars of one AdamW step, named as in torch's _single_tensor_adamw; computed in double.
struct AdamwStep {
  float coefficient = 1;
  float shrink = 1; // 1 - lr * weight_decay
  float oneMinusBeta1 = 0;
  float beta2 = 0;
  float oneMinusBeta2 = 0;
  float stepSize = 0;        // lr / (1 - beta1^step)
  float biasCorrection2 = 1; // sqrt(1 - beta2^step)
  float epsilon = 0;
};

/// `inputs` are coefficient, apply, learning_rate, beta1, beta2, epsilon, weight_decay, step.
AdamwStep adamwStep(std::span<const Tensor> inputs, bool decay) {
  auto scalar = [&](size_t index) { return static_cast<double>(*inputs[index].as<float>()); };
  double learningRate = scalar(2);
  double beta1 = scalar(3);
  double beta2 = scalar(4);
  double step = scalar(7);
  AdamwStep result;
  result.coefficient = *inputs[0].as<float>();
  result.shrink = static_cast<float>(decay ? 1.0 - learningRate * scalar(6) : 1.0);
  result.oneMinusBeta1 = static_cast<float>(1.0 - beta1);
  result.beta2 = static_cast<float>(beta2);
  result.oneMinusBeta2 = static_cast<float>(1.0 - beta2);
  result.stepSize = static_cast<float>(learningRate / (1.0 - std::pow(beta1, step)));
  result.biasCorrection2 = static_cast<float>(std::sqrt(1.0 - std::pow(beta2, step)));
  result.epsilon = static_cast<float>(scalar(5));
  return result;
}

/// `value` as a tensor of T elements would hold it.
template <typename T>
[[gnu::always_inline]] inline float rounded(float value) {
  return toFloat(fromFloat<T>(value));
}

/// One element: returns the new parameter, not yet rounded, and updates the moments. P, B and C are
/// the dtypes of the parameter, gradient and moments. torch runs one operation over the tensors
/// after the other, so each rounds; with bfloat16 that is not noise: v * beta2 rounds back to v, so
/// that the second moment never decays.
template <typename P, typename B, typename C>
[[gnu::always_inline]] inline float adamwElement(const AdamwStep &step, float param, float gradient,
                                                 float &expAvg, float &expAvgSq) {
  float g = rounded<B>(step.coefficient * gradient);
  param = rounded<P>(step.shrink * param);
  expAvg = rounded<C>(expAvg + step.oneMinusBeta1 * (g - expAvg));
  expAvgSq = rounded<C>(rounded<C>(step.beta2 * expAvgSq) + step.oneMinusBeta2 * g * g);
  float root = rounded<C>(rounded<C>(std::sqrt(expAvgSq)) / step.biasCorrection2);
  return param - step.stepSize * (expAvg / rounded<C>(root + step.epsilon));
}

template <typename A, typename B, typename C>
SWITCHYARD_VECTORIZED void adamwRange(const AdamwStep &step, A *param, C *expAvg, C *expAvgSq,
                                      const B *grad, Range range) {
#pragma omp simd
  for (int64_t i = range.begin; i < range.end; ++i) {
    float m = toFloat(expAvg[i]);
    float v = toFloat(expAvgSq[i]);
    param[i] = fromFloat<A>(adamwElement<A, B, C>(step, toFloat(param[i]), toFloat(grad[i]), m, v));
    expAvg[i] = fromFloat<C>(m);
    expAvgSq[i] = fromFloat<C>(v);
  }
}

template <typename A, typename B, typename C>
SWITCHYARD_VECTORIZED void adamwMasterRange(const AdamwStep &step, A *param, C *expAvg, C *expAvgSq,
                                            float *master, const B *grad, Range range) {
#pragma omp simd
  for (int64_t i = range.begin; i < range.end; ++i) {
    float m = toFloat(expAvg[i]);
    float v = toFloat(expAvgSq[i]);
    float updated = adamwElement<float, B, C>(step, master[i], toFloat(grad[i]), m, v);
    master[i] = updated;
    param[i] = fromFloat<A>(updated);
    expAvg[i] = fromFloat<C>(m);
    expAvgSq[i] = fromFloat<C>(v);
  }
}

bool applies(const Tensor &apply) {
  return *apply.as<int32_t>() != 0;
}

} // namespace

void runSumOfSquares(const Launch &launch) {
  const Tensor &x = launch.operands[0];
  float *partials = floatWorkspace(launch);
  withFloatType(x.dtype, [&]<typename T>(T) {
    contextOf(launch).pool->parallelFor(kSumOfSquaresBlocks, [&](int64_t block, int) {
      partials[block] = sumSquares(x.as<T>(), blockOf(x.count(), kSumOfSquaresBlocks, block));
    });
  });
  double sum = 0;
  for (int64_t block = 0; block < kSumOfSquaresBlocks; ++block)
    sum += partials[block];
  *launch.operands[1].as<float>() = static_cast<float>(sum);
}

void runClip(const Launch &launch) {
  float norm = std::sqrt(*launch.operands[0].as<float>());
  float largest = *launch.operands[1].as<float>();
  float coefficient = 1;
  if (largest > 0)
    coefficient = std::min(1.0f, largest / (norm + 1e-6f));
  *launch.operands[2].as<float>() = norm;
  *launch.operands[3].as<float>() = coefficient;
  *launch.operands[4].as<int32_t>() = std::isfinite(norm) ? 1 : 0;
}

void runAdamw(const Launch &launch) {
  std::span<const Tensor> operands = launch.operands;
  if (!applies(operands[5]))
    return;
  AdamwStep step = adamwStep(operands.subspan(4), launch.attributes[0].integer != 0);
  withFloatType(operands[0].dtype, [&]<typename A>(A) {
    withFloatType(operands[1].dtype, [&]<typename C>(C) {
      withFloatType(operands[3].dtype, [&]<typename B>(B) {
        forRows(launch, operands[0].count(), 1, [&](Range range) {
          adamwRange(step, operands[0].as<A>(), operands[1].as<C>(), operands[2].as<C>(),
                     operands[3].as<B>(), range);
        });
      });
    });
  });
}

void runAdamwMaster(const Launch &launch) {
  std::span<const Tensor> operands = launch.operands;
  if (!applies(operands[6]))
    return;
  AdamwStep step = adamwStep(operands.subspan(5), launch.attributes[0].integer != 0);
  withFloatType(operands[0].dtype, [&]<typename A>(A) {
    withFloatType(operands[1].dtype, [&]<typename C>(C) {
      withFloatType(operands[4].dtype, [&]<typename B>(B) {
        forRows(launch, operands[0].count(), 1, [&](Range range) {
          adamwMasterRange(step, operands[0].as<A>(), operands[1].as<C>(), operands[2].as<C>(),
                           operands[3].as<float>(), operands[4].as<B>(), range);
        });
      });
    });
  });
}

} // namespace switchyard::kernels::cpu
