#include "test/kernels/conformance/Conformance.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>

namespace switchyard::kernels::conformance {
namespace {

struct Case {
  DType dtype;
  int64_t tokens, heads, kvHeads, headDim, window;
  std::vector<double> boundaries; // cu_seqlens

  int64_t width() const { return (heads + 2 * kvHeads) * headDim; }
  double scale() const { return 1 / std::sqrt(static_cast<double>(headDim)); }
  std::vector<AttributeValue> attributes() const {
    return {{.integer = heads},
            {.integer = kvHeads},
            {.integer = headDim},
            {.real = scale()},
            {.integer = window}};
  }
  Array cuSeqlens() const {
    return arrayOf(DType::I32, {static_cast<int64_t>(boundaries.size())}, boundaries);
  }
};

/// One query row of one head: which keys it sees and where its parts of qkv stand.
struct Query {
  int64_t row, head, first; // keys [first, row]
  int64_t queryColumn, keyColumn, valueColumn;
};

template <typename Body>
void forQueries(const Case &shape, const Body &body) {
  for (size_t s = 0; s + 1 < shape.boundaries.size(); ++s)
    for (auto row = static_cast<int64_t>(shape.boundaries[s]);
         row < static_cast<int64_t>(shape.boundaries[s + 1]); ++row)
      for (int64_t head = 0; head < shape.heads; ++head) {
        auto first = static_cast<int64_t>(shape.boundaries[s]);
        if (shape.window > 0)
          first = std::max(first, row - shape.window + 1);
        int64_t kvHead = head / (shape.heads / shape.kvHeads);
        body(Query{row, head, first, head * shape.headDim, (shape.heads + kvHead) * shape.headDim,
                   (shape.heads + shape.kvHeads + kvHead) * shape.headDim});
      }
}

double score(const Case &shape, const Array &qkv, const Query &query, int64_t key) {
  double sum = 0;
  for (int64_t c = 0; c < shape.headDim; ++c)
    sum += qkv.at(query.row, query.queryColumn + c) * qkv.at(key, query.keyColumn + c);
  return sum * shape.scale();
}

/// Operands qkv, cu_seqlens, y, lse.
void forward(std::vector<Array> &operands, const Case &shape) {
  const Array &qkv = operands[0];
  forQueries(shape, [&](const Query &query) {
    std::vector<double> scores;
    for (int64_t key = query.first; key <= query.row; ++key)
      scores.push_back(score(shape, qkv, query, key));
    double largest = *std::max_element(scores.begin(), scores.end()), sum = 0;
    for (double &value : scores)
      sum += value = std::exp(value - largest);
    operands[3].at(query.row, query.head) = largest + std::log(sum);
    for (int64_t key = query.first; key <= query.row; ++key)
      for (int64_t c = 0; c < shape.headDim; ++c)
        operands[2].at(query.row, query.queryColumn + c) +=
            scores[key - query.first] / sum * qkv.at(key, query.valueColumn + c);
  });
}

/// Operands dy, qkv, y, lse, cu_seqlens, dqkv.
void backward(std::vector<Array> &operands, const Case &shape) {
  const Array &dy = operands[0], &qkv = operands[1], &y = operands[2];
  Array &dqkv = operands[5];
  forQueries(shape, [&](const Query &query) {
    double delta = 0;
    for (int64_t c = 0; c < shape.headDim; ++c)
      delta += dy.at(query.row, query.queryColumn + c) * y.at(query.row, query.queryColumn + c);
    for (int64_t key = query.first; key <= query.row; ++key) {
      double p = std::exp(score(shape, qkv, query, key) - operands[3].at(query.row, query.head));
      double dp = 0;
      for (int64_t c = 0; c < shape.headDim; ++c) {
        double gradient = dy.at(query.row, query.queryColumn + c);
        dp += gradient * qkv.at(key, query.valueColumn + c);
        dqkv.at(key, query.valueColumn + c) += p * gradient;
      }
      double ds = p * (dp - delta) * shape.scale();
      for (int64_t c = 0; c < shape.headDim; ++c) {
        dqkv.at(query.row, query.queryColumn + c) += ds * qkv.at(key, query.keyColumn + c);
        dqkv.at(key, query.keyColumn + c) += ds * qkv.at(query.row, query.queryColumn + c);
      }
    }
  });
}

Array outputOf(const Case &shape, DType dtype) {
  return Array(dtype, {shape.tokens, shape.heads * shape.headDim});
}

Call forwardCall(const Case &shape, Array qkv) {
  return {"attention",
          {std::move(qkv), shape.cuSeqlens(), outputOf(shape, shape.dtype),
           Array(DType::F32, {shape.tokens, shape.heads})},
          shape.attributes()};
}

/// The gradient's call; y and lse are the reference's, rounded to their dtypes if `rounds`.
Call backwardCall(const Case &shape, Random &random, bool rounds) {
  Array qkv = uniform(random, shape.dtype, {shape.tokens, shape.width()}, -2, 2);
  Call call = forwardCall(shape, qkv);
  forward(call.operands, shape);
  Array y = call.operands[2], lse = call.operands[3];
  if (rounds) {
    y = arrayOf(y.dtype, y.dims, y.values);
    lse = arrayOf(lse.dtype, lse.dims, lse.values);
  }
  Array dqkv(shape.dtype, qkv.dims);
  return {"attention_grad",
          {uniform(random, shape.dtype, y.dims), std::move(qkv), std::move(y), std::move(lse),
           shape.cuSeqlens(), std::move(dqkv)},
          shape.attributes()};
}

/// Whether the backend may take a case's products on tensor cores: their operands, weights and
/// gradients of scores among them, are rounded to bfloat16.
bool onTensorCores(const Case &shape) {
  return shape.dtype == DType::BF16 && shape.headDim % 8 == 0 &&
         makeBackend(1)->target().kind == Target::Kind::Cuda;
}

/// Scores are sums of up to 256 products, and their errors are exponents.
Options options(const Case &shape) {
  if (onTensorCores(shape))
    return {.tolerance = Tolerance{1.0 / 256, 1.0 / 256}};
  return {.tolerance =
              shape.dtype == DType::BF16 ? Tolerance{1.0 / 256, 2e-5} : Tolerance{5e-6, 5e-6}};
}

class Attention : public ::testing::TestWithParam<Case> {};

TEST_P(Attention, AgreesWithFloat64) {
  const Case &shape = GetParam();
  Random random(1);
  expectConforms(
      forwardCall(shape, uniform(random, shape.dtype, {shape.tokens, shape.width()}, -2, 2)),
      [&](std::vector<Array> &operands) { forward(operands, shape); }, options(shape));
}

// What the gradient's exponents are taken from is float32, whatever y is rounded to.
TEST_P(Attention, LogsumexpIsFloat32) {
  const Case &shape = GetParam();
  Random random(1);
  Call call =
      forwardCall(shape, uniform(random, shape.dtype, {shape.tokens, shape.width()}, -2, 2));
  std::vector<Array> want = call.operands;
  forward(want, shape);
  expectNear(runOnce(call)[3], want[3], Tolerance{5e-6, 5e-6}, "lse");
}

TEST_P(Attention, GradientAgreesWithFloat64) {
  const Case &shape = GetParam();
  Random random(2);
  expectConforms(
      backwardCall(shape, random, true),
      [&](std::vector<Array> &operands) { backward(operands, shape); }, options(shape));
}

std::vector<Case> shapes() {
  std::vector<Case> cases;
  for (DType dtype : {DType::F32, DType::BF16}) {
    cases.push_back({dtype, 0, 2, 1, 8, 0, {0, 0}});
    cases.push_back({dtype, 1, 1, 1, 1, 0, {0, 1}});
    cases.push_back({dtype, 5, 2, 2, 4, 0, {}});  // no boundary: all rows are past the last
    cases.push_back({dtype, 5, 2, 2, 4, 0, {0}}); // no segment
    cases.push_back({dtype, 300, 8, 4, 8, 0, {0, 17, 17, 17, 18, 150, 290}});
    cases.push_back({dtype, 200, 2, 1, 20, 0, {0, 200}});
    cases.push_back({dtype, 130, 4, 1, 64, 0, {0, 130}});
    cases.push_back({dtype, 1, 2, 1, 64, 0, {0, 1}});
    cases.push_back({dtype, 300, 4, 2, 64, 0, {0, 0, 17, 17, 150, 290, 290}});
    cases.push_back({dtype, 261, 2, 2, 64, 100, {0, 3, 259}});
    cases.push_back({dtype, 64, 2, 2, 128, 0, {0, 64}});
    cases.push_back({dtype, 400, 4, 1, 128, 0, {0, 129, 130, 385}});
    cases.push_back({dtype, 300, 2, 1, 128, 70, {0, 0, 0, 5, 270}});
    cases.push_back({dtype, 131, 2, 2, 128, 1, {0, 131}});
    cases.push_back({dtype, 300, 4, 2, 80, 0, {0, 0, 17, 17, 150, 290, 290}});
    cases.push_back({dtype, 261, 2, 2, 120, 100, {0, 3, 259}});
    cases.push_back({dtype, 333, 8, 2, 32, 0, {0, 40, 333}});
    cases.push_back({dtype, 5, 2, 2, 80, 0, {}});
    cases.push_back({dtype, 5, 2, 2, 128, 0, {}});
    cases.push_back({dtype, 70, 1, 1, 130, 0, {0, 33, 70}});
    cases.push_back({dtype, 40, 2, 2, 256, 0, {0, 40}});
    cases.push_back({dtype, 250, 4, 2, 9, 1, {0, 100, 250}});
    cases.push_back({dtype, 250, 4, 2, 9, 7, {0, 100, 250}});
    cases.push_back({dtype, 250, 2, 2, 16, 70, {0, 10, 240}});
    cases.push_back({dtype, 64, 2, 1, 16, 64, {0, 64}});
    cases.push_back({dtype, 100, 2, 1, 16, 1000000000000, {0, 99, 99, 100}});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Shapes, Attention, ::testing::ValuesIn(shapes()));

TEST(AttentionReference, GradientIsTheDerivative) {
  for (int64_t window : {0, 3}) {
    Case shape{DType::F32, 11, 4, 2, 3, window, {0, 4, 4, 10}};
    Random random(3);
    Call call = backwardCall(shape, random, false);
    backward(call.operands, shape);
    Array gradient = call.operands[5];
    Array &qkv = call.operands[1];
    auto loss = [&] {
      Call at = forwardCall(shape, qkv);
      forward(at.operands, shape);
      return dot(at.operands[2], call.operands[0]);
    };
    expectGradient(random, loss, qkv, gradient, 60);
  }
}

// Segments never see each other: the first one's rows stay the same bits whatever follows.
TEST(Attention, SegmentsDoNotSeeEachOther) {
  Case shape{DType::F32, 90, 2, 1, 8, 0, {0, 50, 90}};
  Random random(4);
  Array qkv = uniform(random, DType::F32, {90, shape.width()});
  Array other = qkv;
  for (int64_t i = 50 * shape.width(); i < other.count(); ++i)
    other.values[i] = 1000;
  Array a = runOnce(forwardCall(shape, qkv))[2], b = runOnce(forwardCall(shape, other))[2];
  EXPECT_TRUE(std::equal(a.values.begin(), a.values.begin() + 50 * 16, b.values.begin()));
}

// exp of such scores overflows unless the maximum is taken off first.
TEST(Attention, LargeScoresDoNotOverflow) {
  Case shape{DType::F32, 3, 1, 1, 1, 0, {0, 3}};
  Array qkv = arrayOf(DType::F32, {3, 3}, {1, 1000, 1, 1, 3000, 2, 1, 2000, 3});
  std::vector<Array> operands = runOnce(forwardCall(shape, qkv));
  EXPECT_EQ(operands[2].values, (std::vector<double>{1, 2, 2}));
  EXPECT_EQ(operands[3].values, (std::vector<double>{1000, 3000, 3000}));
}

// The loader refuses such boundaries; a kernel must still keep to its buffers.
TEST(Attention, BoundariesThatAreNoneStayInside) {
  for (const auto &boundaries : std::vector<std::vector<double>>{
           {-5, 100, 20}, {30, 10, 50, 2147483647}, {7, 3, -2147483648.0, 90}, {90, 100}}) {
    Case shape{DType::F32, 70, 2, 1, 8, 0, boundaries};
    Random random(5);
    runOnce(forwardCall(shape, uniform(random, DType::F32, {70, shape.width()})));
    Case valid = shape;
    valid.boundaries = {0, 70};
    Call call = backwardCall(valid, random, true);
    call.operands[4] = shape.cuSeqlens();
    runOnce(call);
  }
}

std::string refusal(std::string_view kernel, int64_t heads, int64_t kvHeads, int64_t headDim) {
  Case shape{DType::F32, 1, heads, kvHeads, headDim, 0, {0, 1}};
  auto tensor = [](DType dtype, std::vector<int64_t> dims) {
    Tensor made{nullptr, dtype, static_cast<int>(dims.size())};
    std::copy(dims.begin(), dims.end(), made.dims);
    return made;
  };
  Tensor packed = tensor(DType::F32, {1, shape.width()});
  Tensor y = tensor(DType::F32, {1, heads * headDim}), lse = tensor(DType::F32, {1, heads});
  Tensor boundaries = tensor(DType::I32, {2});
  std::vector<Tensor> operands = {packed, boundaries, y, lse};
  if (kernel == "attention_grad")
    operands = {y, packed, y, lse, boundaries, packed};
  std::vector<AttributeValue> attributes = shape.attributes();
  Launch launch;
  launch.operands = operands;
  launch.attributes = attributes;
  return makeBackend(1)->prepare(kernel, launch).value_or("");
}

TEST(Attention, RefusesWhatItCannotRun) {
  for (std::string_view kernel : {"attention", "attention_grad"}) {
    EXPECT_EQ(refusal(kernel, 3, 2, 8),
              "attention: num_heads 3 is not a multiple of num_kv_heads 2");
    EXPECT_EQ(refusal(kernel, 2, 2, 257),
              "attention: head_dim 257 is more than 256, the most that the " +
                  std::string(makeBackend(1)->name()) + " kernel handles");
    EXPECT_EQ(refusal(kernel, 2, 2, 256), "");
  }
}

} // namespace
} // namespace switchyard::kernels::conformance
