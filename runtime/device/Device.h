// What an executor needs of the machine that runs a plan: memory, copies, and launches prepared
// ahead. One backend is the CPU (cpu/CpuDevice.h); others implement the same interface and pass the
// same kernel conformance suite.
//
// Pointers are the device's: only copyIn, copyOut and kernels touch what they point to. Calls come
// from one thread. Work may be deferred until synchronize(): that of one stream is done in the
// order of the calls, that of several streams as events say. Calls without a stream are on stream
// 0.
#pragma once

#include "kernels/signatures/Launch.h"
#include "runtime/core/Status.h"
#include "runtime/device/Profiler.h"

#include <functional>
#include <memory>
#include <optional>
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

/// Work that was recorded once, to be run again as a whole.
class PreparedGraph {
public:
  virtual ~PreparedGraph() = default;
};

/// Values on their way from the device to the host, which does not wait for them until it wants
/// them. It must not outlive its device.
class Readback {
public:
  virtual ~Readback() = default;

  /// Bytes that are copied from the device to `at` in bytes().
  struct Piece {
    const void *from = nullptr;
    uint64_t bytes = 0;
    uint64_t at = 0;
  };
  /// Starts to copy `pieces`, as they are behind all work on stream 0 so far. Allocates nothing.
  virtual Status begin(std::span<const Piece> pieces) = 0;
  /// Returns when what was begun last is there.
  virtual Status wait() = 0;
  virtual std::span<const std::byte> bytes() const = 0;
};

/// Times work on stream 0 by the device's own clock. It must not outlive its device.
class Stopwatch {
public:
  virtual ~Stopwatch() = default;

  /// Both are behind all work on stream 0 so far.
  virtual Status start() = 0;
  virtual Status stop() = 0;
  /// Between the last of both; waits for them.
  virtual Result<double> milliseconds() = 0;
};

/// Bytes of a device's memory, by what they are for.
struct MemoryUse {
  uint64_t allocated = 0; // by allocate()
  uint64_t rounding = 0;  // by which the driver gave more
  uint64_t staging = 0;   // for copies from and to the host
  uint64_t libraries = 0; // what libraries took, and the code of kernels
  uint64_t graphs = 0;
  uint64_t communication = 0; // what groups of ranks took; the device does not know of it
  uint64_t context = 0; // what was in use when the device was created; other programs' use too
  uint64_t counted = 0; // what the driver says is in use now

  uint64_t listed() const {
    return allocated + rounding + staging + libraries + graphs + communication + context;
  }
};

class Device {
public:
  virtual ~Device() = default;

  /// What it is sold as, "NVIDIA H200"; "CPU".
  virtual std::string name() const = 0;

  /// Whether calls return before their work is done, so that a step can be started while the one
  /// before still runs.
  virtual bool runsAhead() const { return false; }

  /// Bytes of memory that one plan may take.
  virtual uint64_t memoryBytes() const = 0;

  /// What is in use, of a device that has memory of its own; else nothing.
  virtual Result<std::optional<MemoryUse>> memoryUse() { return std::optional<MemoryUse>(); }

  /// `bytes` of zeroed memory at a multiple of kBufferAlignment. DoesNotFit if there is not that
  /// much.
  virtual Result<DeviceMemory> allocate(uint64_t bytes) = 0;

  /// Host to device, behind what stream 0 does so far. `from` is free again when it returns.
  virtual Status copyIn(void *to, const void *from, uint64_t bytes) = 0;
  /// Device to host. Waits for what was run.
  virtual Status copyOut(void *to, const void *from, uint64_t bytes) = 0;
  /// Device to device, no overlap.
  virtual Status copy(void *to, const void *from, uint64_t bytes, uint32_t stream = 0) = 0;
  virtual Status fillZero(void *to, uint64_t bytes, uint32_t stream = 0) = 0;

  /// Room for `bytes` that are read back.
  virtual Result<std::unique_ptr<Readback>> createReadback(uint64_t bytes) = 0;

  /// Usage if this device has no clock.
  virtual Result<std::unique_ptr<Stopwatch>> createStopwatch() {
    return Status::usage("this device has no clock");
  }

  /// Makes streams and events with numbers below these, where they are not there yet.
  virtual Status reserve(uint32_t streams, uint32_t events) {
    return static_cast<void>(streams), static_cast<void>(events), Status();
  }
  /// Event `event` is behind all that was put on the stream so far.
  virtual Status record(uint32_t event, uint32_t stream) {
    return static_cast<void>(event), static_cast<void>(stream), Status();
  }
  /// What is put on the stream from now on starts only behind `event`, as it was recorded last.
  virtual Status wait(uint32_t event, uint32_t stream) {
    return static_cast<void>(event), static_cast<void>(stream), Status();
  }

  /// Does all work for a launch on `stream` that allocates. The launch matches its signature;
  /// `workspace` has its bound for these extents, at least. Fails if the backend has no such kernel
  /// or cannot run it within that.
  virtual Result<std::unique_ptr<PreparedLaunch>>
  prepare(const kernels::Signature &signature, std::vector<kernels::Tensor> operands,
          std::vector<kernels::AttributeValue> attributes, std::span<std::byte> workspace,
          uint32_t stream = 0) = 0;

  /// Runs a launch that this device prepared. Allocates nothing.
  virtual Status run(const PreparedLaunch &launch) = 0;

  /// Records what `work` does instead of doing it: launches, copies on the device, fills, events;
  /// it leaves no stream but 0 with work that stream 0 does not wait for. Null where the device has
  /// no graphs: then `work` is not called. Fails as `work` does.
  virtual Result<std::unique_ptr<PreparedGraph>> capture(const std::function<Status()> &work) {
    return static_cast<void>(work), std::unique_ptr<PreparedGraph>();
  }
  /// While capture() records: `body`, which does its work on stream 0 and waits for no event, is
  /// recorded once, to be done *trips times in each replay, with *turn = 1, 2, ... Both are i32 on
  /// the device, read and written in stream 0's order. Fails as `body` does.
  virtual Status recordLoop(const int32_t *trips, int32_t *turn,
                            const std::function<Status()> &body) {
    return static_cast<void>(trips), static_cast<void>(turn), static_cast<void>(body),
           Status::failed("this device has no graphs");
  }
  /// Does what was recorded, on stream 0. Allocates nothing.
  virtual Status run(const PreparedGraph &graph) {
    return static_cast<void>(graph), Status::failed("this device has no graphs");
  }

  /// The backend's own handle of a stream (CUDA: the cudaStream_t), for libraries; null if it has
  /// none.
  virtual void *nativeStream(uint32_t stream) {
    return static_cast<void>(stream), static_cast<void *>(nullptr);
  }

  /// Puts on the device what calls have deferred so far, and waits for none of it.
  virtual Status flush() { return {}; }

  /// What notes this device's work. Usage if this program or machine cannot.
  virtual Result<std::unique_ptr<Profiler>> createProfiler() {
    return Status::usage("this device has no profiler");
  }

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
