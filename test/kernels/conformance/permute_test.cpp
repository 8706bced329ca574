#include "test/kernels/conformance/Conformance.h"

#include <gtest/gtest.h>
#include <numeric>

namespace switchyard::kernels::conformance {
namespace {

/// Operands experts, group_sizes, row_of_slot.
void sortByExpert(std::vector<Array> &operands) {
  const Array &experts = operands[0];
  double row = 0;
  std::fill(operands[2].values.begin(), operands[2].values.end(), -1.0);
  for (int64_t e = 0; e < operands[1].count(); ++e)
    for (int64_t slot = 0; slot < experts.count(); ++slot)
      if (experts.values[slot] == static_cast<double>(e)) {
        operands[2].values[slot] = row++;
        operands[1].values[e] += 1;
      }
}

/// The row of a slot of [T, k], or -1.
int64_t rowOf(const Array &rowOfSlot, int64_t slot) {
  double row = rowOfSlot.values[slot];
  return row >= 0 && row < static_cast<double>(rowOfSlot.count()) ? static_cast<int64_t>(row) : -1;
}

/// body(token, slot, row) for every slot that has a row.
template <typename Body>
void forSlots(const Array &rowOfSlot, const Body &body) {
  for (int64_t slot = 0; slot < rowOfSlot.count(); ++slot)
    if (rowOf(rowOfSlot, slot) >= 0)
      body(slot / rowOfSlot.dims[1], slot, rowOf(rowOfSlot, slot));
}

void permute(std::vector<Array> &operands) {
  forSlots(operands[1], [&](int64_t t, int64_t, int64_t row) {
    for (int64_t i = 0; i < operands[0].dims[1]; ++i)
      operands[2].at(row, i) = operands[0].at(t, i);
  });
}

void permuteGrad(std::vector<Array> &operands) {
  forSlots(operands[1], [&](int64_t t, int64_t, int64_t row) {
    for (int64_t i = 0; i < operands[0].dims[1]; ++i)
      operands[2].at(t, i) += operands[0].at(row, i);
  });
}

void unpermute(std::vector<Array> &operands) {
  forSlots(operands[2], [&](int64_t t, int64_t slot, int64_t row) {
    for (int64_t i = 0; i < operands[0].dims[1]; ++i)
      operands[3].at(t, i) += operands[1].values[slot] * operands[0].at(row, i);
  });
}

/// y = x + `sum`, both [T, D].
void addTo(const Array &x, const Array &sum, Array &y) {
  for (int64_t i = 0; i < x.count(); ++i)
    y.values[i] = x.values[i] + sum.values[i];
}

/// Operands drows, row_of_slot, x, dx.
void permuteGradAdd(std::vector<Array> &operands) {
  std::vector<Array> o = {operands[0], operands[1], Array(DType::F32, operands[3].dims)};
  permuteGrad(o);
  addTo(operands[2], o[2], operands[3]);
}

/// Operands rows, weights, row_of_slot, x, y.
void unpermuteAdd(std::vector<Array> &operands) {
  std::vector<Array> o = {operands[0], operands[1], operands[2],
                          Array(DType::F32, operands[4].dims)};
  unpermute(o);
  addTo(operands[3], o[3], operands[4]);
}

void unpermuteGrad(std::vector<Array> &operands) {
  forSlots(operands[3], [&](int64_t t, int64_t slot, int64_t row) {
    for (int64_t i = 0; i < operands[0].dims[1]; ++i) {
      operands[4].at(row, i) = operands[2].values[slot] * operands[0].at(t, i);
      operands[5].values[slot] += operands[0].at(t, i) * operands[1].at(row, i);
    }
  });
}

/// Operands row_of_slot, weights, token_of_row, weight_of_row.
void rowsOfTokens(std::vector<Array> &operands) {
  std::fill(operands[2].values.begin(), operands[2].values.end(), -1.0);
  forSlots(operands[0], [&](int64_t t, int64_t slot, int64_t row) {
    operands[2].values[row] = static_cast<double>(t);
    operands[3].values[row] = operands[1].values[slot];
  });
}

enum class Load { Random, OneExpert, AllInert, SomeInert, Holes };

struct Case {
  int64_t tokens, topK, experts, width;
  Load load;
};

Array expertsOf(const Case &shape, Random &random) {
  auto count = static_cast<double>(shape.experts);
  switch (shape.load) {
  case Load::OneExpert:
    return uniform(random, DType::I32, {shape.tokens, shape.topK}, count - 1, count);
  case Load::AllInert:
    return uniform(random, DType::I32, {shape.tokens, shape.topK}, -1, 0);
  case Load::SomeInert:
    return uniform(random, DType::I32, {shape.tokens, shape.topK}, -1, count);
  case Load::Random:
  case Load::Holes:
    break;
  }
  return uniform(random, DType::I32, {shape.tokens, shape.topK}, 0, count);
}

/// What sort_by_expert gives; for Holes, some slots' rows are given up and the others left in
/// place.
Array rowsOf(const Case &shape, Random &random) {
  std::vector<Array> operands = {expertsOf(shape, random), Array(DType::I32, {shape.experts}),
                                 Array(DType::I32, {shape.tokens, shape.topK})};
  sortByExpert(operands);
  for (int64_t slot = 0; slot < operands[2].count() && shape.load == Load::Holes; slot += 3)
    operands[2].values[slot] = -1;
  return operands[2];
}

Call permuteGradAddCall(const Case &shape, DType dtype, Random &random) {
  return {"permute_grad_add",
          {uniform(random, dtype, {shape.tokens * shape.topK, shape.width}), rowsOf(shape, random),
           uniform(random, dtype, {shape.tokens, shape.width}),
           Array(dtype, {shape.tokens, shape.width})}};
}

Call unpermuteAddCall(const Case &shape, DType dtype, DType weights, Random &random) {
  return {"unpermute_add",
          {uniform(random, dtype, {shape.tokens * shape.topK, shape.width}),
           uniform(random, weights, {shape.tokens, shape.topK}), rowsOf(shape, random),
           uniform(random, dtype, {shape.tokens, shape.width}),
           Array(dtype, {shape.tokens, shape.width})}};
}

/// Two roundings: the result's, and before it the sum's, which may be larger than the result.
Options addOptions(DType dtype) {
  auto [relative, scaled] = defaultTolerance(dtype);
  return {.tolerance = Tolerance{relative, scaled + relative}};
}

class Permute : public ::testing::TestWithParam<Case> {};

constexpr DType kFloats[] = {DType::F32, DType::BF16};

TEST_P(Permute, SortsByExpert) {
  const Case &shape = GetParam();
  Random random(1);
  expectConforms({"sort_by_expert",
                  {expertsOf(shape, random), Array(DType::I32, {shape.experts}),
                   Array(DType::I32, {shape.tokens, shape.topK})},
                  {{.integer = shape.experts}}},
                 sortByExpert);
}

TEST_P(Permute, CopiesRows) {
  const Case &shape = GetParam();
  Random random(2);
  for (DType dtype : kFloats)
    expectConforms({"permute",
                    {uniform(random, dtype, {shape.tokens, shape.width}), rowsOf(shape, random),
                     Array(dtype, {shape.tokens * shape.topK, shape.width})}},
                   permute, {.tolerance = Tolerance{}});
}

TEST_P(Permute, GradientAgreesWithFloat64) {
  const Case &shape = GetParam();
  Random random(3);
  for (DType dtype : kFloats)
    expectConforms({"permute_grad",
                    {uniform(random, dtype, {shape.tokens * shape.topK, shape.width}),
                     rowsOf(shape, random), Array(dtype, {shape.tokens, shape.width})}},
                   permuteGrad);
}

TEST_P(Permute, UnpermuteAgreesWithFloat64) {
  const Case &shape = GetParam();
  Random random(4);
  for (DType dtype : kFloats)
    for (DType weights : kFloats)
      expectConforms({"unpermute",
                      {uniform(random, dtype, {shape.tokens * shape.topK, shape.width}),
                       uniform(random, weights, {shape.tokens, shape.topK}), rowsOf(shape, random),
                       Array(dtype, {shape.tokens, shape.width})}},
                     unpermute);
}

TEST_P(Permute, GradientWithAddendAgreesWithFloat64) {
  Random random(9);
  for (DType dtype : kFloats)
    expectConforms(permuteGradAddCall(GetParam(), dtype, random), permuteGradAdd,
                   addOptions(dtype));
}

TEST_P(Permute, GradientWithAddendIsTheBitsOfTwoKernels) {
  Random random(10);
  for (DType dtype : kFloats) {
    Call call = permuteGradAddCall(GetParam(), dtype, random);
    const std::vector<Array> &o = call.operands;
    Array sum = runOnce({"permute_grad", {o[0], o[1], o[3]}})[2];
    EXPECT_EQ(runOnce(call)[3].values, runOnce({"add", {o[2], sum, o[3]}})[2].values);
  }
}

TEST_P(Permute, UnpermuteWithAddendAgreesWithFloat64) {
  Random random(11);
  for (DType dtype : kFloats)
    for (DType weights : kFloats)
      expectConforms(unpermuteAddCall(GetParam(), dtype, weights, random), unpermuteAdd,
                     addOptions(dtype));
}

TEST_P(Permute, UnpermuteWithAddendIsTheBitsOfTwoKernels) {
  Random random(12);
  for (DType dtype : kFloats)
    for (DType weights : kFloats) {
      Call call = unpermuteAddCall(GetParam(), dtype, weights, random);
      const std::vector<Array> &o = call.operands;
      Array sum = runOnce({"unpermute", {o[0], o[1], o[2], o[4]}})[3];
      EXPECT_EQ(runOnce(call)[4].values, runOnce({"add", {o[3], sum, o[4]}})[2].values);
    }
}

TEST_P(Permute, UnpermuteGradientAgreesWithFloat64) {
  const Case &shape = GetParam();
  Random random(5);
  for (DType dtype : kFloats)
    for (DType weights : kFloats)
      expectConforms({"unpermute_grad",
                      {uniform(random, dtype, {shape.tokens, shape.width}),
                       uniform(random, dtype, {shape.tokens * shape.topK, shape.width}),
                       uniform(random, weights, {shape.tokens, shape.topK}), rowsOf(shape, random),
                       Array(dtype, {shape.tokens * shape.topK, shape.width}),
                       Array(weights, {shape.tokens, shape.topK})}},
                     unpermuteGrad);
}

TEST_P(Permute, TurnsSlotsIntoRows) {
  const Case &shape = GetParam();
  Random random(8);
  int64_t rows = shape.tokens * shape.topK;
  for (DType weights : kFloats)
    expectConforms({"rows_of_tokens",
                    {rowsOf(shape, random), uniform(random, weights, {shape.tokens, shape.topK}),
                     Array(DType::I32, {rows}), Array(weights, {rows})}},
                   rowsOfTokens, {.tolerance = Tolerance{}});
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Permute,
    ::testing::Values(Case{0, 2, 4, 8, Load::Random}, Case{1, 1, 1, 1, Load::Random},
                      Case{77, 2, 8, 33, Load::Random}, Case{100, 3, 64, 600, Load::SomeInert},
                      Case{40, 2, 8, 16, Load::OneExpert}, Case{40, 2, 8, 16, Load::AllInert},
                      Case{40, 2, 8, 16, Load::Holes},
                      // More rows of a token than a thread of a GPU asks for at once, and more
                      // columns than the threads of a block have packs.
                      Case{50, 8, 16, 24, Load::Random}, Case{33, 5, 8, 40, Load::Holes},
                      Case{5, 6, 4, 4104, Load::SomeInert}));

TEST(SortByExpert, ExpertsThatDoNotExistAreInert) {
  expectConforms({"sort_by_expert",
                  {arrayOf(DType::I32, {3, 2}, {0, 4, 3, 2147483647, -2147483648.0, 0}),
                   Array(DType::I32, {4}), Array(DType::I32, {3, 2})},
                  {{.integer = 4}}},
                 sortByExpert);
}

TEST(Permute, RowsThatDoNotExistAreInert) {
  Random random(6);
  Array rows = arrayOf(DType::I32, {3, 2}, {0, 6, 2147483647, 1, -2147483648.0, -2});
  expectConforms(
      {"permute", {uniform(random, DType::F32, {3, 4}), rows, Array(DType::F32, {6, 4})}}, permute,
      {.tolerance = Tolerance{}});
  expectConforms({"unpermute_grad",
                  {uniform(random, DType::F32, {3, 4}), uniform(random, DType::F32, {6, 4}),
                   uniform(random, DType::F32, {3, 2}), rows, Array(DType::F32, {6, 4}),
                   Array(DType::F32, {3, 2})}},
                 unpermuteGrad);
  expectConforms(
      {"rows_of_tokens",
       {rows, uniform(random, DType::F32, {3, 2}), Array(DType::I32, {6}), Array(DType::F32, {6})}},
      rowsOfTokens, {.tolerance = Tolerance{}});
}

TEST(PermuteReference, GradientsAreDerivatives) {
  Case shape{5, 2, 3, 4, Load::SomeInert};
  Random random(7);
  Array slots = rowsOf(shape, random);
  Array x = uniform(random, DType::F32, {5, 4});
  Array rows = uniform(random, DType::F32, {10, 4});
  Array weights = uniform(random, DType::F32, {5, 2});
  Array drows = uniform(random, DType::F32, {10, 4});
  Array dy = uniform(random, DType::F32, {5, 4});

  std::vector<Array> gradient = {drows, slots, Array(DType::F32, {5, 4})};
  permuteGrad(gradient);
  auto permuted = [&] {
    std::vector<Array> operands = {x, slots, Array(DType::F32, {10, 4})};
    permute(operands);
    return dot(operands[2], drows);
  };
  expectGradient(random, permuted, x, gradient[2]);

  gradient = {dy, rows, weights, slots, Array(DType::F32, {10, 4}), Array(DType::F32, {5, 2})};
  unpermuteGrad(gradient);
  auto combined = [&] {
    std::vector<Array> operands = {rows, weights, slots, Array(DType::F32, {5, 4})};
    unpermute(operands);
    return dot(operands[3], dy);
  };
  expectGradient(random, combined, rows, gradient[4]);
  expectGradient(random, combined, weights, gradient[5]);
}

} // namespace
} // namespace switchyard::kernels::conformance
