#include "runtime/comm/Reduce.h"

#include "kernels/cpu/BFloat16.h"

#include <algorithm>

namespace switchyard::comm {
namespace {

using kernels::cpu::BFloat16;

/// Elements reduced at a time: the accumulators stay in the first-level cache.
constexpr int64_t kBlock = 1024;

float load(float value) {
  return value;
}
float load(BFloat16 value) {
  return kernels::cpu::toFloat(value);
}
uint32_t load(uint32_t value) {
  return value;
}

void store(float value, float &to) {
  to = value;
}
void store(float value, BFloat16 &to) {
  to = kernels::cpu::fromFloat<BFloat16>(value);
}
void store(uint32_t value, uint32_t &to) {
  to = value;
}

// Integers are summed unsigned: that wraps around where signed overflow is undefined.
template <typename T>
T sum(T a, T b) {
  return a + b;
}
float maximum(float a, float b) {
  return b > a || b != b ? b : a; // a NaN in `a` stays: no comparison with it holds
}
uint32_t maximum(uint32_t a, uint32_t b) {
  return static_cast<int32_t>(b) > static_cast<int32_t>(a) ? b : a;
}

template <typename T, typename Combine>
void reduce(std::span<const void *const> sources, int64_t count, void *destination,
            const Combine &combine) {
  decltype(load(T{})) sums[kBlock];
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    int64_t length = std::min(kBlock, count - begin);
    const T *first = static_cast<const T *>(sources[0]) + begin;
    for (int64_t i = 0; i < length; ++i)
      sums[i] = load(first[i]);
    for (const void *source : sources.subspan(1)) {
      const T *values = static_cast<const T *>(source) + begin;
      for (int64_t i = 0; i < length; ++i)
        sums[i] = combine(sums[i], load(values[i]));
    }
    T *results = static_cast<T *>(destination) + begin;
    for (int64_t i = 0; i < length; ++i)
      store(sums[i], results[i]);
  }
}

template <typename T>
void reduceAs(Reduction reduction, std::span<const void *const> sources, int64_t count,
              void *destination) {
  if (reduction == Reduction::Sum)
    reduce<T>(sources, count, destination, [](auto a, auto b) { return sum(a, b); });
  else
    reduce<T>(sources, count, destination, [](auto a, auto b) { return maximum(a, b); });
}

} // namespace

void reduceInOrder(kernels::DType dtype, Reduction reduction, std::span<const void *const> sources,
                   int64_t count, void *destination) {
  switch (dtype) {
  case kernels::DType::F32:
    return reduceAs<float>(reduction, sources, count, destination);
  case kernels::DType::BF16:
    return reduceAs<BFloat16>(reduction, sources, count, destination);
  case kernels::DType::I32:
    return reduceAs<uint32_t>(reduction, sources, count, destination);
  }
}

} // namespace switchyard::comm
