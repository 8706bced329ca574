// Collectives over the memory of GPUs. A group of a communicator (Communicator.h) has them where
// its ranks' tensors are on GPUs:
//
//   communicator.useDevices(createNcclGroups(...))     before its groups are made
//   group->onDevice()->allGather(transfers, stream)
//
// A call only puts work on the stream and returns; a CUDA graph can record it. What holds for
// Group's calls holds for these, with three differences. Nothing is compared between the ranks:
// calls that do not match hang, until the watch ends the job. All groups of a rank share its GPU:
// their calls must be in the same order on all ranks, also across groups, and if they are on
// several streams, these must wait for each other so. Sums are in an order of the backend's own:
// the bits may be other ones than the host's, but are the same in every run.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/RowExchanger.h"

namespace switchyard {

/// One rank's part of a group, on its GPU. `stream` is the native handle (CUDA: the cudaStream_t).
class DeviceGroup {
public:
  virtual ~DeviceGroup() = default;
  DeviceGroup(const DeviceGroup &) = delete;
  DeviceGroup &operator=(const DeviceGroup &) = delete;

  /// As Group's. All transfers of a call are done at once.
  virtual Status allGather(std::span<const Transfer> transfers, void *stream) = 0;
  virtual Status reduceScatter(Reduction reduction, std::span<const Transfer> transfers,
                               void *stream) = 0;
  virtual Status allReduce(Reduction reduction, std::span<const Transfer> transfers,
                           void *stream) = 0;

  /// As Group's; counts and offsets are the host's.
  virtual Status allToAllV(int64_t rowBytes, std::span<const std::byte> send, Rows sendRows,
                           std::span<std::byte> receive, Rows receiveRows,
                           std::optional<kernels::DType> added, void *stream) = 0;

  /// Lets the group's ranks reach `memory`, one allocation of this rank's GPU, as many bytes on all
  /// of them, to exchange rows by counts on the device. Null, on all ranks of the world, where one
  /// of them cannot. Called by all ranks of the world at once.
  virtual Result<std::unique_ptr<RowExchanger>> shareMemory(std::span<std::byte> memory) = 0;

protected:
  DeviceGroup() = default;
};

/// A backend of DeviceGroup.
class DeviceGroups {
public:
  virtual ~DeviceGroups() = default;
  DeviceGroups(const DeviceGroups &) = delete;
  DeviceGroups &operator=(const DeviceGroups &) = delete;

  /// The part of `group` on this thread's current GPU. Called by all ranks of `group.world()`.
  virtual Result<std::unique_ptr<DeviceGroup>> make(Communicator &communicator, Group &group) = 0;

  /// Bytes of GPU memory that the groups took when they were made, as far as it can be seen.
  virtual uint64_t memoryBytes() const = 0;

  /// Ends all groups in good order, on all ranks. No graph that recorded their calls may be left.
  virtual Status finish() = 0;

protected:
  DeviceGroups() = default;
};

} // namespace switchyard
