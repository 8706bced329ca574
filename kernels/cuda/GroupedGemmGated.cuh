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

  __device__ void operator()(const Handover<false> &from, Place place) const {
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

  /// The bits of a row's weight, and the weight that they are.
  __device__ uint32_t bitsOf(int row) const {
    int64_t at = static_cast<int64_t>(row) * (isBFloat16 ? 2 : 4);
    return hopper::loadHalfOrWord(static_cast<const char *>(weights) + at, isBFloat16);
  }
  __device__ float of(uint32_t bits) const {
    return __uint_as_float(isBFloat16 ? bits << 16 : bits);
  }
};

/// Takes what is handed over as the gradient of the gated result, and stores that of [gate | up]
/// and the result itself; `Weighted`: each row has a weight, which its gradient and its result are
/// multiplied by. dgateUp may be gateUp.
///
/// A handover is two pieces of columns, of which a lane has packs of kLines rows. Gate and up of
/// each piece are asked for while the one before it is stored, into registers of its own: what the
/// memory takes to answer is what limits this kernel. To have them brought into L2 before, by the
/// copy engine or otherwise, is slower.
template <bool Weighted>
struct GatedGradStore {
  static constexpr bool kHandsOver = true;
  static constexpr int kLines = kRowsOfPart / 4;
  static_assert(2 * kPiece == kColumnsOfPart);

  const BFloat16 *gateUp;
  BFloat16 *dgateUp, *y;
  int width;
  RowWeights rows;

  template <typename Handovers>
  __device__ void storeAll(Handovers &own) const {
    if (!own.next())
      return;
    Line firsts[kLines], seconds[kLines];
    Part part = partOf(own.place());
    uint32_t asked = askWeight(own.place());
    ask(part, 0, firsts);
    for (bool isMore = true; isMore;) {
      auto from = own.handover();
      float weight = rows.of(asked), dots[kLines] = {};
      ask(part, 1, seconds);
      from.await();
      store(from, part, 0, firsts, weight, dots);
      isMore = own.next();
      Part following = isMore ? partOf(own.place()) : Part{};
      asked = isMore ? askWeight(own.place()) : 0;
      following.row += nothingOf(seconds);
      ask(following, 0, firsts);
      store(from, part, 1, seconds, weight, dots);
      from.release();
      if constexpr (Weighted)
        storeDots(part, dots);
      part = following;
    }
  }

private:
  /// What a lane has of a handover: rows `row` + 0, 4, 8 and 12, of which `count` tells which are
  /// there, and from `column` on a pack of the first piece.
  struct Part {
    int row, count, column;
  };
  struct Line {
    Pack<BFloat16, 8> gate, up;
  };

  __device__ static Part partOf(const Place &place) {
    int lane = static_cast<int>(threadIdx.x) % 32, row = place.row + lane / 8;
    return {row, place.rowEnd - row, place.column + lane % 8 * 8};
  }
  /// 0, as the width is a multiple of 8, but known only when the lines are there. The compiler has
  /// one scoreboard for all that is asked for: who waits for lines behind asking for others would
  /// wait for these, too.
  __device__ int nothingOf(const Line (&lines)[kLines]) const {
    return static_cast<int>(lines[kLines - 1].up.words[0]) & width & 7;
  }
  __device__ bool isThere(const Part &part, int number, int i) const {
    return 4 * i < part.count && part.column + number * kPiece < width;
  }
  /// Where line `i` of piece `number` has its pack of a matrix as wide as `parts` results.
  __device__ int64_t at(const Part &part, int number, int i, int parts) const {
    return static_cast<int64_t>(part.row + 4 * i) * (parts * width) + part.column + number * kPiece;
  }
  __device__ __forceinline__ void ask(const Part &part, int number, Line (&lines)[kLines]) const {
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      const BFloat16 *from = gateUp + at(part, number, i, 2);
      hopper::loadOnce(lines[i].gate.words, from, isThere(part, number, i));
      hopper::loadOnce(lines[i].up.words, from + width, isThere(part, number, i));
    }
  }
  /// Lane i asks for the weight of row i % 16 of a place.
  __device__ uint32_t askWeight(const Place &place) const {
    int row = place.row + static_cast<int>(threadIdx.x) % kRowsOfPart;
    return Weighted && row < place.rowEnd ? rows.bitsOf(row) : 0;
  }

  /// `weight` is of the row that the lane asked for; the dots grow by those of this piece.
  __device__ __forceinline__ void store(const Handover<true> &from, Part part, int number,
                                        const Line (&lines)[kLines], float weight,
                                        float (&dots)[kLines]) const {
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      asm volatile("" : "+r"(part.row)); // else addresses of what was asked for stay in registers
      int line = static_cast<int>(threadIdx.x) % 32 / 8 + 4 * i;
      float ofRow = Weighted ? __shfl_sync(kFullWarp, weight, line) : 1;
      Line gradient;
      Pack<BFloat16, 8> result;
      float dot = differentiate(from.take(number, line), lines[i], ofRow, gradient, result);
      if (!isThere(part, number, i))
        continue;
      dots[i] += dot;
      BFloat16 *to = dgateUp + at(part, number, i, 2);
      gradient.gate.store(to);
      gradient.up.store(to + width);
      result.store(y + at(part, number, i, 1));
    }
  }
  /// The gradient of [gate | up] and the result, and its dot with dy.
  __device__ __forceinline__ static float differentiate(const Pack<BFloat16, 8> &dy,
                                                        const Line &line,
                                                        [[maybe_unused]] float weight,
                                                        Line &gradient, Pack<BFloat16, 8> &result) {
    // All at once: one after the other each would wait for the one before.
    float sigmoids[8];
#pragma unroll
    for (int j = 0; j < 8; ++j)
      sigmoids[j] = sigmoid<BFloat16>(line.gate.value(j));
    float dot = 0;
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      float results[2];
      GatedGradient gradients[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float dresult = dy.value(j + h);
        if constexpr (Weighted)
          dresult *= weight;
        gradients[h] = gatedGradient<BFloat16>(dresult, line.gate.value(j + h),
                                               line.up.value(j + h), sigmoids[j + h], results[h]);
        if constexpr (Weighted) {
          results[h] = roundTo<BFloat16>(results[h]);
          dot += dy.value(j + h) * results[h];
          results[h] *= weight;
        }
      }
      gradient.gate.words[j / 2] = roundPair(gradients[0].gate, gradients[1].gate);
      gradient.up.words[j / 2] = roundPair(gradients[0].up, gradients[1].up);
      result.words[j / 2] = roundPair(results[0], results[1]);
    }
    return dot;
  }
  /// Eight lanes have the dots of the same rows in parts: added up as warpSum<8> does, but of all
  /// rows at once.
  __device__ void storeDots(const Part &part, const float (&dots)[kLines]) const {
    static_assert(kLines == 4);
    int lane = static_cast<int>(threadIdx.x) % 8;
    auto halve = [](bool takesSecond, float first, float second, int distance) {
      float other = __shfl_xor_sync(kFullWarp, takesSecond ? first : second, distance);
      return (takesSecond ? second : first) + other;
    };
    float even = halve(lane & 4, dots[0], dots[2], 4), odd = halve(lane & 4, dots[1], dots[3], 4);
    float dot = halve(lane & 2, even, odd, 2);
    dot += __shfl_xor_sync(kFullWarp, dot, 1);
    int line = lane / 2 * 4, column = part.column / kColumnsOfPart;
    if (lane % 2 == 0 && line < part.count && column * kColumnsOfPart < width)
      rows.dots[static_cast<int64_t>(part.row + line) * rows.parts + column] = dot;
  }
};

} // namespace switchyard::kernels::cuda::grouped
