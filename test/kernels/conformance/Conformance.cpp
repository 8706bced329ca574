#include "test/kernels/conformance/Conformance.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>

namespace switchyard::kernels::conformance {
namespace {

/// Guard bytes before and after every tensor.
constexpr int64_t kGuard = 256;

uint16_t bfloat16Bits(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  if (std::isnan(value))
    return 0x7fc0;
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float fromBFloat16Bits(uint16_t half) {
  uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

std::vector<std::byte> encode(const Array &array) {
  std::vector<std::byte> bytes(array.values.size() * byteSize(array.dtype));
  for (size_t i = 0; i < array.values.size(); ++i) {
    if (array.dtype == DType::F32) {
      auto value = static_cast<float>(array.values[i]);
      std::memcpy(bytes.data() + 4 * i, &value, 4);
    } else if (array.dtype == DType::I32) {
      auto value = static_cast<int32_t>(array.values[i]);
      std::memcpy(bytes.data() + 4 * i, &value, 4);
    } else {
      uint16_t value = bfloat16Bits(static_cast<float>(array.values[i]));
      std::memcpy(bytes.data() + 2 * i, &value, 2);
    }
  }
  return bytes;
}

void decode(const std::vector<std::byte> &bytes, Array &array) {
  for (size_t i = 0; i < array.values.size(); ++i) {
    if (array.dtype == DType::F32) {
      float value = 0;
      std::memcpy(&value, bytes.data() + 4 * i, 4);
      array.values[i] = value;
    } else if (array.dtype == DType::I32) {
      int32_t value = 0;
      std::memcpy(&value, bytes.data() + 4 * i, 4);
      array.values[i] = value;
    } else {
      uint16_t value = 0;
      std::memcpy(&value, bytes.data() + 2 * i, 2);
      array.values[i] = fromBFloat16Bits(value);
    }
  }
}

/// Device memory with guard bytes around it, filled with `filler`: NaNs and large integers, or
/// zeros' opposite, so that what is read uninitialized shows.
class Buffer {
public:
  Buffer(Backend &backend, int64_t bytes, uint8_t filler) : backend_(backend), bytes_(bytes) {
    memory_ = static_cast<std::byte *>(backend.allocate(bytes + 2 * kGuard));
    std::vector<std::byte> fill(bytes + 2 * kGuard, std::byte{filler});
    std::fill_n(fill.begin(), kGuard, std::byte{0xa5});
    std::fill_n(fill.end() - kGuard, kGuard, std::byte{0xa5});
    backend.upload(memory_, fill.data(), bytes + 2 * kGuard);
  }
  ~Buffer() { backend_.release(memory_); }
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;

  std::byte *data() const { return memory_ + kGuard; }
  int64_t bytes() const { return bytes_; }
  void upload(const std::vector<std::byte> &bytes) {
    backend_.upload(data(), bytes.data(), static_cast<int64_t>(bytes.size()));
  }
  std::vector<std::byte> download() const {
    std::vector<std::byte> bytes(bytes_);
    backend_.download(bytes.data(), data(), bytes_);
    return bytes;
  }
  bool guardsHold() const {
    std::vector<std::byte> guard(kGuard);
    for (std::byte *at : {memory_, memory_ + kGuard + bytes_}) {
      backend_.download(guard.data(), at, kGuard);
      if (std::any_of(guard.begin(), guard.end(), [](std::byte b) { return b != std::byte{0xa5}; }))
        return false;
    }
    return true;
  }

private:
  Backend &backend_;
  int64_t bytes_;
  std::byte *memory_;
};

/// One run of a call: its buffers, and its results' bytes.
class Execution {
public:
  Execution(Backend &backend, const Call &call)
      : backend_(backend), call_(call), signature_(*findSignature(call.kernel)),
        count_(static_cast<int>(call.operands.size())) {}

  const OperandSpec &spec(int index) const {
    return signature_.operands[specOfOperand(signature_, index, count_)];
  }

  /// Runs, with Out operands on top of the inputs they may overlay if `overlay`. Returns the bytes
  /// of every operand afterwards; checks everything that needs no reference.
  std::vector<std::vector<std::byte>> run(uint8_t filler, bool overlay);

private:
  std::vector<Tensor> tensorsWithoutData() const;
  int64_t workspaceBytesOfCall() const;

  Backend &backend_;
  const Call &call_;
  const Signature &signature_;
  int count_;
};

std::vector<Tensor> Execution::tensorsWithoutData() const {
  std::vector<Tensor> tensors;
  for (const Array &array : call_.operands) {
    Tensor &tensor = tensors.emplace_back();
    tensor.dtype = array.dtype;
    tensor.rank = static_cast<int>(array.dims.size());
    std::copy(array.dims.begin(), array.dims.end(), tensor.dims);
  }
  return tensors;
}

int64_t Execution::workspaceBytesOfCall() const {
  std::vector<OperandType> types;
  for (const Array &array : call_.operands) {
    OperandType &type = types.emplace_back();
    type.dtype = array.dtype;
    for (int64_t dim : array.dims)
      type.shape.push_back({0, -1, dim});
  }
  EXPECT_EQ(matchLaunch(signature_, types, call_.attributes), std::nullopt);
  return workspaceBytes(signature_, types, call_.attributes, {}, backend_.target());
}

std::vector<std::vector<std::byte>> Execution::run(uint8_t filler, bool overlay) {
  Buffer workspace(backend_, workspaceBytesOfCall(), filler);
  Launch launch;
  std::vector<Tensor> tensors = tensorsWithoutData();
  launch.operands = tensors;
  launch.attributes = call_.attributes;
  launch.workspace = {static_cast<std::byte *>(nullptr), static_cast<size_t>(workspace.bytes())};
  EXPECT_EQ(backend_.prepare(call_.kernel, launch), std::nullopt);

  std::vector<std::unique_ptr<Buffer>> buffers(count_);
  std::vector<bool> overwritten(count_, false);
  for (int i = 0; i < count_; ++i) {
    int under = spec(i).role == Role::Out && overlay ? spec(i).overlay : -1;
    if (under >= 0) { // no signature repeats an operand before one that overlays
      tensors[i].data = tensors[under].data;
      overwritten[under] = true;
      continue;
    }
    std::vector<std::byte> bytes = encode(call_.operands[i]);
    buffers[i] = std::make_unique<Buffer>(backend_, bytes.size(), filler);
    if (spec(i).role != Role::Out)
      buffers[i]->upload(bytes);
    tensors[i].data = buffers[i]->data();
  }
  launch.workspace = {workspace.data(), static_cast<size_t>(workspace.bytes())};
  backend_.run(call_.kernel, launch);

  EXPECT_EQ(backend_.allocationsOfLastRun(), 0) << "heap allocations while the kernel ran";
  EXPECT_TRUE(workspace.guardsHold()) << "wrote outside the workspace";
  std::vector<std::vector<std::byte>> results(count_);
  for (int i = 0; i < count_; ++i) {
    int holder = buffers[i] ? i : spec(i).overlay;
    results[i] = buffers[holder]->download();
    std::string name = operandName(signature_, i, count_);
    EXPECT_TRUE(buffers[holder]->guardsHold()) << "wrote outside operand " << name;
    if (spec(i).role == Role::In && !overwritten[i]) {
      EXPECT_TRUE(results[i] == encode(call_.operands[i])) << "wrote to input " << name;
    }
  }
  return results;
}

bool hasOverlay(const Signature &signature) {
  return std::any_of(signature.operands.begin(), signature.operands.end(),
                     [](const OperandSpec &spec) { return spec.overlay >= 0; });
}

} // namespace

Array::Array(DType dtype, std::vector<int64_t> dims) : dtype(dtype), dims(std::move(dims)) {
  int64_t count = 1;
  for (int64_t dim : this->dims)
    count *= dim;
  values.resize(count);
}

double roundTo(DType dtype, double value) {
  auto narrow = static_cast<float>(value);
  if (dtype == DType::BF16)
    return fromBFloat16Bits(bfloat16Bits(narrow));
  return dtype == DType::F32 ? narrow : std::trunc(value);
}

Array uniform(Random &random, DType dtype, std::vector<int64_t> dims, double low, double high) {
  Array array(dtype, std::move(dims));
  std::uniform_real_distribution<double> distribution(low, high);
  for (double &value : array.values)
    value = dtype == DType::I32 ? std::floor(distribution(random))
                                : roundTo(dtype, distribution(random));
  return array;
}

Array arrayOf(DType dtype, std::vector<int64_t> dims, std::vector<double> values) {
  Array array(dtype, std::move(dims));
  EXPECT_EQ(array.values.size(), values.size());
  for (size_t i = 0; i < array.values.size() && i < values.size(); ++i)
    array.values[i] = roundTo(dtype, values[i]);
  return array;
}

Array scalar(DType dtype, double value) {
  return arrayOf(dtype, {}, {value});
}

Tolerance defaultTolerance(DType dtype) {
  switch (dtype) {
  case DType::F32:
    return {2e-6, 2e-6};
  case DType::BF16:
    return {1.0 / 256, 4e-6}; // half a unit in the last place is at most 2^-8 of the value
  case DType::I32:
    break;
  }
  return {0, 0};
}

void expectConforms(const Call &call, const Reference &reference, const Options &options) {
  const Signature *signature = findSignature(call.kernel);
  ASSERT_NE(signature, nullptr) << call.kernel;
  SCOPED_TRACE(std::string("kernel ") + std::string(call.kernel));
  int count = static_cast<int>(call.operands.size());
  auto spec = [&](int i) { return signature->operands[specOfOperand(*signature, i, count)]; };

  std::vector<std::vector<std::byte>> first;
  for (int threads : options.threads) {
    SCOPED_TRACE(std::to_string(threads) + " threads");
    std::unique_ptr<Backend> backend = makeBackend(threads);
    Execution execution(*backend, call);
    for (int repeat = 0; repeat < (hasOverlay(*signature) ? 3 : 2); ++repeat) {
      auto results = execution.run(repeat == 0 ? 0xff : 0x41, repeat == 2);
      if (first.empty())
        first = results;
      for (int i = 0; i < count; ++i)
        if (spec(i).role != Role::In) {
          EXPECT_TRUE(results[i] == first[i])
              << operandName(*signature, i, count) << " has other bits"
              << (repeat == 2 ? " where it overlays its input" : "");
        }
    }
  }

  std::vector<Array> want = call.operands;
  for (int i = 0; i < count; ++i)
    if (spec(i).role == Role::Out)
      std::fill(want[i].values.begin(), want[i].values.end(), 0.0);
  reference(want);
  for (int i = 0; i < count; ++i) {
    if (spec(i).role == Role::In)
      continue;
    Array got = call.operands[i];
    decode(first[i], got);
    expectNear(got, want[i], options.tolerance.value_or(defaultTolerance(got.dtype)),
               operandName(*signature, i, count));
  }
}

std::vector<Array> runOnce(const Call &call, int threads) {
  std::unique_ptr<Backend> backend = makeBackend(threads);
  auto results = Execution(*backend, call).run(0xff, false);
  std::vector<Array> operands = call.operands;
  for (size_t i = 0; i < operands.size(); ++i)
    decode(results[i], operands[i]);
  return operands;
}

void expectNear(const Array &got, const Array &want, Tolerance tolerance, const std::string &what) {
  ASSERT_EQ(got.dims, want.dims) << what;
  double largest = 0;
  for (double value : want.values)
    largest = std::max(largest, std::abs(value));
  double worstExcess = 0;
  int64_t worst = -1;
  for (int64_t i = 0; i < got.count(); ++i) {
    double a = got.values[i], b = want.values[i];
    if (a == b || (std::isnan(a) && std::isnan(b)))
      continue;
    double allowed = tolerance.relative * std::abs(b) + tolerance.scaled * largest;
    double error = std::abs(a - b);
    double excess = std::isfinite(error) ? error / std::max(allowed, 1e-300)
                                         : std::numeric_limits<double>::infinity();
    if (excess > worstExcess) {
      worstExcess = excess;
      worst = i;
    }
  }
  if (worstExcess > 1)
    ADD_FAILURE() << what << "[" << worst << "] is " << got.values[worst] << ", expected "
                  << want.values[worst] << ": " << worstExcess << " times the tolerance";
}

void expectGradient(Random &random, const std::function<double()> &loss, Array &variable,
                    const Array &gradient, int samples) {
  ASSERT_EQ(variable.dims, gradient.dims);
  if (variable.count() == 0)
    return;
  double largest = 1e-6;
  for (double value : gradient.values)
    largest = std::max(largest, std::abs(value));
  std::uniform_int_distribution<int64_t> pick(0, variable.count() - 1);
  for (int sample = 0; sample < samples; ++sample) {
    int64_t i = pick(random);
    constexpr double kStep = 1e-4;
    double saved = variable.values[i];
    auto lossAt = [&](double offset) {
      variable.values[i] = saved + offset;
      return loss();
    };
    // Fourth order, so that the step can be large enough for float64's rounding.
    double slope =
        (8 * (lossAt(kStep) - lossAt(-kStep)) - (lossAt(2 * kStep) - lossAt(-2 * kStep))) /
        (12 * kStep);
    variable.values[i] = saved;
    EXPECT_NEAR(gradient.values[i], slope, 1e-7 * largest + 1e-9) << "element " << i;
  }
}

double dot(const Array &a, const Array &b) {
  EXPECT_EQ(a.dims, b.dims);
  double sum = 0;
  for (int64_t i = 0; i < a.count(); ++i)
    sum += a.values[i] * b.values[i];
  return sum;
}

} // namespace switchyard::kernels::conformance
