#include "test/kernels/conformance/Conformance.h"

#include <gtest/gtest.h>

namespace switchyard::kernels::conformance {
namespace {

constexpr DType kFloats[] = {DType::F32, DType::BF16};

std::vector<std::vector<int64_t>> shapes() {
  return {{}, {0}, {1}, {37}, {3, 5, 7}, {40000}};
}

TEST(Elementwise, AddAgreesWithFloat64) {
  Random random(1);
  for (DType dtype : kFloats)
    for (const auto &dims : shapes())
      expectConforms(
          {"add", {uniform(random, dtype, dims), uniform(random, dtype, dims), Array(dtype, dims)}},
          [](std::vector<Array> &operands) {
            for (int64_t i = 0; i < operands[2].count(); ++i)
              operands[2].values[i] = operands[0].values[i] + operands[1].values[i];
          });
}

TEST(Elementwise, ScaleAgreesWithFloat64) {
  Random random(2);
  for (DType dtype : kFloats)
    for (const auto &dims : shapes())
      expectConforms(
          {"scale", {uniform(random, dtype, dims), Array(dtype, dims)}, {{.real = -0.3}}},
          [](std::vector<Array> &operands) {
            for (int64_t i = 0; i < operands[1].count(); ++i)
              operands[1].values[i] = -0.3 * operands[0].values[i];
          });
}

TEST(Elementwise, ConstantFills) {
  for (DType dtype : kFloats)
    for (const auto &dims : shapes())
      expectConforms({"constant", {Array(dtype, dims)}, {{.real = 1.1}}},
                     [](std::vector<Array> &operands) {
                       for (double &value : operands[0].values)
                         value = 1.1;
                     });
}

TEST(Elementwise, AccumulateAgreesWithFloat64) {
  Random random(3);
  for (DType accumulator : kFloats)
    for (DType value : kFloats)
      for (const auto &dims : shapes())
        expectConforms(
            {"accumulate", {uniform(random, accumulator, dims), uniform(random, value, dims)}},
            [](std::vector<Array> &operands) {
              for (int64_t i = 0; i < operands[0].count(); ++i)
                operands[0].values[i] += operands[1].values[i];
            });
}

// 1 + 2^-8 lies halfway between two bfloat16 values: the even one is 1, and 1 + 3 * 2^-8 goes up.
TEST(Elementwise, AccumulateRoundsOnceToNearestEven) {
  std::vector<Array> operands =
      runOnce({"accumulate",
               {arrayOf(DType::BF16, {3}, {1, 1, 1}),
                arrayOf(DType::F32, {3}, {0.00390625, 0.01171875, 0.004})}});
  EXPECT_EQ(operands[0].values, (std::vector<double>{1, 1.015625, 1.0078125}));
}

TEST(Elementwise, CastAgreesWithFloat64) {
  Random random(5);
  for (DType from : kFloats)
    for (DType to : kFloats)
      for (const auto &dims : shapes())
        expectConforms(
            {"cast", {uniform(random, from, dims), Array(to, dims)}},
            [](std::vector<Array> &operands) { operands[1].values = operands[0].values; });
}

TEST(Elementwise, CastRoundsToNearestEven) {
  std::vector<Array> operands = runOnce(
      {"cast",
       {arrayOf(DType::F32, {3}, {1.00390625, 1.01171875, -1.004}), Array(DType::BF16, {3})}});
  EXPECT_EQ(operands[1].values, (std::vector<double>{1, 1.015625, -1.0078125}));
}

TEST(Elementwise, GatherRowsCopiesThem) {
  Random random(4);
  for (DType dtype : kFloats)
    for (int64_t rows : {0, 1, 50})
      for (int64_t width : {1, 33}) {
        Array selected = uniform(random, DType::I32, {rows}, -1, 8); // 7 rows: some do not exist
        expectConforms(
            {"gather_rows",
             {uniform(random, dtype, {7, width}), selected, Array(dtype, {rows, width})}},
            [](std::vector<Array> &operands) {
              for (int64_t row = 0; row < operands[1].count(); ++row)
                for (int64_t i = 0; i < operands[0].dims[1]; ++i) {
                  auto from = static_cast<int64_t>(operands[1].values[row]);
                  if (from >= 0 && from < 7)
                    operands[2].at(row, i) = operands[0].at(from, i);
                }
            },
            {.tolerance = Tolerance{}});
      }
}

TEST(Elementwise, SumAddsInOrder) {
  for (int terms : {1, 2, 5}) {
    Call call{"sum", {}};
    for (int i = 0; i < terms; ++i)
      call.operands.push_back(scalar(DType::F32, i == 0 ? 1e8 : i == 1 ? -1e8 : 0.1 * i));
    call.operands.push_back(Array(DType::F32, {}));
    expectConforms(call, [terms](std::vector<Array> &operands) {
      for (int i = 0; i < terms; ++i)
        operands[terms].values[0] += operands[i].values[0];
    });
  }
}

} // namespace
} // namespace switchyard::kernels::conformance
