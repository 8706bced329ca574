// linear, linear_dgrad, linear_wgrad against float64.
#include "test/kernels/conformance/Conformance.h"

#include <gtest/gtest.h>

namespace switchyard::kernels::conformance {
namespace {

/// c[i, j] = sum_l a(i, l) * b(l, j).
template <typename A, typename B>
void product(Array &c, int64_t m, int64_t n, int64_t k, const A &a, const B &b) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t l = 0; l < k; ++l)
        sum += a(i, l) * b(l, j);
      c.values[i * n + j] = sum;
    }
}

void linear(std::vector<Array> &o) {
  const Array &x = o[0], &w = o[1];
  product(
      o[2], x.dims[0], w.dims[0], w.dims[1], [&](int64_t i, int64_t l) { return x.at(i, l); },
      [&](int64_t l, int64_t j) { return w.at(j, l); });
}

void linearDgrad(std::vector<Array> &o) {
  const Array &dy = o[0], &w = o[1];
  product(
      o[2], dy.dims[0], w.dims[1], w.dims[0], [&](int64_t i, int64_t l) { return dy.at(i, l); },
      [&](int64_t l, int64_t j) { return w.at(l, j); });
}

void linearWgrad(std::vector<Array> &o) {
  const Array &dy = o[0], &x = o[1];
  product(
      o[2], dy.dims[1], x.dims[1], x.dims[0], [&](int64_t i, int64_t l) { return dy.at(l, i); },
      [&](int64_t l, int64_t j) { return x.at(l, j); });
}

struct Size {
  int64_t t, k, n;
};

class LinearTest : public testing::TestWithParam<std::tuple<DType, Size>> {
protected:
  DType dtype() const { return std::get<0>(GetParam()); }
  Size size() const { return std::get<1>(GetParam()); }
  Array random(int64_t rows, int64_t columns) { return uniform(random_, dtype(), {rows, columns}); }

  Random random_{7};
};

TEST_P(LinearTest, Forward) {
  auto [t, k, n] = size();
  expectConforms({"linear", {random(t, k), random(n, k), Array(dtype(), {t, n})}}, linear);
}

TEST_P(LinearTest, ByData) {
  auto [t, k, n] = size();
  expectConforms({"linear_dgrad", {random(t, n), random(n, k), Array(dtype(), {t, k})}},
                 linearDgrad);
}

TEST_P(LinearTest, ByWeight) {
  auto [t, k, n] = size();
  for (DType result : {DType::F32, dtype()})
    expectConforms({"linear_wgrad", {random(t, n), random(t, k), Array(result, {n, k})}},
                   linearWgrad);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, LinearTest,
    testing::Combine(testing::Values(DType::F32, DType::BF16),
                     testing::Values(Size{0, 8, 8}, Size{1, 1, 1}, Size{1, 64, 8}, Size{3, 5, 7},
                                     Size{31, 16, 33}, Size{32, 17, 64}, Size{65, 64, 300},
                                     Size{129, 40, 24}, Size{600, 33, 48}, Size{2100, 24, 17},
                                     Size{5, 0, 4}, Size{5, 4, 0}, Size{20, 700, 130})));

TEST(LinearReference, GradientsAgreeWithFiniteDifferences) {
  Random random(11);
  std::vector<Array> forward = {uniform(random, DType::F32, {5, 4}),
                                uniform(random, DType::F32, {3, 4}), Array(DType::F32, {5, 3})};
  Array dy = uniform(random, DType::F32, {5, 3});
  auto loss = [&] {
    linear(forward);
    return dot(forward[2], dy);
  };
  std::vector<Array> byData = {dy, forward[1], Array(DType::F32, {5, 4})};
  linearDgrad(byData);
  expectGradient(random, loss, forward[0], byData[2]);
  std::vector<Array> byWeight = {dy, forward[0], Array(DType::F32, {3, 4})};
  linearWgrad(byWeight);
  expectGradient(random, loss, forward[1], byWeight[2]);
}

} // namespace
} // namespace switchyard::kernels::conformance
