// Results of a grouped GEMM on sm_90a that go through the gated activation, or its gradient, before
// they are stored. Only code for sm_90a may call it.
#pragma once

#include "kernels/cuda/GatedActivation.cuh"
#include "kernels/cuda/GroupedGemmHandover.cuh"

namespace switchyard::kernels::cuda::grouped {

/// Stores [gate | up] and the gated result.
struct GatedStore {
  static constexpr bool kHandsOver = true;
  BFloat16 *gateUp, *y;
  int width;

  __device__ void operator()(const Handover &from, Place place) const {
    constexpr int kLines = 4;
    int lane = threadIdx.x % 32, column = place.column + lane % 8 * 8;
    Pack<BFloat16, 8> gate[kLines], up[kLines];
    from.await();
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      gate[i] = from.take(0, 4 * i + lane / 8);
      up[i] = from.take(1, 4 * i + lane / 8);
    }
    from.release();
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      int64_t row = place.row + 4 * i + lane / 8;
      if (row >= place.rowEnd || column >= width)
        continue;
      gate[i].store(gateUp + row * 2 * width + column);
      up[i].store(gateUp + row * 2 * width + width + column);
      float result[8];
#pragma unroll
      for (int j = 0; j < 8; ++j)
        result[j] = gated<BFloat16>(gate[i].value(j), up[i].value(j));
      storePack(y + row * width + column, result);
    }
  }
};

/// The weights of rows, and the dots of what is handed over with the activated rows.
struct RowWeights {
  const void *weights; // [R] in bfloat16 or float32
  bool isBFloat16;
  float *dots; // [R, parts]: of each row's kColumnsOfPart columns
  int parts;

  __device__ float at(int row) const {
    return isBFloat16 ? toFloat(static_cast<const BFloat16 *>(weights)[row])
                      : static_cast<const float *>(weights)[row];
  }
};

/// Takes what is handed over as the gradient of the gated result, and stores that of [gate | up]
/// and the result itself; `Weighted`: each row has a weight, which its gradient and its result are
/// multiplied by. dgateUp may be gateUp.
template <bool Weighted>
struct GatedGradStore {
  static constexpr bool kHandsOver = true;
  const BFloat16 *gateUp;
  BFloat16 *dgateUp, *y;
  int width;
  RowWeights rows;

  __device__ void operator()(const Handover &from, Place place) const {
    constexpr int kLines = 4;
    static_assert(2 * kPiece == kColumnsOfPart);
    int lane = threadIdx.x % 32, row = place.row + lane / 8, column = place.column + lane % 8 * 8;
    // All that is needed is asked for at once, before the gradients are there.
    Pack<BFloat16, 8> gate[2][kLines], up[2][kLines];
    [[maybe_unused]] float weights[kLines], dots[kLines];
#pragma unroll
    for (int i = 0; i < 2 * kLines; ++i) {
      int line = row + i % kLines * 4, at = column + i / kLines * kPiece;
      if (line >= place.rowEnd || at >= width)
        continue;
      const BFloat16 *from = gateUp + static_cast<int64_t>(line) * 2 * width + at;
      gate[i / kLines][i % kLines] = Pack<BFloat16, 8>::load(from);
      up[i / kLines][i % kLines] = Pack<BFloat16, 8>::load(from + width);
    }
    if constexpr (Weighted)
#pragma unroll
      for (int i = 0; i < kLines; ++i) {
        weights[i] = row + 4 * i < place.rowEnd ? rows.at(row + 4 * i) : 0.0f;
        dots[i] = 0;
      }
    from.await();
#pragma unroll
    for (int piece = 0; piece < 2; ++piece, column += kPiece) {
#pragma unroll
      for (int i = 0; i < kLines; ++i) {
        bool isStored = row + 4 * i < place.rowEnd && column < width;
        Pack<BFloat16, 8> dy = from.take(piece, 4 * i + lane / 8);
        Pack<BFloat16, 8> dgate, dup, result;
#pragma unroll
        for (int j = 0; j < 8; j += 2) {
          float results[2];
          GatedGradient gradients[2];
          for (int h = 0; h < 2; ++h) {
            float gradient = dy.value(j + h);
            if constexpr (Weighted)
              gradient *= weights[i];
            gradients[h] = gatedGradient<BFloat16>(gradient, gate[piece][i].value(j + h),
                                                   up[piece][i].value(j + h), results[h]);
            if constexpr (Weighted) {
              results[h] = roundTo<BFloat16>(results[h]);
              dots[i] += isStored ? dy.value(j + h) * results[h] : 0.0f;
              results[h] *= weights[i];
            }
          }
          dgate.words[j / 2] = roundPair(gradients[0].gate, gradients[1].gate);
          dup.words[j / 2] = roundPair(gradients[0].up, gradients[1].up);
          result.words[j / 2] = roundPair(results[0], results[1]);
        }
        if (!isStored)
          continue;
        int64_t line = static_cast<int64_t>(row + 4 * i) * width;
        dgate.store(dgateUp + 2 * line + column);
        dup.store(dgateUp + 2 * line + width + column);
        result.store(y + line + column);
      }
    }
    from.release();
    if constexpr (Weighted)
#pragma unroll
      for (int i = 0; i < kLines; ++i) {
        float dot = warpSum<8>(dots[i]);
        if (lane % 8 == 0 && row + 4 * i < place.rowEnd && place.column < width)
          rows.dots[static_cast<int64_t>(row + 4 * i) * rows.parts +
                    place.column / kColumnsOfPart] = dot;
      }
  }
};

} // namespace switchyard::kernels::cuda::grouped
