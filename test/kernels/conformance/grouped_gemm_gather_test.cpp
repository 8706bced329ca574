// The grouped GEMMs that gather tokens, and the one of rows that were permuted for it: against
// float64, and where nothing is weighted bit by bit against permute and the kernel that takes its
// rows.
#include "test/kernels/conformance/GroupedReference.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <numeric>

namespace switchyard::kernels::conformance {
namespace {

constexpr DType kFloats[] = {DType::F32, DType::BF16};

/// The rows of `tokens`; zero where there is no such token.
Array rowsOf(const Array &tokens, const Array &tokenOfRow) {
  int64_t width = tokens.dims[1];
  Array rows(tokens.dtype, {tokenOfRow.count(), width});
  for (int64_t row = 0; row < tokenOfRow.count(); ++row)
    if (auto token = static_cast<int64_t>(tokenOfRow.values[row]);
        token >= 0 && token < tokens.dims[0])
      std::copy_n(tokens.values.begin() + token * width, width, rows.values.begin() + row * width);
  return rows;
}

/// Operands x, token_of_row, w, group_sizes, gate_up, y.
void gatedGather(std::vector<Array> &o) {
  std::vector<Array> operands = {rowsOf(o[0], o[1]), o[2], o[3], o[4], o[5]};
  gated(operands);
  std::copy_n(operands.begin() + 3, 2, o.begin() + 4);
}

/// Operands dy, x, token_of_row, group_sizes, dw.
void wgradGatherX(std::vector<Array> &o) {
  std::vector<Array> operands = {o[0], rowsOf(o[1], o[2]), o[3], o[4]};
  groupedGemmWgrad(operands);
  o[4] = operands[3];
}

/// Operands dy, token_of_row, x, group_sizes, dw.
void wgradGatherDy(std::vector<Array> &o) {
  std::vector<Array> operands = {rowsOf(o[0], o[1]), o[2], o[3], o[4]};
  groupedGemmWgrad(operands);
  o[4] = operands[3];
}

/// Operands dy, weight_of_row, row_of_slot, w, group_sizes, gate_up, dgate_up, y, dweights.
void dgradGatedWeighted(std::vector<Array> &o) {
  const Array &gateUp = o[5];
  Array &dgateUp = o[6], &y = o[7], &dweights = o[8];
  int64_t rows = y.dims[0], width = y.dims[1];
  std::vector<double> dots(rows, 0.0);
  forEachProduct(o[0], o[3], o[4], false, [&](int64_t row, int64_t i, double sum) {
    double product = roundTo(y.dtype, sum), weight = o[1].values[row], d = weight * product;
    double gate = gateUp.at(row, i), up = gateUp.at(row, width + i), s = sigmoid(gate);
    double activated = roundTo(y.dtype, roundTo(y.dtype, gate * s) * up);
    dgateUp.at(row, i) = d * up * (s + gate * s * (1 - s));
    dgateUp.at(row, width + i) = d * gate * s;
    y.at(row, i) = weight * activated;
    dots[row] += product * activated;
  });
  for (int64_t slot = 0; slot < dweights.count(); ++slot) {
    auto row = static_cast<int64_t>(o[2].values[slot]);
    dweights.values[slot] = row >= 0 && row < rows ? dots[row] : 0;
  }
}

/// The same with operands dy, token_of_row, weight_of_row and so on.
void dgradGatedGather(std::vector<Array> &o) {
  std::vector<Array> operands = {rowsOf(o[0], o[1])};
  operands.insert(operands.end(), o.begin() + 2, o.end());
  dgradGatedWeighted(operands);
  std::copy_n(operands.begin() + 6, 3, o.begin() + 7);
}

/// tokens * topK rows; what is contracted is `depth`, or for a gradient by weight the rows.
struct Routing {
  int64_t tokens, topK, width, depth;
  std::vector<double> sizes;

  int64_t rows() const { return tokens * topK; }
  int64_t experts() const { return static_cast<int64_t>(sizes.size()); }
};

/// The operands' names follow the signatures'.
class Calls {
public:
  Calls(DType dtype, const Routing &routing, unsigned seed)
      : random_(seed), dtype_(dtype), routing_(routing),
        sizes_(arrayOf(DType::I32, {routing.experts()}, routing.sizes)),
        rowOfSlot_(DType::I32, {routing.tokens, routing.topK}),
        tokenOfRow_(DType::I32, {routing.rows()}) {
    // Any row may be any slot's: tokens stand in no order, some slots are inert.
    std::vector<int64_t> slots(routing.rows());
    std::iota(slots.begin(), slots.end(), 0);
    std::shuffle(slots.begin(), slots.end(), random_);
    for (int64_t row = 0; row < routing.rows(); ++row) {
      bool inert = row % 7 == 3;
      rowOfSlot_.values[slots[row]] = inert ? -1.0 : static_cast<double>(row);
      tokenOfRow_.values[row] = inert ? -1.0 : static_cast<double>(slots[row] / routing.topK);
    }
  }

  const Array &rowOfSlot() const { return rowOfSlot_; }

  Call gated() {
    return {"grouped_gemm_gated_gather",
            {tokens(routing_.depth), tokenOfRow_,
             random({routing_.experts(), 2 * routing_.width, routing_.depth}), sizes_,
             rows(2 * routing_.width), rows(routing_.width)},
            kSilu};
  }

  Call dgradGated(DType weights) {
    return {"grouped_gemm_dgrad_gated_gather",
            {tokens(routing_.depth), tokenOfRow_,
             uniform(random_, weights, {routing_.rows()}, 0, 1), rowOfSlot_,
             random({routing_.experts(), routing_.depth, routing_.width}), sizes_,
             uniform(random_, dtype_, {routing_.rows(), 2 * routing_.width}, -6, 6),
             rows(2 * routing_.width), rows(routing_.width),
             Array(weights, {routing_.tokens, routing_.topK})},
            kSilu};
  }

  Call dgradWeighted(DType weights) {
    Call call = dgradGated(weights);
    call.kernel = "grouped_gemm_dgrad_gated_weighted";
    call.operands.erase(call.operands.begin() + 1);
    call.operands[0] = random({routing_.rows(), routing_.depth});
    return call;
  }

  Call wgradX(DType result) {
    return {"grouped_gemm_wgrad_gather_x",
            {random({routing_.rows(), routing_.width}), tokens(routing_.depth), tokenOfRow_, sizes_,
             Array(result, {routing_.experts(), routing_.width, routing_.depth})}};
  }

  Call wgradDy(DType result) {
    return {"grouped_gemm_wgrad_gather_dy",
            {tokens(routing_.width), tokenOfRow_, random({routing_.rows(), routing_.depth}), sizes_,
             Array(result, {routing_.experts(), routing_.width, routing_.depth})}};
  }

  /// What a gradient by weight is added to.
  Array before(DType result) {
    return uniform(random_, result, {routing_.experts(), routing_.width, routing_.depth});
  }

private:
  Array random(std::vector<int64_t> dims) { return uniform(random_, dtype_, std::move(dims)); }
  Array tokens(int64_t width) { return random({routing_.tokens, width}); }
  Array rows(int64_t width) const { return {dtype_, {routing_.rows(), width}}; }

  Random random_;
  DType dtype_;
  Routing routing_;
  Array sizes_, rowOfSlot_, tokenOfRow_;
};

class GroupedGemmGatherTest : public testing::TestWithParam<std::tuple<DType, Routing>> {
protected:
  DType dtype() const { return std::get<0>(GetParam()); }
  /// The rows that permute makes of a call's tokens.
  Array permuted(const Array &tokens) {
    Array rows(tokens.dtype, {calls_.rowOfSlot().count(), tokens.dims[1]});
    return runOnce({"permute", {tokens, calls_.rowOfSlot(), rows}})[2];
  }

  Calls calls_{dtype(), std::get<1>(GetParam()), 47};
};

TEST_P(GroupedGemmGatherTest, Gated) {
  expectConforms(calls_.gated(), gatedGather, gatedOptions(dtype()));
}

TEST_P(GroupedGemmGatherTest, DgradGated) {
  for (DType weights : kFloats)
    expectConforms(calls_.dgradGated(weights), dgradGatedGather,
                   gatedOptions(weights == DType::BF16 ? weights : dtype()));
}

TEST_P(GroupedGemmGatherTest, DgradWeighted) {
  for (DType weights : kFloats)
    expectConforms(calls_.dgradWeighted(weights), dgradGatedWeighted,
                   gatedOptions(weights == DType::BF16 ? weights : dtype()));
}

/// Tensor cores cut off what they add where they align it, which shows in sums of thousands.
Options sumOptions(DType dtype, DType result) {
  if (dtype == DType::BF16 && result == DType::F32)
    return {.tolerance = Tolerance{2e-6, 4e-6}};
  return {};
}

TEST_P(GroupedGemmGatherTest, WgradX) {
  for (DType result : {DType::F32, dtype()})
    expectConforms(calls_.wgradX(result), wgradGatherX, sumOptions(dtype(), result));
}

TEST_P(GroupedGemmGatherTest, WgradDy) {
  for (DType result : {DType::F32, dtype()})
    expectConforms(calls_.wgradDy(result), wgradGatherDy, sumOptions(dtype(), result));
}

/// Added to what there is, a gradient is the bits of the two kernels that do the same.
void expectAccumulates(const Call &gradient, std::string_view kernel, const Array &before) {
  Call call = gradient;
  call.kernel = kernel;
  call.operands[4] = before;
  const Array sum = runOnce(gradient)[4];
  EXPECT_EQ(runOnce(call)[4].values, runOnce({"accumulate", {before, sum}})[0].values);
}

TEST_P(GroupedGemmGatherTest, WgradXAccumulate) {
  for (DType result : {DType::F32, dtype()})
    expectAccumulates(calls_.wgradX(DType::F32), "grouped_gemm_wgrad_gather_x_accumulate",
                      calls_.before(result));
}

TEST_P(GroupedGemmGatherTest, WgradDyAccumulate) {
  for (DType result : {DType::F32, dtype()})
    expectAccumulates(calls_.wgradDy(DType::F32), "grouped_gemm_wgrad_gather_dy_accumulate",
                      calls_.before(result));
}

TEST_P(GroupedGemmGatherTest, GatedIsTheBitsOfPermutedRows) {
  Call call = calls_.gated();
  std::vector<Array> gathered = runOnce(call);
  const std::vector<Array> &o = call.operands;
  std::vector<Array> two =
      runOnce({"grouped_gemm_gated", {permuted(o[0]), o[2], o[3], o[4], o[5]}, kSilu});
  EXPECT_EQ(gathered[4].values, two[3].values);
  EXPECT_EQ(gathered[5].values, two[4].values);
}

TEST_P(GroupedGemmGatherTest, WgradXIsTheBitsOfPermutedRows) {
  for (DType result : {DType::F32, dtype()}) {
    Call call = calls_.wgradX(result);
    const std::vector<Array> &o = call.operands;
    EXPECT_EQ(runOnce(call)[4].values,
              runOnce({"grouped_gemm_wgrad", {o[0], permuted(o[1]), o[3], o[4]}})[3].values);
  }
}

TEST_P(GroupedGemmGatherTest, WgradDyIsTheBitsOfPermutedRows) {
  for (DType result : {DType::F32, dtype()}) {
    Call call = calls_.wgradDy(result);
    const std::vector<Array> &o = call.operands;
    EXPECT_EQ(runOnce(call)[4].values,
              runOnce({"grouped_gemm_wgrad", {permuted(o[0]), o[2], o[3], o[4]}})[3].values);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Routings, GroupedGemmGatherTest,
    testing::Combine(
        testing::Values(DType::F32, DType::BF16),
        testing::Values(Routing{0, 2, 8, 8, {0, 0, 0}},          // T = 0
                        Routing{1, 2, 16, 8, {0, 1, 0, 1}},      // T = 1
                        Routing{150, 2, 24, 40, {0, 0, 300, 0}}, // one expert takes all
                        Routing{101, 1, 17, 33, {5, 0, 33, 63}}, // odd sizes, an empty expert
                        Routing{50, 3, 12, 20, {64, 40, 8, 7}},  // rows past the last group
                        Routing{32, 2, 8, 16, {0, 0}},           // only rows past the last group
                        Routing{100, 2, 40, 1, {70, 130}},       // a contraction of one
                        Routing{25, 8, 1, 24, {0, 199, 1}},      // rows of one element
                        // Of the shapes of large tiles: sizes one off a tile's and half a tile's,
                        // columns past a tile's by one pack, contractions with ragged ends, of one
                        // step, of two and of many; rows of no group.
                        Routing{450, 2, 136, 136, {127, 128, 129, 1, 0, 255, 257}},
                        Routing{130, 2, 264, 72, {0, 63, 64, 65, 0, 33, 31}},
                        Routing{85, 4, 128, 64, {16, 17, 15, 0, 47, 49, 130}},
                        Routing{65, 4, 72, 264, {0, 63, 64, 65, 0, 33, 31}},
                        Routing{100, 2, 256, 128, {0, 0, 200, 0}},
                        Routing{200, 2, 40, 328, {90, 0, 1, 2, 200}})));

// What is contracted decides in CUDA's launcher which kernel it is: whole steps of it, a ragged
// end, an odd number of steps.
INSTANTIATE_TEST_SUITE_P(
    LongContractions, GroupedGemmGatherTest,
    testing::Combine(testing::Values(DType::BF16),
                     testing::Values(Routing{200, 2, 24, 3072, {127, 129, 0, 128}},
                                     Routing{25, 3, 264, 3080, {1, 0, 65}},
                                     Routing{35, 2, 136, 3136, {33, 31, 0}},
                                     Routing{32, 2, 8, 3072, {0, 0}},
                                     // Rows, for the gradients by weight.
                                     Routing{1700, 2, 24, 40, {3080, 0, 200, 100}})));

/// All of them, of bfloat16 on one thread.
void expectManyConform(const Routing &routing) {
  Calls calls(DType::BF16, routing, 53);
  expectConforms(calls.gated(), gatedGather, manyExperts());
  expectConforms(calls.dgradGated(DType::F32), dgradGatedGather, manyExperts());
  expectConforms(calls.dgradWeighted(DType::F32), dgradGatedWeighted, manyExperts());
  for (DType result : kFloats) {
    expectConforms(calls.wgradX(result), wgradGatherX, {.threads = {1}});
    expectConforms(calls.wgradDy(result), wgradGatherDy, {.threads = {1}});
  }
}

/// `sizes` of experts and tokens of two slots for them.
Routing routingOf(int64_t width, int64_t depth, std::vector<double> sizes) {
  auto rows = static_cast<int64_t>(std::accumulate(sizes.begin(), sizes.end(), 0.0));
  return {(rows + 1) / 2, 2, width, depth, std::move(sizes)};
}

TEST(GroupedGemmGather, MoreTilesThanBlocks) {
  std::vector<double> sizes;
  for (int expert = 0; expert < 100; ++expert) // most of a few rows, some of none
    sizes.push_back(expert % 5 == 4 ? 100 : expert % 5);
  expectManyConform(routingOf(456, 16, sizes));
}

TEST(GroupedGemmGather, MoreTilesThanBlocksOfALongContraction) {
  std::vector<double> sizes;
  for (int expert = 0; expert < 320; ++expert)
    sizes.push_back(expert % 60 == 59 ? 150 : expert % 4);
  expectManyConform(routingOf(8, 3080, sizes));
}

// Below and above what one kernel of CUDA has room for.
TEST(GroupedGemmGather, ManyExperts) {
  for (int64_t experts : {320, 321}) {
    std::vector<double> sizes(experts, 0.0);
    for (int64_t expert : {int64_t{0}, int64_t{31}, int64_t{32}, experts - 1})
      sizes[expert] = 3;
    expectManyConform(routingOf(8, 8, sizes));
  }
}

// What a plan that nobody made gives: numbers that are none, and rows of several slots.
TEST(GroupedGemmGather, TokensAndRowsThatDoNotExistAreNone) {
  Routing routing{3, 2, 8, 16, {4, 2}};
  Array tokens = arrayOf(DType::I32, {6}, {0, 3, 2147483647, 1, -2147483648.0, -2});
  Array slots = arrayOf(DType::I32, {3, 2}, {0, 6, 2147483647, 3, -2147483648.0, 3});
  for (DType dtype : kFloats) {
    Calls calls(dtype, routing, 59);
    Call gated = calls.gated(), byData = calls.dgradGated(DType::F32),
         weighted = calls.dgradWeighted(DType::F32), x = calls.wgradX(DType::F32),
         dy = calls.wgradDy(DType::F32);
    gated.operands[1] = byData.operands[1] = x.operands[2] = dy.operands[1] = tokens;
    byData.operands[3] = weighted.operands[2] = slots;
    expectConforms(gated, gatedGather, gatedOptions(dtype));
    expectConforms(byData, dgradGatedGather, gatedOptions(dtype));
    expectConforms(weighted, dgradGatedWeighted, gatedOptions(dtype));
    expectConforms(x, wgradGatherX);
    expectConforms(dy, wgradGatherDy);
  }
}

/// The rows' results of experts `down` [E, N, F] weighted and summed by token: what the gradients
/// are of.
double lossOf(const Calls &calls, const Array &gateUp, const Array &down, const Array &weights,
              const Array &sizes, const Array &dy) {
  const Array &slots = calls.rowOfSlot();
  double loss = 0;
  int64_t width = down.dims[2];
  forEachRow(sizes, [&](int64_t expert, int64_t row) {
    for (int64_t slot = 0; slot < slots.count(); ++slot)
      for (int64_t n = 0; n < dy.dims[1] && slots.values[slot] == static_cast<double>(row); ++n)
        for (int64_t f = 0; f < width; ++f) {
          double gate = gateUp.at(row, f);
          loss += dy.at(slot / slots.dims[1], n) * weights.values[slot] *
                  down.at(expert * dy.dims[1] + n, f) * gate * sigmoid(gate) *
                  gateUp.at(row, width + f);
        }
  });
  return loss;
}

TEST(GroupedGemmGatherReference, GradientsAgreeWithFiniteDifferences) {
  Calls calls(DType::F32, {4, 2, 5, 3, {2, 0, 5}}, 61);
  Call call = calls.dgradGated(DType::F32);
  std::vector<Array> &o = call.operands;
  Array weights(DType::F32, {4, 2}); // of slots
  for (int64_t slot = 0; slot < 8; ++slot)
    if (double row = calls.rowOfSlot().values[slot]; row >= 0)
      weights.values[slot] = o[2].values[static_cast<int64_t>(row)];
  std::vector<Array> backward = o;
  // Float64 all the way, but for what the reference rounds to float32.
  dgradGatedGather(backward);
  std::vector<Array> byWeight = {o[0], o[1], backward[8], o[5], Array(DType::F32, {3, 3, 5})};
  wgradGatherDy(byWeight);
  Random random(67);
  auto loss = [&] { return lossOf(calls, o[6], o[4], weights, o[5], o[0]); };
  expectGradient(random, loss, o[6], backward[7]);
  expectGradient(random, loss, weights, backward[9]);
  expectGradient(random, loss, o[4], byWeight[4]);
}

} // namespace
} // namespace switchyard::kernels::conformance
