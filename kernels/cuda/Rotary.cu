// rotary: a warp rotates the query and key heads of one packed row by its position's angles, whose
// sines and cosines it puts into shared memory first. The frequencies are computed on the host.
//
// Seen on an H200 (bfloat16, median of 20, rows not in place; a copy reaches 4.3 TB/s): 3.7 TB/s on
// Mixtral's and OLMoE's rows of 16,384 tokens, 3.2 with 4,096.
#include "kernels/cuda/KernelList.h"
#include "kernels/cuda/Values.cuh"

#include <algorithm>
#include <cmath>

namespace switchyard::kernels::cuda {
namespace {

/// Frequencies of one launch: a head's further ones take further launches.
constexpr int kFrequencies = 128;
constexpr int kWarps = 8;
/// Pairs of packs that a thread has on their way at once.
constexpr int kAtOnce = 4;

struct Shape {
  int64_t rows;
  int64_t heads; // query and key heads
  int64_t headDim;
  int64_t width;               // of a packed row
  float direction;             // -1 rotates back
  int64_t first;               // frequency of this launch
  int count;                   // of frequencies
  float inverse[kFrequencies]; // 1 / theta^(2 i / head_dim)
};

/// The frequencies as transformers computes them: each step rounded to float32.
void setFrequencies(Shape &shape, double theta) {
  for (int i = 0; i < shape.count; ++i) {
    float exponent = static_cast<float>(2 * (shape.first + i)) / static_cast<float>(shape.headDim);
    double base = static_cast<float>(theta);
    shape.inverse[i] = 1.0f / static_cast<float>(std::pow(base, static_cast<double>(exponent)));
  }
}

/// Where a warp's task, a pack of a head's lower half, lies in a row.
__device__ int64_t placeOf(const Shape &shape, int task, int packs, int n) {
  int head = task / packs;
  return head * shape.headDim + shape.first + (task - head * packs) * n;
}

template <typename T, int N>
__device__ void rotateRow(const Shape &shape, const float2 *turns, const T *from, T *to) {
  int packs = shape.count / N, lane = static_cast<int>(threadIdx.x % 32);
  int tasks = static_cast<int>(shape.heads) * packs;
  int64_t half = shape.headDim / 2;
  for (int first = lane; first < tasks; first += 32 * kAtOnce) {
    Pack<T, N> low[kAtOnce], high[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k)
      if (first + k * 32 < tasks) {
        const T *at = from + placeOf(shape, first + k * 32, packs, N);
        low[k] = Pack<T, N>::load(at);
        high[k] = Pack<T, N>::load(at + half);
      }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      int task = first + k * 32;
      if (task >= tasks)
        continue;
      const float2 *turn = turns + task % packs * N; // cosine, sine
      float lows[N], highs[N];
#pragma unroll
      for (int j = 0; j < N; ++j) {
        float x = low[k].value(j), y = high[k].value(j);
        lows[j] = x * turn[j].x - y * turn[j].y;
        highs[j] = y * turn[j].x + x * turn[j].y;
      }
      T *at = to + placeOf(shape, task, packs, N);
      storePack(at, lows);
      storePack(at + half, highs);
    }
  }
}

/// Copies what no angle turns: the values, and the last column of an odd head.
template <typename T, int N>
__device__ void copyRest(const Shape &shape, const T *from, T *to) {
  int64_t lane = threadIdx.x % 32, turned = shape.heads * shape.headDim;
  for (int64_t i = turned + lane * N; i < shape.width; i += 32 * N)
    Pack<T, N>::load(from + i).store(to + i);
  if (shape.headDim % 2 != 0)
    for (int64_t head = 1 + lane; head <= shape.heads; head += 32)
      to[head * shape.headDim - 1] = from[head * shape.headDim - 1];
}

template <typename T, int N>
__global__ __launch_bounds__(kWarps * 32, 4) void rotaryKernel(const __grid_constant__ Shape shape,
                                                               const T *qkv,
                                                               const int32_t *positions, T *y) {
  __shared__ float2 turns[kWarps][kFrequencies];
  int warp = static_cast<int>(threadIdx.x / 32);
  int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (row >= shape.rows)
    return;
  float position = static_cast<float>(positions[row]);
  for (int i = static_cast<int>(threadIdx.x % 32); i < shape.count; i += 32) {
    float sine = 0, cosine = 0;
    sincosf(position * shape.inverse[i], &sine, &cosine);
    turns[warp][i] = {roundTo<T>(cosine), shape.direction * roundTo<T>(sine)};
  }
  __syncwarp();
  const T *from = qkv + row * shape.width;
  T *to = y + row * shape.width;
  rotateRow<T, N>(shape, turns[warp], from, to);
  if (from != to && shape.first == 0)
    copyRest<T, N>(shape, from, to);
}

} // namespace

Fault runRotary(const Launch &launch) {
  const Tensor &qkv = launch.operands[0], &positions = launch.operands[1];
  const Tensor &y = launch.operands[2];
  if (qkv.dims[0] == 0)
    return std::nullopt;
  Shape shape{};
  shape.rows = qkv.dims[0];
  shape.heads = launch.attributes[0].integer + launch.attributes[1].integer;
  shape.headDim = launch.attributes[2].integer;
  shape.width = qkv.dims[1];
  shape.direction = launch.attributes[4].integer != 0 ? -1.0f : 1.0f;
  do {
    shape.count =
        static_cast<int>(std::min<int64_t>(kFrequencies, shape.headDim / 2 - shape.first));
    setFrequencies(shape, launch.attributes[3].real);
    withFloatType(qkv.dtype, [&]<typename T>(T) {
      bool wide = shape.headDim % (2 * kPack<T>) == 0 && isAligned({qkv.data, y.data});
      withPack<kPack<T>>(wide, [&](auto pack) {
        rotaryKernel<T, decltype(pack)::value>
            <<<static_cast<unsigned>(ceilDivide(shape.rows, kWarps)), kWarps * 32, 0,
               contextOf(launch).stream>>>(shape, qkv.as<T>(), positions.as<int32_t>(), y.as<T>());
      });
    });
    shape.first += shape.count;
  } while (shape.first < shape.headDim / 2);
  return launchFault("rotary");
}

} // namespace switchyard::kernels::cuda
