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
/// A warp goes through its handovers by pieces, of which a lane has packs of kLines rows. Those of
/// the next piece are asked for one by one, each when the one of this piece is taken: what the
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
    Line lines[kLines];
    Piece piece = pieceOf(own.place(), 0);
    uint32_t asked = askWeight(own.place());
#pragma unroll
    for (int i = 0; i < kLines; ++i)
      ask(piece, i, lines[i]);
    for (bool isMore = true; isMore;) {
      auto from = own.handover();
      Place place = own.place();
      float weight = rows.of(asked), dots[kLines] = {};
      from.await();
#pragma unroll 1
      for (int number = 0; number < 2; ++number) {
        Piece following = pieceOf(place, 1);
        if (number == 1) {
          isMore = own.next();
          following = isMore ? pieceOf(own.place(), 0) : Piece{};
          asked = isMore ? askWeight(own.place()) : 0;
        }
#pragma unroll
        for (int i = 0; i < kLines; ++i) {
          Line line = lines[i];
          ask(following, i, lines[i]);
          store(from.take(number, rowOfLane() + 4 * i), piece, i, line, weight, dots[i]);
        }
        piece = following;
      }
      from.release();
      if constexpr (Weighted)
#pragma unroll
        for (int i = 0; i < kLines; ++i)
          storeDot(place, rowOfLane() + 4 * i, dots[i]);
    }
  }

private:
  /// What a lane has of a piece: rows `row` + 0, 4, 8 and 12, of which `count` tells which are
  /// there.
  struct Piece {
    int64_t at; // of the first row's pack in gateUp
    int count, column;
  };
  struct Line {
    Pack<BFloat16, 8> gate, up;
  };

  __device__ static int rowOfLane() { return static_cast<int>(threadIdx.x) % 32 / 8; }

  __device__ Piece pieceOf(const Place &place, int number) const {
    int row = place.row + rowOfLane();
    int column = place.column + number * kPiece + static_cast<int>(threadIdx.x) % 8 * 8;
    return {static_cast<int64_t>(row) * 2 * width + column, column < width ? place.rowEnd - row : 0,
            column};
  }
  __device__ void ask(const Piece &piece, int i, Line &line) const {
    if (4 * i >= piece.count)
      return;
    const BFloat16 *from = gateUp + piece.at + static_cast<int64_t>(8 * i) * width;
    uint4 gate = hopper::loadOnce(from), up = hopper::loadOnce(from + width);
    line = {{{gate.x, gate.y, gate.z, gate.w}}, {{up.x, up.y, up.z, up.w}}};
  }
  /// Lane i asks for the weight of row i % 16 of a place.
  __device__ uint32_t askWeight(const Place &place) const {
    int row = place.row + static_cast<int>(threadIdx.x) % kRowsOfPart;
    return Weighted && row < place.rowEnd ? rows.bitsOf(row) : 0;
  }

  /// `weight` is of the row that the lane asked for; the dot grows by that of this line.
  __device__ void store(const Pack<BFloat16, 8> &dy, const Piece &piece, int i, const Line &line,
                        [[maybe_unused]] float weight, float &dot) const {
    if constexpr (Weighted)
      weight = __shfl_sync(kFullWarp, weight, rowOfLane() + 4 * i);
    // All at once: one after the other each would wait for the one before.
    float sigmoids[8];
#pragma unroll
    for (int j = 0; j < 8; ++j)
      sigmoids[j] = sigmoid<BFloat16>(line.gate.value(j));
    Pack<BFloat16, 8> dgate, dup, result;
    [[maybe_unused]] float sum = 0;
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      float results[2];
      GatedGradient gradients[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float gradient = dy.value(j + h);
        if constexpr (Weighted)
          gradient *= weight;
        gradients[h] = gatedGradient<BFloat16>(gradient, line.gate.value(j + h),
                                               line.up.value(j + h), sigmoids[j + h], results[h]);
        if constexpr (Weighted) {
          results[h] = roundTo<BFloat16>(results[h]);
          sum += dy.value(j + h) * results[h];
          results[h] *= weight;
        }
      }
      dgate.words[j / 2] = roundPair(gradients[0].gate, gradients[1].gate);
      dup.words[j / 2] = roundPair(gradients[0].up, gradients[1].up);
      result.words[j / 2] = roundPair(results[0], results[1]);
    }
    if (4 * i >= piece.count)
      return;
    dot += sum;
    int64_t at = piece.at + static_cast<int64_t>(8 * i) * width;
    dgate.store(dgateUp + at);
    dup.store(dgateUp + at + width);
    result.store(y + (at + piece.column) / 2);
  }
  /// The lanes of a row have its dot in parts.
  __device__ void storeDot(const Place &place, int line, float dot) const {
    dot = warpSum<8>(dot);
    int row = place.row + line;
    if (threadIdx.x % 8 == 0 && row < place.rowEnd && place.column < width)
      rows.dots[static_cast<int64_t>(row) * rows.parts + place.column / kColumnsOfPart] = dot;
  }
};

} // namespace switchyard::kernels::cuda::grouped
