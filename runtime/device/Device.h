// What an executor needs of the machine that runs a plan: memory, copies, and launches prepared
// ahead. One backend is the CPU (cpu/CpuDevice.h); others implement the same interface and pass the
// same kernel conformance suite.
//
// Pointers are the device's: only copyIn, copyOut and kernels touch what they point to. Calls come
// from one thread. Work may be deferred until synchronize(), in the order of the calls.
#pragma once

#include "kernels/signatures/Launch.h"
#include "runtime/core/Status.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace switchyard {

class Device;

/// Memory of a device, given back when it goes.
class DeviceMemory {
public:
  DeviceMemory() = default;
  DeviceMemory(Device &device, void *data, uint64_t bytes)
      : device_(&device), data_(data), bytes_(bytes) {}
  DeviceMemory(DeviceMemory &&other) noexcept { *this = std::move(other); }
  DeviceMemory &operator=(DeviceMemory &&other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~DeviceMemory();

  std::byte *data() const { return static_cast<std::byte *>(data_); }
  uint64_t bytes() const { return bytes_; }

private:
  Device *device_ = nullptr;
  void *data_ = nullptr;
  uint64_t bytes_ = 0;
};

/// A launch of one kernel with its pointers, extents and attributes, ready to run any number of
/// times.
class PreparedLaunch {
public:
  virtual ~PreparedLaunch() = default;
};

class Device {
public:
  virtual ~Device() = default;

  /// Bytes of memory that one plan may take.
  virtual uint64_t memoryBytes() const = 0;

  /// `bytes` of zeroed memory at a multiple of kBufferAlignment. DoesNotFit if there is not that
  /// much.
  virtual Result<DeviceMemory> allocate(uint64_t bytes) = 0;

  virtual Status copyIn(void *to, const void *from, uint64_t bytes) = 0; // host to device
  virtual Status copyOut(void *to, const void *from,
                         uint64_t bytes) = 0; // device to host, waits for what was run
  virtual Status copy(void *to, const void *from,
                      uint64_t bytes) = 0; // device to device, no overlap
  virtual Status fillZero(void *to, uint64_t bytes) = 0;

  /// Does all work for a launch that allocates. The launch matches its signature; `workspace` has
  /// its bound for these extents, at least. Fails if the backend has no such kernel or cannot run
  /// it within that.
  virtual Result<std::unique_ptr<PreparedLaunch>>
  prepare(const kernels::Signature &signature, std::vector<kernels::Tensor> operands,
          std::vector<kernels::AttributeValue> attributes, std::span<std::byte> workspace) = 0;

  /// Runs a launch that this device prepared. Allocates nothing.
  virtual Status run(const PreparedLaunch &launch) = 0;

  /// Returns when all that was run is done.
  virtual Status synchronize() = 0;

private:
  friend class DeviceMemory;
  virtual void release(void *data, uint64_t bytes) = 0;
};

inline DeviceMemory::~DeviceMemory() {
  if (data_)
    device_->release(data_, bytes_);
}

} // namespace switchyard
