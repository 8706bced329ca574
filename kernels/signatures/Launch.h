// One call of a kernel: raw pointers, shapes, attribute values, scratch, and the backend's context.
#pragma once

#include "kernels/signatures/Table.h"

#include <cstddef>

namespace switchyard::kernels {

/// A dense, row-major tensor in the device's memory.
struct Tensor {
  void *data = nullptr;
  DType dtype = DType::F32;
  int rank = 0;
  int64_t dims[kMaxRank] = {};

  int64_t count() const {
    int64_t product = 1;
    for (int i = 0; i < rank; ++i)
      product *= dims[i];
    return product;
  }
  int64_t bytes() const { return count() * byteSize(dtype); }
  template <typename T>
  T *as() const {
    return static_cast<T *>(data);
  }
};

/// Operands and attributes stand in the signature's order. `context` is the backend's own: the
/// CPU's cpu::Context, CUDA's stream and handles.
struct Launch {
  std::span<const Tensor> operands;
  std::span<const AttributeValue> attributes;
  std::span<std::byte> workspace;
  void *context = nullptr;
};

} // namespace switchyard::kernels
