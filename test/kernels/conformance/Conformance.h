// The conformance suite's tools: arrays of float64 that hold values of a dtype exactly, launches of
// a kernel on a backend, comparison with a float64 reference, gradients against finite differences.
//
// A test makes a Call with random operands and a Reference, and hands both to expectConforms.
#pragma once

#include "test/kernels/conformance/Backend.h"

#include <functional>
#include <random>
#include <vector>

namespace switchyard::kernels::conformance {

/// A tensor on the host. Each value is exactly representable in the dtype.
struct Array {
  DType dtype = DType::F32;
  std::vector<int64_t> dims;
  std::vector<double> values;

  /// All zeros.
  Array() = default;
  Array(DType dtype, std::vector<int64_t> dims);
  int64_t count() const { return static_cast<int64_t>(values.size()); }
  /// The element at the index of the first dimensions' product and the last dimension.
  double &at(int64_t row, int64_t column) { return values[row * dims.back() + column]; }
  double at(int64_t row, int64_t column) const { return values[row * dims.back() + column]; }
};

/// The value that `dtype` stores for `value`.
double roundTo(DType dtype, double value);

using Random = std::mt19937;

/// Uniform values in [low, high), rounded to `dtype` (integers: low to high - 1).
Array uniform(Random &random, DType dtype, std::vector<int64_t> dims, double low = -1,
              double high = 1);
/// An array of these values, rounded to `dtype`.
Array arrayOf(DType dtype, std::vector<int64_t> dims, std::vector<double> values);
/// A scalar.
Array scalar(DType dtype, double value);

/// One launch: the operands in the signature's order. Values of Out operands are ignored, their
/// dtype and dims are not.
struct Call {
  std::string_view kernel;
  std::vector<Array> operands;
  std::vector<AttributeValue> attributes = {};
};

/// Computes the Update and Out operands of a call from its In and Update operands, in float64.
/// It need not round: expectConforms compares with a tolerance.
using Reference = std::function<void(std::vector<Array> &operands)>;

/// |got - want| <= relative * |want| + scaled * max |want| over the array.
struct Tolerance {
  double relative = 0;
  double scaled = 0;
};

/// One rounding to the dtype and float32 arithmetic inside.
Tolerance defaultTolerance(DType dtype);

struct Options {
  /// Instead of defaultTolerance of each operand's dtype.
  std::optional<Tolerance> tolerance = std::nullopt;
  /// Worker threads to try; the results must be the same bits for all.
  std::vector<int> threads = {1, 2, 3};
};

/// Expects of a call, for each number of threads, twice: it matches its signature; it prepares with
/// null pointers; outputs agree with the reference; nothing else is written (inputs, and guard
/// bytes around every tensor and the workspace of exactly the signature's bound); garbage in
/// outputs and workspace does not matter; outputs that may overlay an input do; no heap allocation;
/// the same bits each time.
void expectConforms(const Call &call, const Reference &reference, const Options &options = {});

/// The operands after one run with `threads` threads.
std::vector<Array> runOnce(const Call &call, int threads = 1);

/// Expects `got` within `tolerance` of `want`, naming the worst element in the failure.
void expectNear(const Array &got, const Array &want, Tolerance tolerance, const std::string &what);

/// Expects `gradient` to be the derivative of `loss` by `variable`, by central differences at up to
/// `samples` random elements. `loss` reads `variable` and computes in float64.
void expectGradient(Random &random, const std::function<double()> &loss, Array &variable,
                    const Array &gradient, int samples = 24);

/// sum_i a[i] * b[i]: turns outputs and random cotangents into a loss.
double dot(const Array &a, const Array &b);

} // namespace switchyard::kernels::conformance
