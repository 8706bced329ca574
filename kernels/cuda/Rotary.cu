// rotary: a block rotates the query and key heads of one packed row by its position's angles.
//
// Seen on an H200 (bfloat16, median of 20, 16,384 tokens; a copy reaches 4.3 TB/s): 1.6 TB/s on
// Mixtral's rows, 2.1 on OLMoE's.
#include "kernels/cuda/KernelList.h"
#include "kernels/cuda/Values.cuh"

namespace switchyard::kernels::cuda {
namespace {

/// Frequencies whose sines and cosines a block holds at once.
constexpr int kFrequencies = 256;

struct Shape {
  int64_t heads; // query and key heads
  int64_t headDim;
  int64_t width; // of a packed row
  double theta;
  float direction; // -1 rotates back
};

/// 1 / theta^(2 i / head_dim) as transformers computes it: each step rounded to float32.
__device__ float inverseFrequency(const Shape &shape, int64_t i) {
  float exponent = static_cast<float>(2 * i) / static_cast<float>(shape.headDim);
  double base = static_cast<float>(shape.theta);
  return 1.0f / static_cast<float>(pow(base, static_cast<double>(exponent)));
}

template <typename T, int N>
__global__ void rotaryKernel(Shape shape, const T *qkv, const int32_t *positions, T *y) {
  __shared__ float sines[kFrequencies], cosines[kFrequencies];
  const T *from = qkv + blockIdx.x * shape.width;
  T *to = y + blockIdx.x * shape.width;
  float position = static_cast<float>(positions[blockIdx.x]);
  int64_t half = shape.headDim / 2;
  for (int64_t first = 0; first < half; first += kFrequencies) {
    int count = static_cast<int>(half - first < kFrequencies ? half - first : kFrequencies);
    __syncthreads(); // the frequencies before these were read
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
      float sine = 0, cosine = 0;
      sincosf(position * inverseFrequency(shape, first + i), &sine, &cosine);
      sines[i] = shape.direction * roundTo<T>(sine);
      cosines[i] = roundTo<T>(cosine);
    }
    __syncthreads();
    int packs = count / N;
    for (int64_t task = threadIdx.x; task < shape.heads * packs; task += blockDim.x) {
      int64_t head = task / packs;
      int i = static_cast<int>(task - head * packs) * N;
      int64_t at = head * shape.headDim + first + i;
      float low[N], high[N];
      loadPack(from + at, low);
      loadPack(from + at + half, high);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        float turned = low[j] * cosines[i + j] - high[j] * sines[i + j];
        high[j] = high[j] * cosines[i + j] + low[j] * sines[i + j];
        low[j] = turned;
      }
      storePack(to + at, low);
      storePack(to + at + half, high);
    }
  }
  if (from == to)
    return;
  // What no angle turns: the values, and the last column of an odd head.
  int64_t turned = shape.heads * shape.headDim;
  for (int64_t i = turned + threadIdx.x * N; i < shape.width; i += blockDim.x * N)
    *reinterpret_cast<Pack<T, N> *>(to + i) = *reinterpret_cast<const Pack<T, N> *>(from + i);
  if (shape.headDim % 2 != 0)
    for (int64_t head = 1 + threadIdx.x; head <= shape.heads; head += blockDim.x)
      to[head * shape.headDim - 1] = from[head * shape.headDim - 1];
}

} // namespace

Fault runRotary(const Launch &launch) {
  const Tensor &qkv = launch.operands[0], &positions = launch.operands[1];
  const Tensor &y = launch.operands[2];
  Shape shape{launch.attributes[0].integer + launch.attributes[1].integer,
              launch.attributes[2].integer, qkv.dims[1], launch.attributes[3].real,
              launch.attributes[4].integer != 0 ? -1.0f : 1.0f};
  if (qkv.dims[0] == 0)
    return std::nullopt;
  withFloatType(qkv.dtype, [&]<typename T>(T) {
    bool wide = shape.headDim % (2 * kPack<T>) == 0 && isAligned({qkv.data, y.data});
    withPack<kPack<T>>(wide, [&](auto pack) {
      constexpr int kN = decltype(pack)::value;
      rotaryKernel<T, kN>
          <<<static_cast<unsigned>(qkv.dims[0]), threadsFor(shape.width / kN / 2), 0,
             contextOf(launch).stream>>>(shape, qkv.as<T>(), positions.as<int32_t>(), y.as<T>());
    });
  });
  return launchFault("rotary");
}

} // namespace switchyard::kernels::cuda
