#include "test/kernels/conformance/Conformance.h"

#include <gtest/gtest.h>

namespace switchyard::kernels::conformance {
namespace {

/// Operands table, ids, y. Ids outside the table give zeros.
void forward(std::vector<Array> &operands) {
  const Array &table = operands[0], &ids = operands[1];
  for (int64_t t = 0; t < ids.count(); ++t)
    for (int64_t i = 0; i < table.dims[1]; ++i)
      if (ids.values[t] >= 0 && ids.values[t] < static_cast<double>(table.dims[0]))
        operands[2].at(t, i) = table.at(static_cast<int64_t>(ids.values[t]), i);
}

/// Operands dy, ids, dtable.
void backward(std::vector<Array> &operands) {
  const Array &dy = operands[0], &ids = operands[1];
  Array &dtable = operands[2];
  for (int64_t t = 0; t < ids.count(); ++t)
    for (int64_t i = 0; i < dy.dims[1]; ++i)
      if (ids.values[t] >= 0 && ids.values[t] < static_cast<double>(dtable.dims[0]))
        dtable.at(static_cast<int64_t>(ids.values[t]), i) += dy.at(t, i);
}

struct Case {
  DType dtype;
  int64_t tokens, vocabulary, width;
};

class Embedding : public ::testing::TestWithParam<Case> {};

TEST_P(Embedding, AgreesWithFloat64) {
  auto [dtype, tokens, vocabulary, width] = GetParam();
  Random random(1);
  expectConforms({"embedding",
                  {uniform(random, dtype, {vocabulary, width}),
                   uniform(random, DType::I32, {tokens}, 0, static_cast<double>(vocabulary)),
                   Array(dtype, {tokens, width})}},
                 forward, {.tolerance = Tolerance{}});
}

TEST_P(Embedding, GradientAgreesWithFloat64) {
  auto [dtype, tokens, vocabulary, width] = GetParam();
  Random random(2);
  expectConforms({"embedding_grad",
                  {uniform(random, dtype, {tokens, width}),
                   uniform(random, DType::I32, {tokens}, 0, static_cast<double>(vocabulary)),
                   Array(DType::F32, {vocabulary, width})},
                  {{.integer = vocabulary}}},
                 backward);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Embedding,
                         ::testing::Values(Case{DType::F32, 0, 5, 8}, Case{DType::F32, 1, 1, 1},
                                           Case{DType::F32, 300, 7, 33},
                                           Case{DType::F32, 50, 1000, 64},
                                           Case{DType::BF16, 0, 5, 8},
                                           Case{DType::BF16, 300, 7, 33},
                                           Case{DType::BF16, 50, 1000, 64}));

// The loader refuses such ids; a kernel must still keep to its buffers.
TEST(Embedding, IdsOutsideTheTableTouchNothing) {
  Random random(3);
  Array ids = arrayOf(DType::I32, {5}, {-1, 3, 2147483647, 1, -2147483648.0});
  expectConforms(
      {"embedding", {uniform(random, DType::F32, {3, 4}), ids, Array(DType::F32, {5, 4})}}, forward,
      {.tolerance = Tolerance{}});
  expectConforms({"embedding_grad",
                  {uniform(random, DType::F32, {5, 4}), ids, Array(DType::F32, {3, 4})},
                  {{.integer = 3}}},
                 backward);
}

TEST(EmbeddingReference, GradientIsTheDerivative) {
  Random random(4);
  Array table = uniform(random, DType::F32, {5, 3});
  Array ids = arrayOf(DType::I32, {4}, {2, 0, 2, 4});
  Array dy = uniform(random, DType::F32, {4, 3});
  std::vector<Array> gradient = {dy, ids, Array(DType::F32, {5, 3})};
  backward(gradient);
  auto loss = [&] {
    std::vector<Array> operands = {table, ids, Array(DType::F32, {4, 3})};
    forward(operands);
    return dot(operands[2], dy);
  };
  expectGradient(random, loss, table, gradient[2]);
}

} // namespace
} // namespace switchyard::kernels::conformance
